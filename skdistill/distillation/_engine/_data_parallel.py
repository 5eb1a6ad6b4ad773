"""The mean of an objective over draws, shared out over torch.distributed processes."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from skdistill.distillation._engine._objective import Draw, Evaluation, Objective
from skdistill.distillation._engine._parameters import SyntheticParameters
from skdistill.utils._distributed import RankError, Ranks
from skdistill.utils._workers import map_pieces

# How a process fares in an iteration, as a number that the others are told.
_WELL, _INTERRUPTED, _FAILED = 0.0, 1.0, 2.0


def evaluate_draws(
    objective: Objective,
    synthetic: SyntheticParameters,
    draws: Sequence[Draw],
    ranks: Ranks,
    interrupted: Callable[[], bool],
) -> tuple[dict[str, float], dict[str, float], dict[str, Tensor]]:
    """Evaluate an objective for several draws, each process its share of them.

    Parameters
    ----------
    objective : Objective
    synthetic : SyntheticParameters
    draws : sequence of Draw
        At least one for each process.
    ranks : Ranks
    interrupted : callable
        Tells whether the run shall end here.

    Returns
    -------
    metrics : dict of float
        Averaged over the draws.
    notes : dict of float
        Of the first draw.
    gradients : dict of Tensor
        Averaged over the draws; the same in all processes.
    """
    if ranks.size == 1:
        found = map_pieces(
            lambda draw: objective.evaluate(synthetic, draw), list(draws)
        )
        rows = [_as_floats(_checked(evaluation)) for evaluation in found]
        notes = dict(found[0].notes)
        if len(found) == 1:
            return rows[0], notes, found[0].gradients
        sums = {
            name: torch.zeros_like(gradient)
            for name, gradient in found[0].gradients.items()
        }
        for evaluation in found:
            for name in sums:
                sums[name] += evaluation.gradients[name]
    else:
        rows, notes, sums = [], {}, {}
        for first in range(0, len(draws), ranks.size):
            share = draws[first : first + ranks.size]
            found_rows, found_notes, own = _share(
                objective, synthetic, share, ranks, interrupted
            )
            rows += found_rows[: len(share)]
            notes = notes or found_notes
            if own is None:
                own = {name: torch.zeros_like(total) for name, total in sums.items()}
            for name, gradient in own.items():
                total = sums.get(name, torch.zeros_like(gradient))
                sums[name] = ranks.sums_in_order(total, gradient, len(share))
    gradients = {name: total / len(rows) for name, total in sums.items()}
    return objective.average(rows), notes, gradients


def _share(
    objective: Objective,
    synthetic: SyntheticParameters,
    draws: Sequence[Draw],
    ranks: Ranks,
    interrupted: Callable[[], bool],
) -> tuple[list[dict[str, float]], dict[str, float], dict[str, Tensor] | None]:
    """Evaluate this process's draw of a round; return all numbers and its gradients.

    An error or an interrupt in one process reaches all of them at once.
    """
    state, failure = _WELL, None
    evaluation: Evaluation | None = None
    # In the last round there may be no draw left for this process.
    if ranks.rank < len(draws):
        try:
            evaluation = objective.evaluate(synthetic, draws[ranks.rank])
        except KeyboardInterrupt:
            state = _INTERRUPTED
        except Exception as error:
            state, failure = _FAILED, error
    if interrupted():
        state = _INTERRUPTED
    # Errors before numbers: a process that failed does not know how many there are.
    device = synthetic.images.device
    states = torch.cat(ranks.gather(torch.tensor([state], device=device))).tolist()
    if failure is not None:
        raise failure
    if _FAILED in states:
        raise RankError(
            f"process {states.index(_FAILED)} of {ranks.size} failed, which ended the "
            "fit in all processes; see the error message of that process"
        )
    if _INTERRUPTED in states:
        raise KeyboardInterrupt
    numbers = None
    if evaluation is not None:
        numbers = _as_floats(_checked(evaluation)), dict(evaluation.notes)
    gathered = ranks.gather_objects(numbers)
    rows = [each[0] for each in gathered if each is not None]
    notes = gathered[0][1] if gathered[0] is not None else {}
    return rows, notes, None if evaluation is None else evaluation.gradients


def _checked(evaluation: Evaluation) -> dict[str, Tensor]:
    """Return the metrics, with one more that is finite if all gradients are."""
    # A sum is finite only if all that it adds up is, and needs no other transfer.
    first = next(iter(evaluation.metrics.values()))
    sums = [gradient.sum().to(first) for gradient in evaluation.gradients.values()]
    return {**evaluation.metrics, "checksum": torch.stack(sums).sum()}


def _as_floats(values: Mapping[str, Tensor]) -> dict[str, float]:
    # In one transfer from the device.
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
