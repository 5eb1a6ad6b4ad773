"""Kernel regression with the kernels of infinitely wide networks, as a classifier."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skdistill.neural_network._kernels import Kernel, resolve_kernel
from skdistill.neural_network._ridge import RidgeRegression
from skdistill.utils._class_rows import check_class_rows
from skdistill.utils._device import memory_of, resolve_float64_device
from skdistill.utils._doc_link import DocLinkMixin
from skdistill.utils._image_input import unmasked
from skdistill.utils._images import Images, batches
from skdistill.utils._labels import check_known_labels
from skdistill.utils._pixel_space import ChannelMoments
from skdistill.utils._torch_state import with_own_torch_state
from skdistill.utils._validation import check_images, check_weights
from skdistill.utils._warnings import warn
from skdistill.utils._whole_fits import fitted_as_a_whole

# What estimators with a kernel share.
KERNEL_CONSTRAINTS: dict = {
    "kernel": [StrOptions({"ntk", "nngp", "linear"}), callable],
    "depth": [Interval(Integral, 1, None, closed="left")],
    "weight_variance": [Interval(Real, 0, None, closed="neither")],
    "bias_variance": [Interval(Real, 0, None, closed="left")],
    "reg": [Interval(Real, 0, None, closed="neither")],
}

# Below this share of what differs between pixels in their kernel, accuracy falls.
_MIN_SHARE = 1e-7

# The matrices, as large as the kernel, that there are at one time.
_N_MATRICES = 6


def check_kernel_memory(n: int, device: torch.device) -> None:
    """Raise a ValueError if the kernel of n images does not fit into memory."""
    needed = _N_MATRICES * 8 * n**2
    there = memory_of(device)
    if there is not None and needed > there:
        raise ValueError(
            f"a kernel regression on {n} images needs about {needed / 1e9:.0f} GB of "
            f"memory, but only {there / 1e9:.0f} GB are available: it is for small "
            "sets.  Use skdistill.RandomSubset to draw one"
        )


def check_kernel_unit(estimator: Any, mean: np.ndarray, deviation: np.ndarray) -> None:
    """Warn of pixels of which the kernel of an estimator sees next to nothing.

    Parameters
    ----------
    estimator : estimator instance
        With the parameters of a kernel.
    mean, deviation : ndarray of shape (channels,)
        Of the pixels.
    """
    if callable(estimator.kernel):
        return
    differs = estimator.weight_variance * float(np.mean(deviation**2))
    is_common = estimator.weight_variance * float(np.mean(mean**2))
    is_common += estimator.bias_variance
    if 0 < differs < _MIN_SHARE * is_common:
        warn(
            f"the pixels of X have a standard deviation of {deviation.max():.3g} and a "
            f"mean of {mean.mean():.3g}: `kernel`={estimator.kernel!r} with "
            f"`bias_variance`={estimator.bias_variance} sees next to nothing of what "
            "differs between them.  A ChannelScaler brings them to 1 and 0"
        )


class NeuralKernelClassifier(ClassifierMixin, DocLinkMixin, BaseEstimator):
    """Kernel ridge regression with the kernel of an infinitely wide network.

    The predictions of an infinitely wide, fully connected ReLU network have a closed
    form: a regression with the neural tangent kernel (NTK) if it is trained by gradient
    descent [1]_, or with the NNGP kernel if only its last layer is trained [2]_.  There
    are no random numbers and no network is trained: on a few hundred images a fit takes
    milliseconds.  :class:`~skdistill.distillation.KIPDistiller` distills for it.

    For n images with kernel :math:`K` and regression targets :math:`Y`, one-hot rows
    minus :math:`1/C` for C classes, the decision function is

    .. math::

        f(x) = k(x, X) (K + \\lambda I)^{-1} Y, \\quad
        \\lambda = \\mathrm{reg} \\cdot \\mathrm{tr}(K) / n.

    All computations are in float64.

    Read more in the :ref:`User Guide <kernel_distillers>`.

    Parameters
    ----------
    kernel : {"ntk", "nngp", "linear"} or callable, default="ntk"
        The kernel.

        - "ntk": neural tangent kernel of a ReLU network.
        - "nngp": its covariance at random weights.
        - "linear": ``weight_variance * <x, z> / n_features_in_ + bias_variance``.
        - a callable ``kernel(X, Z)`` of two tensors or arrays of shapes (n, n_features)
          and (m, n_features), float64, that returns the (n, m) values of a positive
          semidefinite function.

    depth : int, default=1
        Number of hidden layers of the network.
    weight_variance : float, default=2.0
        Variance of the network's weights, times the number of their inputs.
    bias_variance : float, default=0.01
        Variance of its biases.
    reg : float, default=1e-6
        The ridge parameter, in units of the mean of the kernel's diagonal.  If it is
        too small because of rounding errors, it is multiplied by ten, with a warning.
    image_shape : tuple (height, width, channels), default=None
        Shape to which the rows of a 2-D X are reshaped.  None treats each row as an
        image of height 1 with one channel.  The kernels do not depend on the positions
        of pixels.
    device : str or torch.device, default="auto"
        Device for the computation; "auto" uses a GPU if available.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.
    X_fit_ : ndarray of shape (n_samples, `n_features_in_`)
        The training images of positive weight, a row each, in their type.
    dual_coef_ : ndarray of shape (n_samples, n_classes), float64
        The dual coefficients, which multiply their kernels.
    reg_ : float
        The ridge parameter that was used.
    image_shape_ : tuple (height, width, channels)
        Shape of an image.
    n_features_in_ : int
        Number of pixel values of an image.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X; only if X had names that are all strings.

    See Also
    --------
    skdistill.distillation.KIPDistiller : Distills for this classifier.
    ConvNetClassifier : A network of finite width that is trained.

    Notes
    -----
    The decision function is a least-squares fit of the class indicators, not log-odds:
    there is no ``predict_proba``.  Use
    :class:`sklearn.calibration.CalibratedClassifierCV` with held-out images to obtain
    probabilities.

    References
    ----------
    .. [1] Jacot, Gabriel and Hongler, "Neural Tangent Kernel: Convergence and
       Generalization in Neural Networks", NeurIPS 2018.
    .. [2] Lee et al., "Deep Neural Networks as Gaussian Processes", ICLR 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdistill import NeuralKernelClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = NeuralKernelClassifier(image_shape=(8, 8, 1))
    >>> classifier.fit(X[:500], y[:500]).score(X[500:], y[500:]) > 0.9
    True
    """

    _parameter_constraints: dict = {
        **KERNEL_CONSTRAINTS,
        "image_shape": ["array-like", None],
        "device": [str, torch.device],
    }

    def __init__(
        self,
        *,
        kernel: str | Callable[[Any, Any], Any] = "ntk",
        depth: int = 1,
        weight_variance: float = 2.0,
        bias_variance: float = 0.01,
        reg: float = 1e-6,
        image_shape: tuple[int, int, int] | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        self.kernel = kernel
        self.depth = depth
        self.weight_variance = weight_variance
        self.bias_variance = bias_variance
        self.reg = reg
        self.image_shape = image_shape
        self.device = device

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None
    ) -> "NeuralKernelClassifier":
        """Fit the regression to class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images: one of weight 2 counts as two.

        Returns
        -------
        self : NeuralKernelClassifier
            The fitted classifier.
        """
        X, y = check_images(
            self, X, y, reset=True, with_labels=True, image_shape=self.image_shape
        )
        X, y, weight = check_weights(sample_weight, X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "y must hold at least two classes; got one class, "
                f"{self.classes_.tolist()[0]!r}"
            )
        n_classes = len(self.classes_)
        return self._solve(X, np.eye(n_classes)[codes] - 1 / n_classes, weight)

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit_targets(
        self, X: Any, targets: Any, classes: Any
    ) -> "NeuralKernelClassifier":
        """Fit the regression to targets of any sign.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        targets : array-like of shape (n_samples, n_classes)
            The target of the decision function for each class.
        classes : array-like of shape (n_classes,)
            The class labels, in sorted order.

        Returns
        -------
        self : NeuralKernelClassifier
            The fitted classifier.
        """
        X, targets = self._check_rows(X, "targets", targets, classes)
        return self._solve(X, targets, None)

    @fitted_as_a_whole()
    @_fit_context(prefer_skip_nested_validation=True)
    @with_own_torch_state
    def fit_probabilities(
        self, X: Any, probabilities: Any, classes: Any
    ) -> "NeuralKernelClassifier":
        """Fit the regression to soft labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        probabilities : array-like of shape (n_samples, n_classes)
            The probability of each class for each image.
        classes : array-like of shape (n_classes,)
            The class labels, in sorted order.

        Returns
        -------
        self : NeuralKernelClassifier
            The fitted classifier.
        """
        X, probabilities = self._check_rows(X, "probabilities", probabilities, classes)
        return self._solve(X, probabilities - 1 / len(self.classes_), None)

    def _check_rows(
        self, X: Any, name: str, rows: Any, classes: Any
    ) -> tuple[Images, np.ndarray]:
        """Validate images, and numbers for each class of each."""
        X, _ = check_images(self, X, reset=True, image_shape=self.image_shape)
        rows, self.classes_ = check_class_rows(rows, name, len(X), classes)
        return X, rows

    def _kernel(self) -> Kernel:
        return resolve_kernel(
            self.kernel,
            depth=self.depth,
            weight_variance=self.weight_variance,
            bias_variance=self.bias_variance,
        )

    def _solve(
        self, X: Images, targets: np.ndarray, weight: np.ndarray | None
    ) -> "NeuralKernelClassifier":
        device = resolve_float64_device(self.device)
        check_kernel_memory(len(X), device)
        moments = ChannelMoments(X.shape[3]).add(X)
        check_kernel_unit(self, moments.mean, moments.deviation)
        self.X_fit_ = np.array(X).reshape(len(X), -1)
        values = self._kernel()(_as_tensor(self.X_fit_, device))
        weights = None if weight is None else _as_tensor(weight, device)
        regression = RidgeRegression(values, self.reg, weights)
        coefficients = regression.solve(_as_tensor(targets, device))
        self.dual_coef_ = coefficients.cpu().numpy()
        self.reg_ = regression.reg
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "dual_coef_")

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X, _ = check_images(self, X, reset=False)
        device = resolve_float64_device(self.device)
        kernel = self._kernel()
        fitted = _as_tensor(self.X_fit_, device)
        coefficients = _as_tensor(self.dual_coef_, device)
        outputs = np.empty((len(X), len(self.classes_)))
        for part in batches(X):
            rows = _as_tensor(X[part].reshape(part.stop - part.start, -1), device)
            outputs[part] = (kernel(rows, fitted) @ coefficients).cpu().numpy()
        return outputs

    @with_own_torch_state
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the predictions of the regression.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        values : ndarray of shape (n_samples, n_classes) or (n_samples,)
            A column per class, in the order of ``classes_``; with two classes the
            second column minus the first.
        """
        outputs = self._outputs(X)
        if outputs.shape[1] == 2:
            return outputs[:, 1] - outputs[:, 0]
        return outputs

    @with_own_torch_state
    def predict(self, X: Any) -> np.ndarray:
        """Return the class of the largest value for each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Class labels.
        """
        outputs = self._outputs(X)
        return self.classes_[outputs.argmax(axis=1)]

    @with_own_torch_state
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on the given images and labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Images.
        y : array-like of shape (n_samples,)
            Their labels.  Classes that the classifier was not fitted on are warned
            about, and are an error where there are no others.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images.

        Returns
        -------
        accuracy : float
            In [0, 1].
        """
        check_is_fitted(self)
        y = check_known_labels(y, self.classes_, of="the training images")
        sample_weight = unmasked(sample_weight, "sample_weight", "weights")
        return super().score(X, y, sample_weight)


def _as_tensor(values: np.ndarray, device: torch.device) -> Tensor:
    # A copy: PyTorch warns of read-only arrays, as joblib maps for other processes.
    return torch.from_numpy(np.array(values, dtype=np.float64, order="C")).to(device)
