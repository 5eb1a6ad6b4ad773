"""Which teachers these are, as files of runs that follow them say it."""

import json
from typing import Any

from skdistill.trajectory._buffer import TrajectoryBuffer


def teachers_signature(buffer: TrajectoryBuffer) -> dict[str, Any]:
    """Return which teachers a run follows, as JSON can hold it."""
    return {
        "number of teachers": buffer.n_teachers_,
        "teachers' epochs": buffer.n_epochs_,
        "teachers' settings": json.loads(json.dumps(buffer.settings_.to_plain())),
        "teachers' images (fingerprint)": buffer.fingerprint_,
        "teachers' seed": buffer.seed_,
    }
