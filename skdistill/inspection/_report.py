"""A report: everything about a distillation on one page."""

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import HasMethods, Interval, validate_params

from skdistill.curation import GalaxyZooCurator
from skdistill.inspection import _html
from skdistill.inspection._plotting import (
    check_fitted_columns,
    check_matplotlib,
    check_names,
    distilled_by,
    find_look,
    real_images,
    to_pixels,
)
from skdistill.inspection._report_networks import (
    check_training_images,
    compare_with_random,
    innermost,
    train_networks,
)
from skdistill.inspection._report_origin import (
    loading_section,
    occlusion_section,
    origin_section,
    parameters_section,
)
from skdistill.inspection._report_sections import (
    confusion_section,
    images_section,
    introduction,
    measurements_section,
    scores_section,
    story_section,
    tree_section,
    versions_section,
)
from skdistill.inspection._tree_layout import leaf_positions, tree_of
from skdistill.utils._files import as_path, atomic_path, check_writable
from skdistill.utils._labels import already_checked, check_known_labels
from skdistill.utils._torch_state import with_own_torch_state

# A measure of smaller images says nothing.
_MIN_SIDE = 8


@validate_params(
    {
        "distiller": [HasMethods(["fit"])],
        "X_test": ["array-like"],
        "y_test": ["array-like"],
        "path": [str, os.PathLike],
        "X_train": ["array-like", None],
        "y_train": ["array-like", None],
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
    X_train: Any = None,
    y_train: Any = None,
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
    """Write a report about a distillation, a self-contained HTML file.

    The page contains the images, the decision tree with images at its leaves, the
    progress of the matching, scores compared with those of random real images, a
    confusion matrix, occlusion maps of a network, measurements, the origin of the
    images, instructions to load them, all parameters and the versions of the software.
    It can be read offline and on a phone, and contains no local paths.

    Parameters
    ----------
    distiller : estimator instance
        A fitted distiller, a :class:`~skdistill.distillation.DistilledClassifier` or a
        pipeline that ends with one.
    X_test : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels)
        Real images that were not used in the distillation, as input of the distiller.
    y_test : array-like of shape (n_samples,)
        Their labels.
    path : path-like
        The file.  An existing file is replaced when the page is complete.
    X_train : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels), default=None
        Real images from which random images are drawn, as many of each class as the set
        has: the images that were distilled.  None draws them from the test images, and
        tests on the remaining ones.
    y_train : array-like of shape (n_samples,), default=None
        Their labels.
    preprocessing : transformer, default=None
        The fitted transformer that was applied to the real images, with
        ``inverse_transform``; None for a pipeline, which contains it.
    tree : {"nine", "gz2"}, dict, GalaxyZooCurator or False, default=None
        The decision tree, as for :class:`~skdistill.inspection.TreeDisplay`.  None uses
        that of Galaxy Zoo 2 if the labels are its classes, and omits the tree
        otherwise; False omits it.
    class_names : sequence of str, default=None
        Names of the sorted labels; None uses those of the tree, or the labels.
    estimator : classifier, default=None
        The classifier to train on the distilled images for the scores; None uses the
        distiller's ``estimator``, or its default.
    n_repeats : int, default=3
        Number of networks to train.
    title : str, default="Distilled images"
        The heading.
    value_range : tuple (low, high), default=None
        The pixel values that are shown as black and white; None chooses them from the
        images, as in :meth:`~skdistill.SyntheticSet.to_images`.
    composite : array-like of shape (3,) or (3, channels), default=None
        The conversion of channels to red, green and blue, as in
        :meth:`~skdistill.SyntheticSet.to_images`.
    band_names : sequence of str, default=None
        Names of the channels, such as ``"ugriz"``, which determine their order from red
        to blue in composites and the names of colors.
    random_state : int, RandomState instance or None, default=None
        Controls the networks; pass an int for reproducible results.
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
        raise ValueError(f"`path` must be a file; {path} is a folder")
    check_writable(path.parent, "path")
    synthetic, preprocessing = distilled_by(distiller, preprocessing)
    classes = np.unique(synthetic.y)
    y_test = check_known_labels(y_test, classes, name="y_test", every=True)
    with already_checked():  # by the evaluation below
        real = real_images(
            X_test, distiller, synthetic.X.shape[1:], preprocessing, "X_test"
        )
    if y_test.shape != real.shape[:1] or not len(real):
        raise ValueError(
            "`X_test` and `y_test` must have the same length, at least 1; got "
            f"{len(real)} images and labels of shape {y_test.shape}"
        )
    truth = "voted" if isinstance(tree, GalaxyZooCurator) else "true"
    tree = None if tree is False else _tree(tree, classes)
    names = _names(class_names, classes, tree)
    check_fitted_columns(distiller, X_train, "X_train")
    train = check_training_images(X_train, y_train, synthetic)
    inner = innermost(distiller)
    pixels = to_pixels(synthetic.X, preprocessing)
    look = find_look(
        synthetic.X,
        preprocessing,
        value_range=value_range,
        composite=composite,
        band_names=band_names,
    )

    networks = train_networks(
        distiller,
        synthetic,
        X_test,
        y_test,
        estimator,
        n_repeats=n_repeats,
        random_state=random_state,
        verbose=verbose,
    )
    predictions, accuracies = networks.predictions, networks.accuracies
    baseline = compare_with_random(
        distiller,
        synthetic,
        networks,
        y_test,
        train,
        estimator,
        n_repeats=n_repeats,
        random_state=random_state,
    )
    sections = [
        (
            "images",
            "Images",
            images_section(pixels, synthetic, classes, names, look),
        )
    ]
    if tree is not None:
        sections.append(
            (
                "tree",
                "Tree",
                tree_section(synthetic, pixels, real, y_test, tree, look),
            )
        )
    if hasattr(inner, "history_"):
        sections.append(("story", "Progress of the matching", story_section(inner)))
    sections += [
        (
            "scores",
            "Scores",
            scores_section(accuracies, predictions, y_test, classes, names, baseline),
        ),
        (
            "confusion",
            "Confusion",
            confusion_section(predictions, y_test, names, classes, tree, truth),
        ),
    ]
    if min(real.shape[1:3]) >= _MIN_SIDE:
        if hasattr(networks.first, "predict_proba"):
            sections.append(
                (
                    "occlusion",
                    "What a network looks at",
                    occlusion_section(
                        networks, y_test, classes, names, preprocessing, look
                    ),
                )
            )
        sections.append(
            (
                "measurements",
                "Measurements",
                measurements_section(
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
        ("origin", "Origin", origin_section(synthetic)),
        ("loading", "How to load the set", loading_section(synthetic)),
        ("parameters", "Parameters", parameters_section(distiller)),
        ("versions", "Versions", versions_section()),
    ]
    intro = introduction(inner, synthetic, len(real), accuracies, baseline)
    with atomic_path(path) as temporary:
        temporary.write_text(_html.page(title, intro, sections), encoding="utf-8")
    return path


def _tree(tree: Any, classes: np.ndarray) -> Any:
    """Return a tree whose leaves the classes are, None if they are not."""
    found = tree_of(tree)
    try:
        leaves = leaf_positions(classes, list(found.leaves), "y")
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
