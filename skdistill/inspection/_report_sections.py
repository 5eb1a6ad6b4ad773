"""The sections of the report, each as HTML."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from skdistill._version import __version__
from skdistill.inspection import _html
from skdistill.inspection._confusion import TreeConfusionDisplay, fit_text
from skdistill.inspection._grid import new_axes
from skdistill.inspection._matching import MatchingDisplay
from skdistill.inspection._measure_labels import MeasureLabel
from skdistill.inspection._measures import MorphologyMeasures
from skdistill.inspection._measures_display import MeasuresDisplay
from skdistill.inspection._plotting import plain_text
from skdistill.inspection._report_networks import Baseline
from skdistill.inspection._tree import TreeDisplay
from skdistill.inspection._tree_layout import grow
from skdistill.synthetic import SyntheticSet
from skdistill.utils._figures import some_of_each
from skdistill.utils._stretch import Stretch

_PACKAGES = ("numpy", "scipy", "pandas", "scikit-learn", "torch", "matplotlib")
# Maximum number of distilled images, and of the pixels of their sides.
_MAX_SHOWN, _MAX_SIDE = 100, 128


def introduction(
    inner: Any,
    synthetic: SyntheticSet,
    n_test: int,
    accuracies: np.ndarray,
    baseline: Baseline,
) -> str:
    _, height, width, channels = synthetic.X.shape
    n_classes = len(np.unique(synthetic.y))
    pairs = [
        ("distiller", type(inner).__name__),
        ("images", f"{len(synthetic)} of {height} × {width} × {channels}"),
        ("classes", n_classes),
        ("accuracy on real images", _spread(accuracies)),
    ]
    if baseline.accuracies is not None:
        pairs.append(("with random real images", _spread(baseline.accuracies)))
    if hasattr(inner, "n_epochs_matched_"):
        pairs.append(("matched epochs (T)", inner.n_epochs_matched_))
    if hasattr(inner, "n_iter_"):
        pairs.append(("iterations", inner.n_iter_))
    if synthetic.step_size is not None:
        pairs.append(("learned step size", f"{synthetic.step_size:.3g}"))
    if hasattr(inner, "stop_reason_"):
        pairs.append(("ended by", inner.stop_reason_))
    text = (
        f"{len(synthetic)} synthetic images replace a whole training set of "
        f"{n_classes} classes. Networks trained only on them were tested on {n_test} "
        "real images."
    )
    return f"<p>{escape(text)}</p>{_html.facts(pairs)}"


def images_section(
    pixels: np.ndarray,
    synthetic: SyntheticSet,
    classes: np.ndarray,
    names: list[str],
    look: Stretch,
) -> str:
    # A page of all images of a large set would be too large for a browser.
    shown = some_of_each(synthetic.y, _MAX_SHOWN)
    step = -(-max(pixels.shape[1:3]) // _MAX_SIDE)
    colored = dict(
        zip(shown.tolist(), look(pixels[shown][:, ::step, ::step]), strict=True)
    )
    figures = []
    for label, name in zip(classes, names, strict=True):
        members = np.flatnonzero(synthetic.y == label)
        for number, member in enumerate(members, start=1):
            if member not in colored:
                continue
            which = name if len(members) == 1 else f"{name}, {number}"
            figures.append((colored[member], f"Distilled image: {which}", which))
    text = f"All images on this page have the same stretch: {look.note}."
    if len(shown) < len(pixels):
        text += f" {len(shown)} of {len(pixels):,} are shown, the first of each class."
    if step > 1:
        text += f" They are shown with one in {step} pixels along each side."
    return _html.note(text) + _html.small_figures(figures)


def tree_section(
    synthetic: SyntheticSet,
    pixels: np.ndarray,
    real: np.ndarray,
    y_test: np.ndarray,
    tree: Any,
    look: Stretch,
) -> str:
    display = TreeDisplay._of_groups(
        [("real", real, y_test), ("distilled", pixels, synthetic.y)], tree, look
    ).plot()
    leaves = ", ".join(leaf.leaf for leaf in grow(tree).leaves())
    return _html.plot(
        display.figure_,
        f"Decision tree whose leaves are, from left to right: {leaves}. Below each "
        "leaf are a real test image and a distilled image.",
        "The decision tree, with the first test image of each class and the first "
        "distilled image.",
        wide=True,
    )


def story_section(inner: Any) -> str:
    display = MatchingDisplay.from_estimator(inner)
    history = inner.history_
    first, last = (
        history["loss"].iloc[part].mean() for part in (slice(10), slice(-10, None))
    )
    markup = _html.plot(
        display.figure_,
        "Curves by iteration: the matching loss falls from about "
        f"{first:.2f} to {last:.2f}; below it the number of matched epochs and the "
        "step size.",
        "A loss of 1 is that of a student that does not move. Dotted lines mark "
        "expansions of the epoch pool of the teachers.",
    )
    stages = getattr(inner, "stages_", None)
    if stages is None:
        return markup
    columns = ["n_epochs_matched", "first_iteration", "n_iter", "reason"]
    kept = [name for name in columns if name in stages]
    rows = [
        [number, *row]
        for number, row in enumerate(stages[kept].itertuples(index=False), start=1)
    ]
    head = ["stage", *(name.replace("_", " ") for name in kept)]
    return markup + _html.table(head, rows, "Stages")


def scores_section(
    accuracies: np.ndarray,
    predictions: list[np.ndarray],
    y_test: np.ndarray,
    classes: np.ndarray,
    names: list[str],
    baseline: Baseline,
) -> str:
    rows = []
    for label, name in zip(classes, names, strict=True):
        members = y_test == label
        if members.any():
            recalls = np.array([(p[members] == label).mean() for p in predictions])
            rows.append([name, int(members.sum()), _spread(recalls)])
    chance = f"{1 / len(classes):.3f}"
    text = (
        f"Accuracy {_spread(accuracies)} (mean ± standard deviation of "
        f"{len(accuracies)} networks); chance level is {chance}."
    )
    if baseline.accuracies is None:
        text += f" {baseline.said}."
    else:
        text += (
            f" The same number of random real images per class, {baseline.said}, "
            f"gives {_spread(baseline.accuracies)}, with different images for each of "
            f"{len(baseline.accuracies)} networks."
        )
    head = ["class", "test images", "found"]
    caption = "Share of the test images of each class that are classified correctly"
    return f"<p>{escape(text)}</p>" + _html.table(head, rows, caption, numbers=2)


def confusion_section(
    predictions: list[np.ndarray],
    y_test: np.ndarray,
    names: list[str],
    classes: np.ndarray,
    tree: Any,
    kind: str,
) -> str:
    truth = np.tile(y_test, len(predictions))
    predicted = np.concatenate(predictions)
    if tree is not None:
        display = TreeConfusionDisplay.from_predictions(
            truth, predicted, tree=tree, truth=kind
        )
    else:
        matrix = confusion_matrix(truth, predicted, labels=classes, normalize="true")
        size = 2.5 + 0.55 * len(classes)
        display = ConfusionMatrixDisplay(matrix, display_labels=names).plot(
            cmap="Blues",
            values_format=".2f",
            colorbar=False,
            xticks_rotation=45,
            ax=new_axes(None, size, size),
        )
        display.ax_.set_ylabel(f"{kind.capitalize()} label")
        fit_text(display.ax_, display.text_, len(classes))
        plain_text(display.ax_)
    matrix = display.confusion_matrix.copy()
    np.fill_diagonal(matrix, -1)
    row, column = np.unravel_index(matrix.argmax(), matrix.shape)
    labels = list(display.display_labels)
    alternative = (
        f"Confusion matrix, a row for each {kind} class in shares. Most often "
        f"confused: {labels[row]} is classified as {labels[column]} in "
        f"{matrix[row, column]:.0%} of the cases."
    )
    order = " in the order of the tree" if tree is not None else ""
    return _html.plot(
        display.figure_,
        alternative,
        f"Confusion matrix{order} of {len(predictions)} networks.",
        wide=len(classes) > 5,
    )


def measurements_section(
    pixels: np.ndarray,
    labels: np.ndarray,
    real: np.ndarray,
    y_test: np.ndarray,
    classes: np.ndarray,
    names: list[str],
    band_names: Sequence[str] | None,
    random_state: Any,
) -> str:
    present = np.isin(classes, np.unique(y_test))
    display = MeasuresDisplay.from_data(
        real,
        y_test,
        pixels,
        labels,
        transformer=MorphologyMeasures(band_names=band_names),
        classes=classes[present],
        class_names=[name for name, kept in zip(names, present, strict=True) if kept],
        random_state=random_state,
    )
    table = display.table
    far = table.loc[table["z"].abs().sort_values(ascending=False).index]
    far = far[far["z"].notna()].head(12)
    name_of = dict(zip(classes.tolist(), names, strict=True))
    called = {key: MeasureLabel(*row) for key, row in (display.labels or {}).items()}
    rows = [
        [
            f"{name_of[row['class']]}, {row['image'] + 1}",
            called[row["measure"]].name(),
            f"{row['value']:.3f}",
            f"{row['real_mean']:.3f}",
            f"{row['z']:+.1f} ({row['z_low']:+.1f} to {row['z_high']:+.1f})",
            f"{row['percentile']:.0f}",
        ]
        for _, row in far.iterrows()
    ]
    text = (
        "Boxes show the real test images, from the first to the third quartile, with "
        "whiskers from the 5th to the 95th percentile; diamonds show the distilled "
        "images, with a line for the interval of z. z is the number of standard "
        "deviations of the real images of its class by which an image is above their "
        "mean, with a 95 % interval for the sampling of the real images. Noise in "
        "distilled images changes most measures: a large z means that an image does "
        "not look like a galaxy, not which features the network uses."
    )
    head = ["image", "measure", "value", "real mean", "z (95 %)", "percentile"]
    caption = "Largest differences between distilled and real images of a class"
    return (
        _html.note(text)
        + _html.plot(
            display.figure_,
            "Box plots of each measure by class for real images, with a mark for the "
            "distilled image of the class; the extremes are in the table below.",
            "Measures of morphology, real and distilled.",
            wide=True,
        )
        + _html.table(head, rows, caption, numbers=4)
    )


def versions_section() -> str:
    rows = [["skdistill", __version__], ["Python", platform.python_version()]]
    for name in _PACKAGES:
        try:
            rows.append([name, version(name)])
        except PackageNotFoundError:
            rows.append([name, "unknown"])
    rows.append(["system", platform.platform()])
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return _html.table(["what", "version"], rows, "Versions") + _html.note(
        f"Written on {now}."
    )


def _spread(values: np.ndarray) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{values.mean():.3f} ± {values.std():.3f}"
