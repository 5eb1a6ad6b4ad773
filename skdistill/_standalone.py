"""A self-contained set: with its preprocessing, for raw images."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skdistill.preprocessing._carried import RawImages, warn_of_other_result
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import hand_on_image_shape


class Standalone:
    """Methods of :class:`~skdistill.SyntheticSet` for raw images."""

    X: np.ndarray
    y: np.ndarray
    step_size: float | None
    metadata: dict[str, Any]
    probabilities: np.ndarray | None
    pixel_space: Any
    targets: np.ndarray | None
    preprocessing: Any

    def with_preprocessing(self, preprocessing: Any) -> Any:
        """Return the set with the preprocessing of its real images.

        Parameters
        ----------
        preprocessing : transformer or None
            As the parameter of the class: ``scaler``, or ``model[:-1]`` of a pipeline.
            None removes the preprocessing of the set, which makes its file smaller.

        Returns
        -------
        synthetic : SyntheticSet
            The set with the preprocessing.

        Raises
        ------
        TypeError, ValueError
            If a set cannot contain it; the message names the step.

        Warns
        -----
        UserWarning
            If the images it transforms are in a different pixel space from the
            distilled images.

        Examples
        --------
        >>> from skdistill import ChannelScaler, RandomSubset, make_galaxies
        >>> X, y = make_galaxies(90, size=16, random_state=0)
        >>> scaler = ChannelScaler().fit(X)
        >>> distiller = RandomSubset(random_state=0).fit(scaler.transform(X), y)
        >>> distiller.synthetic_.with_preprocessing(scaler)
        <SyntheticSet: 9 images of 16x16x3, 9 classes, carries ChannelScaler>
        """
        whole: Any = self
        found = replace(whole, preprocessing=preprocessing)
        found.metadata = dict(found.metadata)
        warn_of_other_result(found.preprocessing, found.pixel_space, found.X)
        return found

    def transform(
        self, X: Any, *, out: str | os.PathLike[str] | None = None
    ) -> np.ndarray:
        """Transform raw images by the preprocessing of the set.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images in the unit of the real images before their preprocessing.
        out : path-like, default=None
            A `.npy` file for the result, which is written in batches.  None keeps the
            result in memory.

        Returns
        -------
        X_transformed : ndarray or memmap of shape \
                (n_samples, height, width, channels), float32
            Images in the pixel space of the set.

        Raises
        ------
        ValueError
            If the set has no preprocessing, or X does not hold images of the right
            shape.

        Warns
        -----
        UserWarning
            If images are in a different unit from those on which the preprocessing was
            fitted, or are already transformed.
        """
        # What was changed in a set since it was made is checked, too.
        whole: Any = self
        checked = replace(whole)
        if checked.preprocessing is None:
            raise ValueError(
                "the set has no preprocessing.  If its real images were "
                "transformed, add the scaler or the pipeline steps by "
                "`with_preprocessing(...)`; otherwise raw images can be used as "
                "they are"
            )
        return RawImages(checked).apply(X, out)

    @with_own_torch_state
    def classifier(self, estimator: Any = None, *, random_state: Any = None) -> Any:
        """Return a classifier of raw images, trained on the set.

        Parameters
        ----------
        estimator : classifier, default=None
            The classifier to train.  None uses the one in the metadata of the set, or
            else the network of the literature, like
            :func:`~skdistill.metrics.evaluate_synthetic`: 1,000 epochs at width 128,
            which take half a minute on one core for 9 images of 32x32x3, in proportion
            to their number.
        random_state : int, RandomState instance or None, default=None
            Controls all randomness of the default; pass an int for reproducible
            results.  An ``estimator`` has its own.

        Returns
        -------
        classifier : Pipeline
            Fitted pipeline of two steps: the preprocessing of the set, if it has any,
            and the classifier, which gets images in the pixel space of the set.
            ``predict``, ``predict_proba`` and ``score`` accept raw images, 4-D or
            flattened, with a warning if they are in another unit.  If it is fitted
            again on other raw images and labels, it keeps the preprocessing.

        Raises
        ------
        ValueError
            If the estimator is not a classifier or does not match the images.

        See Also
        --------
        skdistill.metrics.evaluate_synthetic : Mean and deviation over several networks.

        Examples
        --------
        >>> from sklearn.pipeline import make_pipeline
        >>> from skdistill import (ChannelScaler, ConvNetClassifier,
        ...     DistilledClassifier, RandomSubset, make_galaxies)
        >>> X, y = make_galaxies(90, size=16, random_state=0)
        >>> network = ConvNetClassifier(width=8, max_iter=5)
        >>> model = make_pipeline(
        ...     ChannelScaler(), DistilledClassifier(RandomSubset(), network))
        >>> synthetic = model.fit(X, y)[-1].distiller_.synthetic_
        >>> synthetic.classifier(network).predict(X[:3]).shape
        (3,)
        """
        from skdistill.neural_network._any_classifier import check_classifier, of_images
        from skdistill.neural_network._default import (
            default_estimator,
            fit_on,
            warn_of_contrary_labels,
            warn_of_unused_labels,
        )

        whole: Any = self
        checked = replace(whole)
        if not len(checked):
            raise ValueError(
                "the distilled set must hold at least one image; it has none"
            )
        shape = checked.X.shape[1:]
        if estimator is None:
            network = default_estimator(
                checked.metadata,
                checked.step_size,
                on_targets=checked.targets is not None,
                image_shape=shape,
                random_state=random_state,
            )
        else:
            check_classifier(estimator, None, np.unique(checked.y), [{}])
            network = hand_on_image_shape(clone(estimator), shape)
        check_classifier(network, checked.X, np.unique(checked.y), [{}])
        warn_of_unused_labels(network, checked)
        warn_of_contrary_labels(checked)
        labels = checked.y, checked.probabilities, checked.targets
        fitted = fit_on(of_images(network), checked.X, *labels)
        return Pipeline([("preprocessing", RawImages(checked)), ("classifier", fitted)])
