"""The tables of methods.py: a page with everything, and CSV files for people.

``table.csv`` has a row per method and a column per data set and number of images per
class, ``kernel.csv`` the same of kernel regression; ``differences.csv`` compares each
method with the references; ``transfer.csv`` has the accuracies of other learners, where
there are any.  ``figure.png`` has accuracy over cost, where there are several budgets.
"""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _methods_scores import HARD, NETWORKS, OF_TABLES, PLAIN
from _report import markdown, percent, signed, write_text

from skdistill.metrics import (
    augmentation_robust_score,
    compare_scores,
    label_robust_score,
)

FULL = "FullData"
# What the others are compared with.
BASELINES = ("RandomSubset", "KMeansPrototypes")
REFERENCES = (*BASELINES, "STMDistiller")
NEED_TEACHERS = ("MTTDistiller", "NCFMDistiller", "STMDistiller")
INSIDE, GIVEN, NONE = "inside the budget", "given", "none"


def report(folder, rows):
    """Write the tables of the cells that are there."""
    table = pd.DataFrame(rows)
    # No cell has one where all failed.
    table = table.assign(accuracies=table.get("accuracies"))
    full = table[(table["method"] == FULL) & table["accuracies"].notna()]
    full = full.assign(scored_by=full["protocol"].map(scored_by))
    tables = {"table": wide(table), "differences": wide_differences(table)}
    tables["kernel"] = kernel(table)
    tables["transfer"] = transfer(table, full)
    for name, found in tables.items():
        # A file without a row could not be read.
        if len(found) or name in ("table", "differences"):
            write_text(folder / f"{name}.csv", found.to_csv(index=False))
    draw(folder / "figure.png", table)
    lines = ["# Methods at equal cost", ""]
    for protocol in sorted(table["protocol"].unique(), key=seconds_of):
        of_protocol = table[table["protocol"] == protocol]
        lines += [f"Protocol: {protocol}.", "", *EXPLAINED, ""]
        good = of_protocol[of_protocol["accuracies"].notna()]
        for (name, ipc), part in good.groupby(["data", "ipc"], sort=False):
            title = f"{ipc} per class" if ipc else "all images"
            shown = summary(part, full_of(full, name, protocol))
            lines += [f"## {name}, {title}", "", markdown(shown), ""]
        broken = of_protocol[of_protocol["accuracies"].isna()]
        lines += [
            f"- failed: {row.data}, {row.ipc} per class, seed {row.seed}, "
            f"{row.method}: {row.error}"
            for row in broken.itertuples()
        ]
    lines += ["", "## How it was made", ""]
    for name in ("command", "date", "machine", "versions"):
        lines += [f"- {name}: {value}" for value in table[name].unique()]
    write_text(folder / "table.md", "\n".join([*lines, ""]))


EXPLAINED = [
    "Test accuracy of the ConvNet in %, of classes that differ in size (labeled "
    "galaxies) the mean over classes, with the deviations of networks that learned "
    "from one set and of the means of sets made with different seeds; differences in "
    "points with 95 % intervals of Student's t, sets as runs, bold where the interval "
    "excludes zero, which of equally good methods one in twenty does by chance. kB: "
    "pixels and labels of the set. Kernel: accuracy of kernel regression on the set, "
    "not to be compared with that of networks; in italics where the method distills "
    "for it. "
    "Core-seconds include teachers inside the budget; those that are given have cost "
    "the figure beside it, once for all sets. Other learners are given a class for "
    "each image; LRS and ARS are DD-Ranking's label-robust and augmentation-robust "
    "scores."
]


def summary(part, full):
    """Return a row of text per method, the best first."""
    robust = robust_scores(part, full)
    scored = scores_of(part)
    order = sorted(scored, key=lambda k: -np.mean([s.mean() for s in scored[k][1]]))
    shown = []
    for method, teachers in order:
        arm, found = scored[method, teachers]
        means = np.array([one.mean() for one in found])
        row = {
            "method": title(method, teachers),
            "labels": labels_of(arm),
            "accuracy": percent(means.mean()),
            "networks": percent(
                np.sqrt(np.mean([one.var(ddof=1) for one in found]))
                if len(found[0]) > 1
                else np.nan
            ),
            "sets": percent(means.std(ddof=1) if len(means) > 1 else np.nan),
        }
        for other in REFERENCES:
            key = reference(other)
            row[f"to {title(*key)}"] = (
                difference(means, scored[key][1])
                if key in scored and key != (method, teachers)
                else "-"
            )
        kernel = percent(arm["kernel"].mean()) if "kernel" in arm else "-"
        stored = arm["bytes"].mean() / 1000 if "bytes" in arm else np.nan
        row["kernel"] = f"*{kernel}*" if method.startswith("KIP") else kernel
        for name in (*NETWORKS, *OF_TABLES, PLAIN, HARD):
            if name in part and part[name].notna().any():
                row[name] = percent(arm[name].mean())
        row |= robust.get((method, teachers), {})
        row |= {
            "core s": f"{arm['core_seconds'].mean():.1f}",
            "teachers s": number(arm["teacher_seconds"].mean(), ".1f"),
            "iterations": number(arm["iterations"].mean(), ".0f"),
            "kB": number(stored, ".1f"),
            "n": str(len(means)),
        }
        shown.append(row)
    return pd.DataFrame(shown)


