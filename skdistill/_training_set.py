"""A distilled set as classifiers are trained on it, and real images to test them on.

What is wrong with either is found before the first training.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from skdistill.neural_network._any_classifier import check_classifier
from skdistill.neural_network._default import (
    default_estimator,
    fit_on,
    warn_of_contrary_labels,
)
from skdistill.synthetic import SyntheticSet, _as_set
from skdistill.utils._image_input import as_images
from skdistill.utils._labels import check_known_labels
from skdistill.utils._pixel_space_checks import warn_of_other_pixels
from skdistill.utils._validation import (
    check_same_columns,
    column_names,
    image_array,
)

_OF_SET = "the table of the images to train on"


class TrainingSet(NamedTuple):
    """A distilled set, and how classifiers are given its images.

    Attributes
    ----------
    synthetic : SyntheticSet
    flattened : bool
        Whether its images came as rows of pixels, and test images become such.
    columns : ndarray of str or None
        The names of the columns of these rows, None if there are none.
    """

    synthetic: SyntheticSet
    flattened: bool
    columns: np.ndarray | None = None

    @property
    def images(self) -> np.ndarray:
        """The images as a classifier gets them."""
        return self.as_given(self.synthetic.X)

    def as_given(self, images: np.ndarray) -> np.ndarray:
        """Return images with as many axes as those of the set came with."""
        return images.reshape(len(images), -1) if self.flattened else images

    def check(
        self,
        estimator: Any,
        settings: Sequence[dict[str, Any]] = ({},),
        name: str = "estimator",
    ) -> None:
        """Find out what is wrong with a classifier before it is trained on the set.

        Parameters
        ----------
        estimator : estimator instance
        settings, name
            As of :func:`check_classifier`.
        """
        images = None if self.flattened else self.synthetic.X
        check_classifier(estimator, images, np.unique(self.synthetic.y), settings, name)

    def default_estimator(self) -> Any:
        """Return what is trained where nobody names a classifier."""
        return default_estimator(
            self.synthetic.metadata,
            self.synthetic.step_size,
            on_targets=self.synthetic.targets is not None,
        )

    def fit(self, estimator: Any) -> Any:
        """Fit a classifier to the images, by the labels that it can use."""
        _, labels = self.synthetic
        probabilities, targets = self.synthetic.probabilities, self.synthetic.targets
        return fit_on(estimator, self.images, labels, probabilities, targets)


def training_set(synthetic: Any) -> TrainingSet:
    """Take a set or a pair (X, y), and check it as if it were new.

    A pair may hold flattened images, which estimators with ``image_shape`` take and
    those of tables.
    """
    if isinstance(synthetic, (tuple, list)) and len(synthetic) == 2:
        X = np.asarray(as_images(synthetic[0], "X"))
        if X.ndim == 2 and X.size:
            names = column_names(synthetic[0])
            made = _as_set((X[:, None, :, None], synthetic[1]))
            return TrainingSet(made, True, names)
    # What was changed in a set since it was made is checked, too.
    distilled = replace(_as_set(synthetic))
    if not len(distilled):
        raise ValueError("the distilled set must hold at least one image; it has none")
    warn_of_contrary_labels(distilled)
    return TrainingSet(distilled, False)


def check_test_images(
    synthetic: SyntheticSet,
    X: Any,
    y: Any,
    *,
    names: tuple[str, str] = ("X", "y"),
    classes: Any = None,
    columns: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Check real images and labels on which networks of a set are to be scored.

    Parameters
    ----------
    synthetic : SyntheticSet
        What the networks learn from.
    X : array-like of shape (n_samples, height, width, channels) or \
            (n_samples, height * width * channels)
        Images.
    y : array-like of shape (n_samples,)
        Their labels.
    names : tuple (str, str), default=("X", "y")
        What messages call them.
    classes : array-like of shape (n_classes,), default=None
        The known classes; None takes those of the set.
    columns : ndarray of str, default=None
        The names of the columns of a table with the images of the set.

    Returns
    -------
    images : ndarray of shape (n_samples, height, width, channels)
        Of the type they have: nothing is copied.
    labels : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If there is no image, one is not like those of the set or not finite, or labels
        are unknown; the message names the parameter.
    """
    classes = np.unique(synthetic.y) if classes is None else classes
    check_same_columns(columns, X, names[0], _OF_SET)
    return _check_real(synthetic, X, y, names, classes, every=False)


def check_training_images(
    synthetic: SyntheticSet,
    X: Any,
    y: Any,
    *,
    names: tuple[str, str],
    columns: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Check the real images of which another set is to be made, to compare with.

    As :func:`check_test_images`, but that each label must be known: a set with other
    classes is none to compare with.
    """
    check_same_columns(columns, X, names[0], _OF_SET)
    return _check_real(synthetic, X, y, names, np.unique(synthetic.y), every=True)


def _check_real(
    synthetic: SyntheticSet,
    X: Any,
    y: Any,
    names: tuple[str, str],
    classes: Any,
    *,
    every: bool,
) -> tuple[np.ndarray, np.ndarray]:
    name_X, name_y = names
    images = _images_like(synthetic.X, X, name_X)
    labels = check_known_labels(y, classes, name=name_y, every=every)
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            f"`{name_X}` and `{name_y}` must have the same length, at least 1; got "
            f"{len(images)} images and {len(labels)} labels"
        )
    warn_of_other_pixels(synthetic, images, name=name_X)
    return images, labels


def _images_like(distilled: np.ndarray, X: Any, name: str) -> np.ndarray:
    """Return images as an array of the shape of the distilled ones."""
    shape = distilled.shape[1:]
    if shape[0] == shape[2] == 1 and getattr(X, "ndim", 0) == 4:
        # The distilled images came as rows of pixels.
        X = np.asarray(X).reshape(len(X), -1)
    return image_array(X, name, shape=shape)
