"""A report: everything about a distillation on one page."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, confusion_matrix
from sklearn.utils._param_validation import HasMethods, Interval, validate_params

from skdistill._version import __version__
from skdistill.curation import GalaxyZooCurator
from skdistill.inspection import _html
from skdistill.inspection._confusion import TreeConfusionDisplay, fit_text
from skdistill.inspection._grid import new_axes
from skdistill.inspection._matching import MatchingDisplay
from skdistill.inspection._measure_labels import MeasureLabel
from skdistill.inspection._measures import MorphologyMeasures
from skdistill.inspection._measures_display import MeasuresDisplay
from skdistill.inspection._plotting import (
    check_matplotlib,
    check_names,
    distilled_by,
    find_look,
    plain_text,
    real_images,
    to_pixels,
)
from skdistill.inspection._tree import TreeDisplay
from skdistill.inspection._tree_layout import grow, leaf_positions, tree_of
from skdistill.synthetic import SyntheticSet
from skdistill.utils._figures import some_of_each
from skdistill.utils._files import as_path, atomic_path, check_writable
from skdistill.utils._labels import already_checked, check_known_labels
from skdistill.utils._stretch import Stretch
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import image_array

_PACKAGES = ("numpy", "scipy", "pandas", "scikit-learn", "torch", "matplotlib")
# So many distilled images are shown, with sides of so many pixels.
_MAX_SHOWN, _MAX_SIDE = 100, 128
# A measure of smaller images says nothing.
_SMALLEST = 8


@validate_params(
    {
        "distiller": [HasMethods(["fit"])],
        "X_test": ["array-like"],
        "y_test": ["array-like"],
        "path": [str, os.PathLike],
        "preprocessing": [HasMethods(["inverse_transform"]), None],
        "tree": "no_validation",
        "class_names": ["array-like", None],
        "estimator": [HasMethods(["fit", "predict"]), None],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "title": [str],
        "value_range": ["array-like", None],
        "composite": ["array-like", None],
        "band_names": ["array-like", str, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
@with_own_torch_state
def report(
    distiller: Any,
    X_test: Any,
    y_test: Any,
    path: str | os.PathLike[str],
    *,
    preprocessing: Any = None,
    tree: Any = None,
    class_names: Sequence[str] | None = None,
    estimator: Any = None,
    n_repeats: int = 3,
    title: str = "Distilled images",
    value_range: tuple[float, float] | None = None,
    composite: ArrayLike | None = None,
    band_names: Sequence[str] | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> Path:
    """Write a page about a distillation: one HTML file that needs nothing else.

    The page has the images, the decision tree with images at its leaves, the story of
    the matching, scores, a confusion matrix, measurements, all parameters and the
    versions of what was used.  It can be read without a network, and on a phone.

    Parameters
    ----------
    distiller : estimator instance
        A fitted distiller, a :class:`~skdistill.distillation.DistilledClassifier` or a
        pipeline that ends with one.
    X_test : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels)
        Real images that no part of the distillation has seen, as the distiller takes
        them.
    y_test : array-like of shape (n_samples,)
        Their labels.
    path : path-like
        The file.  One that is there already is replaced, and only by a whole page.
    preprocessing : transformer, default=None
        What the real images were transformed by, fitted and with
        ``inverse_transform``; not for a pipeline, which has it inside.
    tree : {"nine", "gz2"}, dict, GalaxyZooCurator or False, default=None
        The decision tree, as for :class:`~skdistill.inspection.TreeDisplay`.  None
        takes that of Galaxy Zoo 2 if the labels are its classes, and leaves the tree
        out if not; False leaves it out.
    class_names : sequence of str, default=None
        Names of the sorted labels; None takes those of the tree, or the labels.
    estimator : classifier, default=None
        What is trained on the distilled images for the scores; None takes the
        distiller's ``estimator``, or its default.
    n_repeats : int, default=3
        Number of networks that are trained.
    title : str, default="Distilled images"
        The heading.
    value_range : tuple (low, high), default=None
        The pixel values that become black and white; None takes what fits the images,
        as in :meth:`~skdistill.SyntheticSet.to_images`.
    composite : array-like of shape (3,) or (3, channels), default=None
        How channels become red, green and blue, as in
        :meth:`~skdistill.SyntheticSet.to_images`.
    band_names : sequence of str, default=None
        Names of the channels, such as ``"ugriz"``, by which composites go from red to
        blue and colors are named.
    random_state : int, RandomState instance or None, default=None
        Decides on the networks.
    verbose : int, default=0
        Shows a progress bar over the networks if positive.

    Returns
    -------
    path : Path
        The file.

    Examples
    --------
    >>> import tempfile
    >>> from skdistill import (
    ...     ConvNetClassifier, STMDistiller, TrajectoryBuffer, make_galaxies)
    >>> from skdistill.inspection import report
    >>> X, y = make_galaxies(45, size=16, random_state=0)
    >>> teachers = TrajectoryBuffer(n_teachers=1, n_epochs=2, width=4)
    >>> distiller = STMDistiller(buffer=teachers, n_steps=2, max_total_iter=3,
    ...     estimator=ConvNetClassifier(width=4, max_iter=5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(distiller.fit(X[:27], y[:27]), X[27:], y[27:],
    ...                   f"{folder}/report.html")
    ...     page.stat().st_size > 10_000
    True
    """
    check_matplotlib("report")
    path = as_path(path)
    # Before the networks are trained.
    if path.is_dir():
        raise ValueError(f"`path` must be that of a file; {path} is a folder")
    check_writable(path.parent, "path")
    synthetic, preprocessing = distilled_by(distiller, preprocessing)
    classes = np.unique(synthetic.y)
    y_test = check_known_labels(y_test, classes, name="y_test", every=True)
    with already_checked():  # by the evaluation below
        real = real_images(X_test, distiller, synthetic.X.shape[1:], preprocessing)
    if y_test.shape != real.shape[:1] or not len(real):
        raise ValueError(
            "`X_test` and `y_test` must be of one length, at least 1; got "
            f"{len(real)} images and labels of shape {y_test.shape}"
        )
    truth = "voted" if isinstance(tree, GalaxyZooCurator) else "true"
    tree = None if tree is False else _tree(tree, classes)
    names = _names(class_names, classes, tree)
    inner = _innermost(distiller)
    pixels = to_pixels(synthetic.X, preprocessing)
    look = find_look(
        synthetic.X,
        preprocessing,
        value_range=value_range,
        composite=composite,
        band_names=band_names,
    )

    predictions, accuracies = _train(
        distiller,
        synthetic,
        X_test,
        y_test,
        estimator,
        n_repeats,
        random_state,
        verbose,
    )
    sections = [
        (
            "images",
            "Images",
            _images(pixels, synthetic, classes, names, look),
        )
    ]
    if tree is not None:
        sections.append(
            (
                "tree",
                "Tree",
                _tree_section(synthetic, pixels, real, y_test, tree, look),
            )
        )
    if hasattr(inner, "history_"):
        sections.append(("story", "Story of the matching", _story(inner)))
    sections += [
        ("scores", "Scores", _scores(accuracies, predictions, y_test, classes, names)),
        (
            "confusion",
            "Confusion",
            _confusion(predictions, y_test, names, classes, tree, truth),
        ),
    ]
    if min(real.shape[1:3]) >= _SMALLEST:
        sections.append(
            (
                "measurements",
                "Measurements",
                _measurements(
                    pixels,
                    synthetic.y,
                    real,
                    y_test,
                    classes,
                    names,
                    band_names,
                    random_state,
                ),
            )
        )
    sections += [
        ("parameters", "Parameters", _parameters(distiller)),
        ("versions", "Versions", _versions()),
    ]
    intro = _intro(inner, synthetic, len(real), accuracies)
    with atomic_path(path) as temporary:
        temporary.write_text(_html.page(title, intro, sections), encoding="utf-8")
    return path


def _innermost(distiller: Any) -> Any:
    last = getattr(distiller, "steps", [(None, distiller)])[-1][1]
    return getattr(last, "distiller_", last)


def _tree(tree: Any, classes: np.ndarray) -> Any:
    """Return a tree whose leaves the classes are, None if they are not."""
    found = tree_of(tree)
    try:
        leaves = leaf_positions(classes, list(found.leaves))
    except ValueError:
        if tree is None:
            return None
        raise
    # Numbers of classes are only leaves of the tree nobody named if all are there.
    if tree is None and classes.dtype.kind in "iu" and len(leaves) != len(found.leaves):
        return None
    return found


def _names(class_names: Any, classes: np.ndarray, tree: Any) -> list[str]:
    if class_names is None and tree is not None:
        leaves = list(tree.leaves)
        return [leaves[place] for place in leaf_positions(classes, leaves)]
    return check_names(class_names, classes.tolist())


def _train(
    distiller: Any,
    synthetic: SyntheticSet,
    X_test: Any,
    y_test: np.ndarray,
    estimator: Any,
    n_repeats: int,
    random_state: Any,
    verbose: int,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Train networks on the distilled images; return their predictions and scores."""
    # Networks and torch are only loaded where they are needed.
    from skdistill.metrics import evaluate_synthetic

    inner = _innermost(distiller)
    if estimator is None:
        estimator = getattr(inner, "estimator", None)
    if estimator is None and hasattr(inner, "_default_estimator"):
        estimator = inner._default_estimator()
    X = image_array(X_test, "X_test", shape=synthetic.X.shape[1:])
    steps = getattr(distiller, "steps", None)
    if steps is not None and len(steps) > 1:
        X = np.asarray(distiller[:-1].transform(X))
    predictions = []

    def score(network: Any, images: Any, labels: Any) -> float:
        predictions.append(network.predict(images))
        return float(accuracy_score(labels, predictions[-1]))

    result = evaluate_synthetic(
        synthetic,
        X.reshape(len(X), *synthetic.X.shape[1:]),
        y_test,
        estimator=estimator,
        scoring=score,
        n_repeats=n_repeats,
        random_state=random_state,
        verbose=verbose,
    )
    return predictions, np.asarray(result.scores)


def _intro(
    inner: Any, synthetic: SyntheticSet, n_test: int, accuracies: np.ndarray
) -> str:
    _, height, width, channels = synthetic.X.shape
    n_classes = len(np.unique(synthetic.y))
    pairs = [
        ("distiller", type(inner).__name__),
        ("images", f"{len(synthetic)} of {height} × {width} × {channels}"),
        ("classes", n_classes),
        ("accuracy on real images", _spread(accuracies)),
    ]
    if hasattr(inner, "n_epochs_matched_"):
        pairs.append(("matched epochs (T)", inner.n_epochs_matched_))
    if hasattr(inner, "n_iter_"):
        pairs.append(("iterations", inner.n_iter_))
    if synthetic.step_size is not None:
        pairs.append(("learned step size", f"{synthetic.step_size:.3g}"))
    if hasattr(inner, "stop_reason_"):
        pairs.append(("ended by", inner.stop_reason_))
    text = (
        f"{len(synthetic)} synthetic images stand for a whole set of {n_classes} "
        f"classes. Networks that saw nothing else were tested on {n_test} real images."
    )
    return f"<p>{escape(text)}</p>{_html.facts(pairs)}"


def _images(
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
    text = f"All images on this page have one stretch: {look.note}."
    if len(shown) < len(pixels):
        text += f" Shown are {len(shown)} of {len(pixels):,}, of each class the first."
    if step > 1:
        text += f" Of their pixels one in {step} is shown along each side."
    return _html.note(text) + _html.small_figures(figures)


def _tree_section(
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
        "Decision tree whose leaves are, from left to right: "
        f"{leaves}. Below each leaf a real image of the test set and a distilled one.",
        "The decision tree, with the first test image of each class and the first "
        "distilled image.",
        wide=True,
    )


def _story(inner: Any) -> str:
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
        "Loss 1 is that of a student that stays where it starts. A dotted line marks "
        "where another epoch of the teachers was taken in.",
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


def _scores(
    accuracies: np.ndarray,
    predictions: list[np.ndarray],
    y_test: np.ndarray,
    classes: np.ndarray,
    names: list[str],
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
        f"{len(accuracies)} networks); guessing would have {chance}."
    )
    head = ["class", "test images", "found"]
    caption = "Share of the test images of each class that are recognised"
    return f"<p>{escape(text)}</p>" + _html.table(head, rows, caption, numbers=2)


def _confusion(
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
        f"confused: {labels[row]} is taken for {labels[column]} in "
        f"{matrix[row, column]:.0%} of the cases."
    )
    order = " in the order of the tree" if tree is not None else ""
    return _html.plot(
        display.figure_,
        alternative,
        f"What is taken for what{order}, by {len(predictions)} networks.",
        wide=len(classes) > 5,
    )


def _measurements(
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
        "Boxes are the real test images, from the first to the third quartile, with "
        "whiskers from the 5th to the 95th percentile; diamonds the distilled ones, "
        "with a line for the interval of z. z says by how "
        "many standard deviations of the real images of its class an image is above "
        "their mean, with a 95 % interval for the choice of these. Noise in distilled "
        "images moves most measures: what is far out is not like a galaxy, which "
        "does not say what the network uses."
    )
    head = ["image", "measure", "value", "real mean", "z (95 %)", "percentile"]
    caption = "Where distilled images are least like the real ones of their class"
    return (
        _html.note(text)
        + _html.plot(
            display.figure_,
            "Box plots of each measure by class for real images, with a mark where the "
            "distilled image of the class is; the extremes are in the table below.",
            "Measures of morphology, real and distilled.",
            wide=True,
        )
        + _html.table(head, rows, caption, numbers=4)
    )


def _parameters(distiller: Any) -> str:
    parameters = distiller.get_params(deep=True)
    rows = [[name, _short(parameters[name])] for name in sorted(parameters)]
    return _html.table(["parameter", "value"], rows, "Parameters of the distiller")


def _short(value: Any) -> str:
    """Write a value, of arrays only the shape."""
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}, {value.dtype}"
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return f"table of shape {value.shape}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 300 else f"{text[:300]} …"


def _versions() -> str:
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
