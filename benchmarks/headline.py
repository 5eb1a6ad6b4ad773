"""How much accuracy ten core-minutes buy on CIFAR-10 with one image per class.

Each candidate, a distiller with parameters, has the same number of core-seconds on all
training images but those held out, teachers included; a second distiller may start from
the images of a first.  The set is scored by new networks of width 128, with instance
normalization or none, that minimize the cross-entropy by SGD or the squared loss by
Adam.  Network, loss, learning rate and candidates are chosen on the images held out;
the test images score the best candidate with hard labels and the best with soft ones,
once.

    python benchmarks/headline.py --data folder

Each candidate is stored when it is done: a run that was killed is resumed by the same
command, and one with more candidates computes these alone.  Which is best is known when
all are there: more candidates, chosen after a look at the test images, would make their
score too high.
"""

import argparse
import time
from itertools import product
from pathlib import Path

import pandas as pd
from _budget import Budget, need_callbacks
from _data import cifar, readable, scaled
from _methods_scores import ADAM_RATES, evaluated
from _report import environment, write_text
from _runs import own_folder, positive, read_rows, store_settings, whole, write_rows
from methods import train_teachers
from published_stm import PAPER
from threadpoolctl import threadpool_limits

from skdistill import ConvNetClassifier, SyntheticSet, distillation
from skdistill.metrics import evaluate_synthetic
from skdistill.utils._threads import single_threaded_torch

ENDLESS = 10**7
# By loss: the optimizer and its learning rates.
RECIPES = {
    "cross_entropy": ("sgd", (0.003, 0.01, 0.03)),
    "squared": ("adam", ADAM_RATES),
}
OF_ALL_CANDIDATES = ("seconds", "train", "validation", "score_steps", "seed")
CHOSEN = ("loss", "optimizer", "normalization", "learning_rate")
# Teachers of few epochs, whose snapshots are not averages.
SIX_PLAIN = {"buffer__n_teachers": 6, "buffer__average": False}
# Steps, in order: class, parameters, share of the budget.
CANDIDATES = {
    "DM": [("DMDistiller", {"width": 32}, 1.0)],
    "DM, width 128": [("DMDistiller", {"width": 128}, 1.0)],
    "DSA": [("DSADistiller", {"width": 32}, 1.0)],
    "STM": [("STMDistiller", {}, 1.0)],
    "STM, 50 steps, 6 plain teachers": [
        ("STMDistiller", {"n_steps": 50} | SIX_PLAIN, 1.0)
    ],
    "STM, 50 steps, 6 plain teachers, paper's rates": [
        ("STMDistiller", {"n_steps": 50} | SIX_PLAIN | PAPER, 1.0)
    ],
    "STM from DM": [
        ("DMDistiller", {"width": 32}, 0.1),
        ("STMDistiller", {}, 0.9),
    ],
    "BPTT, learned labels": [
        ("BPTTDistiller", {"width": 32, "labels": "learned"}, 1.0)
    ],
    "BPTT, short": [("BPTTDistiller", {"width": 32, "n_steps": 60, "window": 20}, 1.0)],
    "FRePo": [("FRePoDistiller", {"width": 64}, 1.0)],
    "FRePo, no normalization": [
        ("FRePoDistiller", {"width": 64, "normalization": "none"}, 1.0)
    ],
    "FRePo, hard labels": [("FRePoDistiller", {"width": 64, "labels": "hard"}, 1.0)],
    "RFAD": [("RFADDistiller", {"width": 64}, 1.0)],
    "RFAD, hard labels": [("RFADDistiller", {"width": 64, "labels": "hard"}, 1.0)],
}


def distill(steps, split, seconds, seed):
    """Return the set of a candidate, and the core-seconds it took."""
    begin = time.process_time()
    images = None
    for kind, parameters, share in steps:
        end = time.process_time() + share * seconds
        parameters = parameters | {"ipc": 1, "device": "cpu", "random_state": seed}
        if images is not None:
            parameters["init"] = images
        if kind == "STMDistiller":
            settings = {
                name.removeprefix("buffer__"): parameters.pop(name)
                for name in list(parameters)
                if name.startswith("buffer__")
            }
            parameters["buffer"], _ = train_teachers(
                split, share * seconds / 2, 32, seed, None, **settings
            )
        else:
            parameters["max_iter"] = ENDLESS
        distiller = getattr(distillation, kind)(**parameters)
        distiller.set_callbacks(Budget(end - time.process_time()))
        synthetic = distiller.fit(split.X, split.y).synthetic_
        if distiller.stop_reason_ == "interrupted":
            raise KeyboardInterrupt
        images = synthetic.X
    return synthetic, time.process_time() - begin, distiller.n_iter_


