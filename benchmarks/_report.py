"""Summaries of the scores of the paper's tables and figures.

Means and deviations of each arm, comparisons of arms, and a page of them in Markdown.
"""

import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch

import skdistill
from skdistill.metrics import compare_scores
from skdistill.utils._files import atomic_path


def summarize(rows, arms):
    """Return mean and deviations of each arm, with the number of runs.

    ``std_networks`` is that of networks that learned from one set, pooled over sets;
    ``std_seeds`` that of the means of sets, NaN for a single one.
    """
    found = []
    for names, part in rows.groupby(arms, sort=False, dropna=False):
        by_seed = part.groupby("seed")["accuracy"]
        found.append(
            {
                **dict(zip(arms, names, strict=True)),
                "mean": by_seed.mean().mean(),
                "std_networks": np.sqrt(by_seed.var(ddof=1).mean()),
                "std_seeds": by_seed.mean().std(ddof=1),
                "n_seeds": part["seed"].nunique(),
                "n_networks": len(part),
                "minutes": part.drop_duplicates("seed")[["distillation_s", "scoring_s"]]
                .sum()
                .sum()
                / 60,
            }
        )
    return pd.DataFrame(found)


def scores_of(rows, **arm):
    """Return the scores of an arm, a row per seed."""
    for name, value in arm.items():
        rows = rows[rows[name].isna() if value is None else rows[name] == value]
    return np.stack(
        [part["accuracy"].to_numpy() for _, part in rows.groupby("seed", sort=True)]
    )


def differences(rows, pairs):
    """Compare pairs of arms, given as (text, arm, other arm, whether paired).

    Distillations with the same seed start from the same real images and follow the
    same teachers: they are pairs.
    """
    found = []
    for text, arm, other, paired in pairs:
        one, two = scores_of(rows, **arm), scores_of(rows, **other)
        result = compare_scores(one, two, paired=paired)
        found.append({"comparison": text, **result._asdict()})
    return pd.DataFrame(found)


def write_report(folder, title, rows, summary, compared, notes, figure, options):
    """Write CSV files, a plot and a Markdown page of everything."""
    folder = Path(folder)
    write_text(folder / "networks.csv", rows.to_csv(index=False))
    write_text(folder / "summary.csv", summary.to_csv(index=False))
    write_text(folder / "differences.csv", compared.to_csv(index=False))
    with atomic_path(folder / "figure.png") as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    shown = summary.copy()
    # Whole numbers beside gaps are floats otherwise.
    whole = shown.select_dtypes("float").columns.difference(["threshold"])
    for name in whole:
        if (shown[name].dropna() % 1 == 0).all():
            shown[name] = shown[name].astype("Int64").astype(object)
    for name in ("mean", "std_networks", "std_seeds"):
        shown[name] = [percent(value) for value in summary[name]]
    shown["minutes"] = [f"{value:.1f}" for value in summary["minutes"]]
    lines = [
        f"# {title}",
        "",
        "Test accuracy in %. Deviations are those of networks that learned from one "
        "set, and of the means of sets made with different seeds.",
        "",
        markdown(shown),
        "",
        "![accuracies](figure.png)",
        "",
        "## Differences",
        "",
        "In points, with 95 % intervals of Student's t, sets as runs. A difference "
        "counts only where its interval excludes zero.",
        "",
        markdown(
            pd.DataFrame(
                {
                    "comparison": compared["comparison"],
                    "difference": [signed(v) for v in compared["difference"]],
                    "interval": [
                        f"{signed(row.low)} to {signed(row.high)}"
                        if np.isfinite(row.low)
                        else "too few sets"
                        for row in compared.itertuples()
                    ],
                    "differs": ["yes" if v else "no" for v in compared["differs"]],
                    "sets": [f"{one}, {two}" for one, two in compared["n_runs"]],
                }
            )
        ),
        "",
        "## How it was made",
        "",
        f"- command: `python {shlex.join(sys.argv)}`",
        *(f"- {note}" for note in notes),
        f"- seeds: {', '.join(map(str, sorted(rows['seed'].unique())))}",
        "- learning rates chosen on validation images: "
        f"{_counts(rows['learning_rate'])}",
        f"- time of all cells: {summary['minutes'].sum():.1f} min of one "
        f"{'GPU' if torch.cuda.is_available() else 'core'}",
        *(f"- {name}: {value}" for name, value in environment(options.device).items()),
        "",
    ]
    write_text(folder / "table.md", "\n".join(lines))
    print("\n".join(lines))


def environment(device) -> dict[str, Any]:
    """Say where and with what something was run."""
    processor = "CPU"
    if torch.cuda.is_available() and device != "cpu":
        processor = torch.cuda.get_device_name()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {processor}",
        "versions": (
            f"skdistill {skdistill.__version__}, Python {platform.python_version()}, "
            f"PyTorch {torch.__version__}, NumPy {np.__version__}, "
            f"scikit-learn {sklearn.__version__}"
        ),
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if "model name" in line).split(": ")[1]
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _counts(values):
    counts = values.value_counts(sort=False).sort_index()
    return ", ".join(f"{value:g} ({count} networks)" for value, count in counts.items())


def percent(value):
    return "-" if pd.isna(value) else f"{100 * value:.1f}"


def signed(value):
    return f"{100 * value:+.1f}"


def markdown(table):
    def row(cells):
        return "| " + " | ".join(cells) + " |"

    body = [
        ["-" if pd.isna(value) else str(value) for value in values]
        for values in table.itertuples(index=False)
    ]
    head = [str(name).replace("_", " ") for name in table.columns]
    return "\n".join([row(head), row(["---"] * len(head)), *map(row, body)])


def write_text(path, text):
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
