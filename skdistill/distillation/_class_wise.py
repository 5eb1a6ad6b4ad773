"""Base classes of the baselines, which process each class separately."""

from abc import abstractmethod
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval

from skdistill.base import BaseDistiller
from skdistill.neural_network._base import BaseNetworkClassifier
from skdistill.preprocessing._carried import carried_in
from skdistill.synthetic import SyntheticSet
from skdistill.utils._callbacks import FitTasks
from skdistill.utils._embedding import embed
from skdistill.utils._images import Images, select
from skdistill.utils._metadata import describe_fit
from skdistill.utils._pixel_space import check_contrast, pixel_space
from skdistill.utils._random import child_seed, root_seed
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import check_class_sizes, check_images, check_weights
from skdistill.utils._whole_fits import fitted_as_a_whole

IPC_CONSTRAINTS = {"ipc": [Interval(Integral, 1, None, closed="left")]}


class BaselineDistiller(BaseDistiller):
    """Base class of distillers that process each class separately."""

    _parameter_constraints: dict = {
        "estimator": [None, HasMethods(["fit", "score"])],
        "image_shape": ["array-like", None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }

    # Images per class; distillers that have it as a parameter set their own.
    ipc: int = 1
    image_shape: Any
    image_shape_: tuple[int, int, int]

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "BaselineDistiller":
        """Make ``synthetic_`` of X, y.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images within their classes; images of weight 0 are ignored.

        Returns
        -------
        self : object
            The fitted distiller.
        """
        X, y = check_images(
            self, X, y, reset=True, with_labels=True, image_shape=self.image_shape
        )
        X, y, weight = check_weights(sample_weight, X, y)
        check_class_sizes(y, self.ipc, f"`ipc`={self.ipc}")
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._check_estimator(X, self.classes_)
        if weight is None:
            weight = np.ones(len(X))
        tasks = FitTasks(self, "", 0, X, y)
        seed = root_seed(self.random_state)
        features = self._features(X, y, child_seed(seed, 0))
        space = pixel_space(X)
        check_contrast(X.dtype, space.mean, space.deviation)
        images: list[Images] = []
        labels: list[Any] = []
        for code, label in enumerate(self.classes_):
            of_class = np.flatnonzero(codes == code)
            rng = np.random.default_rng([seed, code])
            made = self._of_class(
                select(X, of_class), weight[of_class], select(features, of_class), rng
            )
            images.append(made)
            labels += [label] * len(made)
        self.synthetic_ = SyntheticSet(
            self._joined(images),
            np.asarray(labels, dtype=self.classes_.dtype),
            metadata={**describe_fit(self, y, seed), **self._metadata()},
            pixel_space=space,
            preprocessing=carried_in(self, self.image_shape_),
        )
        tasks.end(self._for_callbacks)
        return self

    def _metadata(self) -> dict[str, Any]:
        """Return the metadata of the set besides those of :func:`describe_fit`."""
        return {}

    def _joined(self, images: list[Images]) -> np.ndarray:
        """Return the images of all classes one after the other."""
        return np.concatenate([np.asarray(part, dtype=np.float32) for part in images])

    def _features(self, X: Images, y: np.ndarray, seed: int) -> Images:
        """Return the features by which images are compared: their pixels."""
        return X

    @abstractmethod
    def _of_class(
        self,
        images: Images,
        weight: np.ndarray,
        features: Images,
        rng: np.random.Generator,
    ) -> Images:
        """Return the images that represent a class."""


class FeatureDistiller(BaselineDistiller):
    """Base class of baselines that compare images in a feature space."""

    _parameter_constraints: dict = {
        **BaselineDistiller._parameter_constraints,
        **IPC_CONSTRAINTS,
        "features": [
            None,
            HasMethods(["fit", "extract_features"]),
            HasMethods(["fit", "transform"]),
        ],
    }

    features: Any

    def _features(self, X: Images, y: np.ndarray, seed: int) -> Images:
        if self.features is None:
            return super()._features(X, y, seed)
        extractor = clone(self.features)
        # Of a pipeline, each step.
        names = [
            name
            for name, value in sorted(extractor.get_params().items())
            if name.rpartition("__")[2] == "random_state" and value is None
        ]
        extractor.set_params(**dict.fromkeys(names, seed % 2**31))
        # Others than ours may not know what leaves rows where they are.
        is_ours = isinstance(extractor, BaseNetworkClassifier)
        extractor.fit(X if is_ours else np.asarray(X), y)
        return embed(extractor, X, "features")
