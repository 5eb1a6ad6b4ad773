"""What each of several processes runs in test_ranks.py: ``rank size folder part``.

The outcome of each scenario goes into a file of its own.  Alone, the process makes all
the matches that several processes share.
"""

import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

import skdistill.distillation._objectives._trajectory as matcher_module
from skdistill import (
    BPTTDistiller,
    CAFEDistiller,
    DCDistiller,
    DMDistiller,
    FRePoDistiller,
    MTTDistiller,
    NCFMDistiller,
    RFADDistiller,
    STMDistiller,
    TrajectoryBuffer,
)
from skdistill.utils._distributed import RankError

RANK, SIZE, FOLDER, PART = sys.argv[1:]
RANK, SIZE, FOLDER = int(RANK), int(SIZE), Path(FOLDER)
REAL = matcher_module.match_gradient


def images():
    """Return images of lying bars, standing bars and noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 0.3, (18, 8, 8, 1)).astype(np.float32)
    y = np.arange(18) % 3
    X[y == 0, 3] += 2
    X[y == 1, :, 3] += 2
    return X, y


X, Y = images()


def teachers(**changes):
    settings = {
        "n_teachers": 3,
        "n_epochs": 3,
        "width": 4,
        "depth": 1,
        "learning_rate": 0.05,
        "random_state": 0,
        "device": "cpu",
    }
    return TrajectoryBuffer(**(settings | changes))


def make(kind=STMDistiller, **changes):
    settings = {
        "buffer": FITTED,
        "n_steps": 2,
        "n_matches": 2,
        "step_size": 0.05,
        "random_state": 0,
        "device": "cpu",
    }
    if kind is STMDistiller:
        settings["max_total_iter"] = 8
    return kind(**(settings | changes))


def spoil(change):
    """Make the matches of this process something else, by their number."""
    numbers = iter(range(10**6))

    def spoiled(*args, **kwargs):
        return change(next(numbers), REAL(*args, **kwargs))

    matcher_module.match_gradient = spoiled


def keep(name, distiller, X=X, y=Y):
    """Fit, and write what came out of it."""
    try:
        distiller.fit(X, y)
        synthetic, best = distiller.synthetic_, distiller.best_synthetic_
        content = {
            "X": synthetic.X.tolist(),
            "probabilities": np.asarray(synthetic.probabilities, float).tolist(),
            "targets": np.asarray(synthetic.targets, float).tolist(),
            "best": best.X.tolist(),
            "history": distiller.history_.to_csv(),
            "n_iter": distiller.n_iter_,
            "reason": distiller.stop_reason_,
        }
        if hasattr(distiller, "step_sizes_"):
            content["step_sizes"] = distiller.step_sizes_.tolist()
            content["n_matches"] = distiller.n_matches_
        if hasattr(distiller, "stages_"):
            content["stages"] = distiller.stages_.to_csv()
    except (ValueError, RuntimeError, MemoryError) as error:
        content = {"error": f"{type(error).__name__}: {error}"}
    finally:
        matcher_module.match_gradient = REAL
    (FOLDER / f"{name}-{SIZE}-{RANK}.json").write_text(json.dumps(content))


def results():
    """Scenarios whose outcome is that of one process."""
    keep(
        "stages",
        make(
            n_matches="auto" if SIZE > 1 else 2,
            labels="learned",
            pixel_size=2,
            step_size_per_epoch=True,
            threshold=0.5,
            max_iter=20,
            max_total_iter=70,
        ),
    )
    keep("fine-tuned", make(max_iter=6, max_total_iter=None, n_matches=5))
    keep("three", make(n_matches=3, gradient="detached", pixel_lr=10.0, batch_size=2))
    keep(
        "mtt",
        make(
            MTTDistiller,
            max_start_epoch=2,
            n_target_epochs=1,
            max_iter=8,
            step_size_lr=0.01,
            init="noise",
        ),
    )
    matching = {"max_iter": 5, "n_networks": 3, "batch_size": 4}
    matching |= {"random_state": 0, "device": "cpu"}
    network = {"width": 4, "depth": 1}
    keep("dc", DCDistiller(n_rounds=2, n_network_epochs=2, **matching, **network))
    unrolled = {"n_steps": 4, "window": 2, "max_iter": 5, "n_networks": 3}
    unrolled |= {"labels": "learned", "step_size_lr": 0.01}
    unrolled |= {"random_state": 0, "device": "cpu"}
    keep("bptt", BPTTDistiller(**unrolled, **network))
    keep("dm", DMDistiller(n_steps_per_network=2, **matching, **network))
    keep("ncfm", NCFMDistiller(buffer=FITTED, **matching))
    keep(
        "cafe", CAFEDistiller(max_rounds=3, max_network_epochs=2, **matching, **network)
    )
    regression = {"max_iter": 5, "n_real": 9, "n_networks": 3, "n_draws": 3}
    regression |= {"random_state": 0, "device": "cpu"} | network
    keep("frepo", FRePoDistiller(max_network_steps=2, **regression))
    keep("rfad", RFADDistiller(**regression))
    keep("trained", make(buffer=teachers(random_state=None)))
    path = FOLDER / f"teachers-{SIZE}"
    keep("shared", make(buffer=teachers(random_state=None, path=path)))

    def break_some(number, result):
        # The second match of an iteration, which the second process makes.
        broken = number in ((3, 4) if SIZE > 1 else (7, 9))
        bad = torch.full_like(result.images, np.nan)
        return result._replace(images=bad) if broken else result

    if RANK == SIZE - 1:
        spoil(break_some)
    keep("broken", make(max_total_iter=12))
    keep("whole", make())
    keep("part", make(max_total_iter=3, checkpoint=FOLDER / f"run-{SIZE}"))
    keep("rest", make(checkpoint=FOLDER / f"run-{SIZE}"))


def refusals():
    """Scenarios of several processes that end early, but all of them."""
    other = X + np.float32(RANK)
    keep("other data", make(), other)
    keep("other parameters", make(ipc=1 + RANK))
    keep("other teachers", make(buffer=teachers(random_state=RANK).fit(X, Y)))
    keep("few matches", make(n_matches=1))
    keep("few networks", DMDistiller(n_networks=1, width=2, device="cpu"))
    keep("diverged teachers", make(buffer=teachers(learning_rate=1e30)))

    def interrupt(number, result):
        if number == 5:
            raise KeyboardInterrupt
        return result

    if RANK == 1:
        spoil(interrupt)
    keep("interrupted", make(checkpoint=FOLDER / "interrupted"))
    keep("gone on", make(checkpoint=FOLDER / "interrupted"))

    def press_keys(number, result):
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    if RANK == 0:
        spoil(press_keys)
    keep("keys", make())

    def fail(number, result):
        if number == 5:
            raise MemoryError("too little of it")
        return result

    if RANK == 1:
        spoil(fail)
    keep("failed", make(checkpoint=FOLDER / "failed"))
    keep("gone on after failure", make(checkpoint=FOLDER / "failed"))
    if RANK == 0:
        (FOLDER / "damaged").mkdir()
        (FOLDER / "damaged" / "state.safetensors").write_bytes(b"nothing")
    path = FOLDER / "diverged"
    keep("diverged together", make(buffer=teachers(learning_rate=1e30, path=path)))
    keep("damaged", make(checkpoint=FOLDER / "damaged"))
    killed()


def killed():
    """The last process ends without a word."""

    def end(number, result):
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    if RANK == SIZE - 1:
        spoil(end)
    began = time.monotonic()
    try:
        make(checkpoint=FOLDER / "killed", n_matches=SIZE).fit(X, Y)
    except RankError as error:
        seconds = time.monotonic() - began
        content = {"error": str(error), "seconds": seconds}
        (FOLDER / "killed.json").write_text(json.dumps(content))
        # The group cannot be taken down in order any more.
        os._exit(0)


def on():
    """New processes go on where those ended."""
    keep("on", make(checkpoint=FOLDER / "killed", n_matches=SIZE))


def alone():
    """One process makes the matches of several: of as many as its part says."""
    keep(PART, make(n_matches=int(PART.removeprefix("alone "))))


if SIZE > 1:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{FOLDER}/store-{PART}",
        rank=RANK,
        world_size=SIZE,
        timeout=timedelta(seconds=100),
    )
FITTED = teachers().fit(X, Y)
{"results": results, "refusals": refusals, "killed": killed, "on": on}.get(
    PART, alone
)()
if SIZE > 1:
    dist.destroy_process_group()