def robust_scores(part, full):
    """Return DD-Ranking's scores of each arm, where their accuracies are there."""
    if PLAIN not in part:
        return {}
    # Cells whose other scores are missing yet have no part in any of the means.
    part = part[part[PLAIN].notna()]
    of_random = part[part["method"] == "RandomSubset"]
    if not len(of_random):
        return {}
    found = {}
    random = mean_of(of_random)
    for arm, cells in part.groupby(["method", "teachers"], sort=False):
        augmented = mean_of(cells)
        scores = {"LRS": np.nan}
        if len(full):
            scores["LRS"] = label_robust_score(
                mean_of(full), augmented, random, synthetic_hard=cells[HARD].mean()
            )
        scores["ARS"] = augmentation_robust_score(
            synthetic_augmented=augmented,
            random_augmented=random,
            synthetic_plain=cells[PLAIN].mean(),
            random_plain=of_random[PLAIN].mean(),
        )
        found[arm] = {name: number(value, ".3f") for name, value in scores.items()}
    return found


def mean_of(cells):
    """Return the mean accuracy of cells."""
    return np.mean(
        [np.mean([float(v) for v in t.split()]) for t in cells["accuracies"]]
    )


def difference(means, other):
    result = compare_scores(means, [one.mean() for one in other])
    if not np.isfinite(result.low):
        return signed(result.difference)
    text = (
        f"{signed(result.difference)} ({signed(result.low)} to {signed(result.high)})"
    )
    return f"**{text}**" if result.differs else text


def number(value, form):
    return "-" if pd.isna(value) else format(value, form)


def title(method, teachers):
    """Return what a method is called in the tables."""
    given = ", teachers given" if teachers == GIVEN else ""
    return method.replace("Distiller", "") + given


def reference(method):
    """Return the arm of a method that others are compared with."""
    return method, INSIDE if method in NEED_TEACHERS else NONE


def scores_of(part):
    """Return cells and scores, an array per seed, of each arm."""
    scored = {}
    for arm, cells in part.groupby(["method", "teachers"], sort=False):
        cells = cells.sort_values("seed")
        found = [np.array(text.split(), float) for text in cells["accuracies"]]
        scored[arm] = cells, found
    return scored


def scored_by(protocol):
    """Return how a protocol scores, which the budget does not change."""
    return protocol.partition(" ")[2]


def full_of(full, data, protocol):
    """Return the cells with all images that a cell's scores are compared with."""
    same = (full["data"] == data) & (full["scored_by"] == scored_by(protocol))
    return full[same]


def labels_of(cells):
    """Return whether networks learn from soft labels."""
    return "hard" if (cells["labels"] == "hard").all() else "soft"


def seconds_of(protocol):
    """Return the budget, which a protocol begins with."""
    return float(protocol.partition(" ")[0])


def protocols(table):
    """Yield the cells that did not fail by protocol, with the shortest name."""
    names = sorted(table["protocol"].unique(), key=seconds_of)
    short = {name: ", ".join(name.split(", ")[:2]) for name in names}
    if len(set(short.values())) < len(names):
        short = {name: name for name in names}
    for name in names:
        found = table["accuracies"].notna() & (table["protocol"] == name)
        if found.any():
            yield short[name], table[found]


def columns(good):
    """Yield the name and the cells of each data set and number of images per class."""
    for data in good["data"].unique():
        of_data = good[good["data"] == data]
        # All images are what every number of them is compared with.
        is_full = of_data["method"] == FULL
        for ipc in sorted(of_data.loc[~is_full, "ipc"].unique()) or [0]:
            part = of_data[is_full | (of_data["ipc"] == ipc)]
            yield f"{data}, {ipc} per class" if ipc else data, part


def first_columns(protocol, cells):
    """Return what the rows of all tables for people begin with."""
    arm = cells["method"].iloc[0], cells["teachers"].iloc[0]
    return {"protocol": protocol, "method": title(*arm), "labels": labels_of(cells)}


def wide(table):
    """Return a row per protocol and method, in the order in which they were run."""
    rows = {}
    for protocol, good in protocols(table):
        for name, part in columns(good):
            for arm, (cells, found) in scores_of(part).items():
                row = rows.setdefault((protocol, *arm), first_columns(protocol, cells))
                means = [one.mean() for one in found]
                # That of sets where there are several, else that of networks.
                spread = means if len(means) > 1 else found[0]
                deviation = np.std(spread, ddof=1) if len(spread) > 1 else np.nan
                kind = "seeds" if len(means) > 1 else "seed"
                row[name] = (
                    f"{percent(np.mean(means))} ± {percent(deviation)} "
                    f"({len(means)} {kind})"
                )
    return pd.DataFrame(list(rows.values()))


