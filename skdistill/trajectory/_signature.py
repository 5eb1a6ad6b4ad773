"""Which teachers these are, as files of runs that follow them say it."""

import json
from typing import Any

from skdistill.trajectory._buffer import TrajectoryBuffer
from skdistill.trajectory._jobs import teacher_seed
from skdistill.utils._random import child_seed


def teachers_signature(buffer: TrajectoryBuffer) -> dict[str, Any]:
    """Return which teachers a run follows, as JSON can hold it."""
    seed = buffer.seed_
    place = None if buffer._place is None else buffer._place.present()
    seeds = [teacher_seed(number, seed, place) for number in buffer._numbers]
    # After some were dropped, or buffers were merged, they are not the first ones of
    # their seed.
    are_usual = seeds == [child_seed(seed, number) for number in range(len(seeds))]
    return {
        "number of teachers": buffer.n_teachers_,
        "teachers' epochs": buffer.n_epochs_,
        "teachers' settings": json.loads(json.dumps(buffer.settings_.to_plain())),
        "teachers' images (fingerprint)": buffer.fingerprint_,
        "teachers' seed": seed if are_usual else seeds,
    }
