"""What other processes run in the tests of the engine: ``part folder rank size``."""

import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from quadratic import (
    QuadraticDistiller,
    at,
    broken,
    make_squares,
    what_is_left,
)

import skdistill.distillation._engine._checkpoint as checkpoint_module

PART, FOLDER, RANK, SIZE = sys.argv[1:]
FOLDER, RANK, SIZE = Path(FOLDER), int(RANK), int(SIZE)
X, Y = make_squares()


def keep(name, events=None, X=X, **changes):
    """Fit, and write what came out of it."""
    parameters = {"n_draws": 2, "stage_length": 7, "labels": "probabilities"}
    distiller = QuadraticDistiller(events=events, **(parameters | changes))
    try:
        content = what_is_left(distiller.fit(X, Y))
    except Exception as error:
        content = {"error": f"{type(error).__name__}: {error}"}
    (FOLDER / f"{name}-{SIZE}-{RANK}.json").write_text(json.dumps(content))


def only(rank, events):
    """Return events of one process."""
    return events if rank == RANK else None


def press_keys(evaluation):
    os.kill(os.getpid(), signal.SIGINT)
    return evaluation


def ranks():
    """What several processes do together; alone, one makes all draws."""
    keep("two")
    keep("three", n_draws=3, optimizer="adam", pixel_size=2)
    of_last = at((3, 11), broken)
    # The second draw of an iteration, which the second process makes.
    keep(
        "broken",
        lambda draw, found: of_last(draw, found) if draw.place == 1 else found,
    )
    keep("part", max_iter=9, checkpoint=FOLDER / f"run-{SIZE}")
    keep("rest", checkpoint=FOLDER / f"run-{SIZE}")
    if SIZE == 1:
        return
    keep("other data", X=X + RANK)
    keep("other parameters", pixel_lr=0.1 + RANK)
    keep("few draws", n_draws=1)
    run = FOLDER / "stopped"
    keep("interrupted", only(1, at(5, KeyboardInterrupt())), checkpoint=run)
    keep("keys", only(0, at(7, press_keys)), checkpoint=run)
    keep("failed", only(1, at(9, MemoryError("too little"))), checkpoint=run)
    keep("resumed", checkpoint=run)
    if RANK == 0:
        (FOLDER / "damaged").mkdir()
        (FOLDER / "damaged" / "state.safetensors").write_bytes(b"nothing")
    dist.barrier()
    keep("damaged", checkpoint=FOLDER / "damaged")


def slow():
    """A fit that takes some seconds and stores each of its iterations."""
    checkpoint_module._SECONDS = 0

    def wait(draw, evaluation):
        (FOLDER / "iteration").write_text(str(draw.iteration))
        time.sleep(0.003)
        return evaluation

    keep("slow", wait, max_iter=200, checkpoint=FOLDER / "run")


if SIZE > 1:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{FOLDER}/store",
        rank=RANK,
        world_size=SIZE,
        timeout=timedelta(seconds=100),
    )
{"ranks": ranks, "slow": slow}[PART]()
if SIZE > 1:
    dist.destroy_process_group()