def wide_differences(table):
    """Return a row per protocol, method and reference, in points."""
    rows = {}
    for protocol, good in protocols(table):
        for name, part in columns(good):
            scored = scores_of(part)
            for arm, (cells, found) in scored.items():
                for other in map(reference, REFERENCES):
                    if other not in scored or other == arm or arm[0] == FULL:
                        continue
                    means = np.array([one.mean() for one in found])
                    begin = first_columns(protocol, cells) | {"against": title(*other)}
                    row = rows.setdefault((protocol, *arm, *other), begin)
                    row[name] = difference(means, scored[other][1])
    return pd.DataFrame(list(rows.values()))


def kernel(table):
    """Return the accuracies of kernel regression as wide does those of networks."""
    rows = {}
    for protocol, good in protocols(table):
        for name, part in columns(good):
            for arm, (cells, _) in scores_of(part).items():
                values = cells.get("kernel", pd.Series(dtype=float)).dropna()
                if not len(values):
                    continue
                row = rows.setdefault((protocol, *arm), first_columns(protocol, cells))
                spread = f" ± {percent(values.std())}" if len(values) > 1 else ""
                kind = "seeds" if len(values) > 1 else "seed"
                row[name] = f"{percent(values.mean())}{spread} ({len(values)} {kind})"
    return pd.DataFrame(list(rows.values()))


def transfer(table, full):
    """Return a row per set of other learners' accuracies and the robust scores."""
    rows = []
    for protocol, good in protocols(table):
        for (data, ipc), part in good.groupby(["data", "ipc"], sort=False):
            of_full = full_of(full, data, part["protocol"].iloc[0])
            for arm, scores in robust_scores(part, of_full).items():
                is_arm = (part["method"] == arm[0]) & (part["teachers"] == arm[1])
                cells = part[is_arm & part[PLAIN].notna()]
                row = first_columns(protocol, cells)
                row |= {"data": data, "per class": ipc}
                row["ConvNet"] = percent(mean_of(cells))
                others = NETWORKS | OF_TABLES
                for name in (PLAIN, HARD, *others):
                    row[others.get(name, name)] = percent(cells[name].mean())
                rows.append(row | scores)
    return pd.DataFrame(rows)


def draw(path, table):
    """Draw accuracy over cost of what was run at several budgets, and baselines."""
    good = table[table["accuracies"].notna() & (table["method"] != FULL)]
    good = good[good["teachers"] != GIVEN]
    if not len(good):
        return
    budget = good["protocol"].map(seconds_of)
    good = good.assign(
        budget=budget, mean=[100 * mean_of(good.loc[[row]]) for row in good.index]
    )
    panels = []
    # Networks of other widths, or scored otherwise, are no points of the same line.
    how = good["protocol"].map(scored_by)
    for (*name, _), part in good.groupby([good["data"], good["ipc"], how]):
        n_budgets = part.groupby("method")["budget"].transform("nunique")
        drawn = part[part["method"].isin(BASELINES) | (n_budgets > 1)]
        if drawn["budget"].nunique() > 1:
            panels.append((name, drawn))
    if not panels:
        return
    n_columns = 2
    n_rows = -(-len(panels) // n_columns)
    fig, axes = plt.subplots(
        n_rows, n_columns, figsize=(4.4 * n_columns, 3 * n_rows), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    names = sorted({name for _, part in panels for name in part["method"].unique()})
    lines = product(("-", "--"), plt.get_cmap("tab10").colors)
    others = [name for name in names if name not in BASELINES]
    styles = dict(zip(others, lines, strict=False))
    for axis, ((data, ipc), part) in zip(axes.flat, panels, strict=False):
        for name, arm in part.groupby("method", sort=False):
            means = arm.groupby("budget")["mean"].mean()
            label = title(name, NONE)
            if labels_of(arm) == "soft":
                label += " (soft labels)"
            if name in BASELINES:
                # They cost next to nothing, and no budget changes them.
                mean = arm.drop_duplicates("seed")["mean"].mean()
                style = "--" if name == BASELINES[0] else ":"
                axis.axhline(mean, color="0.4", ls=style, label=label)
            elif len(means) > 1:
                line, color = styles[name]
                axis.plot(
                    means.index, means, line, marker="o", ms=4, color=color, label=label
                )
        axis.set(
            xscale="log",
            title=f"{data}, {ipc} per class",
            xlabel="core-seconds",
            ylabel="test accuracy in %",
        )
        budgets = sorted(part["budget"].unique())
        axis.set_xticks(budgets, [f"{value:g}" for value in budgets])
        axis.minorticks_off()
    handles = {}
    for axis in axes.flat[: len(panels)]:
        handles |= {h.get_label(): h for h in axis.get_legend_handles_labels()[0]}
    fig.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=5,
        fontsize="small",
    )
    fig.savefig(path, dpi=150)
    plt.close(fig)