def on_held_out(synthetic, split, options):
    """Choose how networks learn from a set; return that, and its score."""
    n_rates = options.validation
    part = split._replace(
        X_validation=split.X_validation[:n_rates],
        y_validation=split.y_validation[:n_rates],
        X_test=split.X_validation[n_rates:],
        y_test=split.y_validation[n_rates:],
    )
    # Cross-entropy has no use for regression targets.
    names = ["squared"] if synthetic.targets is not None else list(RECIPES)
    settings = Settings(options, n_networks=2)
    found = []
    for name, normalization in product(names, ("instance", "none")):
        optimizer, rates = RECIPES[name]
        estimator = ConvNetClassifier(
            width=128,
            max_iter=options.score_steps,
            loss=name,
            optimizer=optimizer,
            normalization=normalization,
            device="cpu",
        )
        grid = {"learning_rate": list(rates)}
        score = evaluated(synthetic, part, settings.cell, settings, estimator, grid)
        found.append((score.mean, estimator.set_params(**score.parameters)))
    return max(found, key=lambda pair: pair[0])


def on_test(synthetic, split, estimator, options):
    """Score the set by new networks that learn from it as chosen before."""
    return evaluate_synthetic(
        synthetic,
        split.X_test,
        split.y_test,
        estimator=estimator,
        n_repeats=options.networks,
        random_state=options.seed + 1,
    )


class Settings:
    """What the scores of methods.py ask for."""

    def __init__(self, options, n_networks):
        self.networks = n_networks
        self.validation_networks = 1
        self.cell = {"seed": options.seed}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "headline"
    )
    parser.add_argument(
        "--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES)
    )
    parser.add_argument("--seconds", type=positive, default=600)
    parser.add_argument("--train", type=whole(), help="images; default all")
    parser.add_argument(
        "--validation", type=whole(), default=1000, help="images to choose rates"
    )
    parser.add_argument("--score-steps", type=whole(), default=300)
    parser.add_argument("--networks", type=whole(), default=5, help="of the best")
    parser.add_argument("--seed", type=whole(0), default=0)
    options = parser.parse_args()
    need_callbacks()
    with readable(options.data):
        parts = cifar(options.data, n_train=options.train, share=0.1)
        split = scaled(parts, whiten=True)
    if options.validation >= len(split.y_validation):
        raise SystemExit(
            f"--validation: {options.validation} of the {len(split.y_validation)} "
            "images held out leave none on which a candidate is chosen"
        )
    with own_folder(options.out, "--out"):
        store_settings(
            options.out, {name: getattr(options, name) for name in OF_ALL_CANDIDATES}
        )
        with single_threaded_torch(), threadpool_limits(1):
            found = compare(split, options)
    write_text(options.out / "headline.csv", found.to_csv(index=False))


def compare(split, options):
    """Compute the candidates that are missing, and score the best; return a table."""
    table = options.out / "candidates.csv"
    rows = read_rows(table)
    for name in options.candidates:
        if any(row["candidate"] == name for row in rows):
            continue
        synthetic, took, n_iter = distill(
            CANDIDATES[name], split, options.seconds, options.seed
        )
        synthetic.save(options.out / f"{name}.safetensors")
        validation, estimator = on_held_out(synthetic, split, options)
        is_hard = synthetic.targets is None and synthetic.probabilities is None
        rows.append(
            {
                "candidate": name,
                "labels": "hard" if is_hard else "soft",
                "validation": 100 * validation,
                **{key: getattr(estimator, key) for key in CHOSEN},
                "core_seconds": took,
                "iterations": n_iter,
                **environment("cpu"),
            }
        )
        print(rows[-1], flush=True)
        write_rows(table, rows)
    found = pd.DataFrame(rows).sort_values("validation", ascending=False)
    best = found.groupby("labels", sort=False).head(1)
    for row in best.itertuples():
        synthetic = SyntheticSet.load(options.out / f"{row.candidate}.safetensors")
        estimator = ConvNetClassifier(
            width=128,
            max_iter=options.score_steps,
            device="cpu",
            **{key: getattr(row, key) for key in CHOSEN},
        )
        score = on_test(synthetic, split, estimator, options)
        test = f"{100 * score.mean:.1f} ± {100 * score.std:.1f}"
        found.loc[row.Index, "test images"] = test
        print(f"{row.candidate}, {row.labels} labels: {test}", flush=True)
    found["networks"] = [
        f"{row.normalization.replace('none', 'no')} normalization, "
        f"{row.loss.replace('_', '-')}, "
        f"{row.optimizer.replace('sgd', 'SGD').replace('adam', 'Adam')}"
        for row in found.itertuples()
    ]
    found["validation"] = found["validation"].round(1)
    found = found.rename(columns={"validation": "held-out images"})
    columns = ["candidate", "labels", "iterations", "networks", "held-out images"]
    return found[[*columns, "test images"]].fillna("")


if __name__ == "__main__":
    main()
