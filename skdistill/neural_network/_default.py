"""What is trained on a distilled set where the user names no classifier, and how.

A set may say itself what it is scored by: the entry "default_estimator" of its metadata
has the name of a classifier and its parameters.  It may come out of an
untrusted file: the table here lists the classifiers and parameters that can be in it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skdistill.neural_network._augment import resolve_families
from skdistill.neural_network._base import BaseNetworkClassifier
from skdistill.neural_network._classifier import ConvNetClassifier
from skdistill.neural_network._kernel_classifier import NeuralKernelClassifier
from skdistill.neural_network._network import NetworkClassifier
from skdistill.neural_network._network_kind import NetworkKind
from skdistill.utils._labels import is_already_checked
from skdistill.utils._warnings import warn, warn_once

# The entry of a set's metadata, and the one with the name of a user's own network.
ENTRY = "default_estimator"
OWN = "architecture"
_OF_NETWORKS = {
    *("normalization", "learning_rate", "momentum", "weight_decay", "batch_size"),
    *("max_iter", "loss", "optimizer", "augmentation"),
}
# The classifiers that a set can name, and which of their parameters.
_ESTIMATORS: dict[str, tuple[type, set[str]]] = {
    "ConvNetClassifier": (
        ConvNetClassifier,
        {"width", "depth", "pooling", *_OF_NETWORKS},
    ),
    "NetworkClassifier": (
        NetworkClassifier,
        {"architecture", "width_multiplier", *_OF_NETWORKS},
    ),
    "NeuralKernelClassifier": (
        NeuralKernelClassifier,
        {"kernel", "depth", "weight_variance", "bias_variance", "reg"},
    ),
}
# More than this, of a number, no set can ask for: it would take memory or days.
_MAX = {
    "width": 1024,
    "depth": 16,
    "width_multiplier": 8,
    "max_iter": 100_000,
}
_N_EPOCHS = 1000
# The learning rate of the optimizer that suits regression targets.
_ADAM_RATE = 3e-4


def default_network(
    step_size: float | None = None, *, on_targets: bool = False, **parameters: Any
) -> ConvNetClassifier:
    """Return the network that a set is scored with when the user names none.

    Parameters
    ----------
    step_size : float, default=None
        That of the set, if it has one: the learning rate of SGD.
    on_targets : bool, default=False
        Whether the set has regression targets; without a step size Adam fits them.
    **parameters : dict
        Of the network; they are above what follows from the set.

    Returns
    -------
    network : ConvNetClassifier
    """
    own = _of_set(step_size, on_targets)
    return ConvNetClassifier(**{**own, **parameters})


def _of_set(step_size: float | None, on_targets: bool) -> dict[str, Any]:
    """Return the parameters of a network that follow from the set."""
    own: dict[str, Any] = {"max_iter": _N_EPOCHS}
    if on_targets:
        own["loss"] = "squared"
    if step_size is not None:
        own["learning_rate"] = step_size
    elif on_targets:
        own.update(optimizer="adam", learning_rate=_ADAM_RATE)
    return own


def default_estimator(
    metadata: Mapping[str, Any],
    step_size: float | None = None,
    *,
    on_targets: bool = False,
    source: Any = None,
    **parameters: Any,
) -> Any:
    """Return the classifier that a set says it is scored with.

    Parameters
    ----------
    metadata : dict
        Of the set.  Without an entry "default_estimator" it is
        :func:`default_network`.
    step_size, on_targets
        As of :func:`default_network`; networks only take them.
    source : callable or torch.nn.Module, default=None
        What makes the network that the set was distilled with, if it is a user's own,
        which metadata cannot hold.  A :class:`NetworkClassifier` of it is returned.
    **parameters : dict
        Others, such as ``device`` and ``random_state``, as far as it has them.

    Returns
    -------
    estimator : classifier

    Raises
    ------
    ValueError
        If the entry is not what :func:`describe_estimator` makes of a classifier.
    """
    said = metadata.get(ENTRY)
    if said is None and source is not None:
        own = {**_of_set(step_size, on_targets), **parameters}
        return NetworkClassifier(source, **own)
    if said is None:
        if OWN in metadata:
            warn(
                f"the set was distilled with a custom network, {metadata[OWN]}, which "
                "cannot be stored in it: a ConvNetClassifier is trained instead; use "
                "`estimator`=NetworkClassifier(...) to score the set with that network"
            )
        return default_network(step_size, on_targets=on_targets, **parameters)
    try:
        estimator = _described(said)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'`metadata`[{ENTRY!r}] of the set must be a dict with the "name" of a '
            "classifier and its parameters, such as {'name': 'ConvNetClassifier', "
            f"'width': 64}}: {error}.  Use the parameter `estimator` to train another "
            "classifier"
        ) from error
    if isinstance(estimator, BaseNetworkClassifier):
        own = _of_set(step_size, on_targets)
        if "optimizer" in said:
            # The learning rates of one are not those of the other.
            own.pop("optimizer", None)
            own.pop("learning_rate", None)
        estimator.set_params(**{k: v for k, v in own.items() if k not in said})
    known = estimator.get_params(deep=False)
    return estimator.set_params(**{k: v for k, v in parameters.items() if k in known})


def _described(said: Any) -> Any:
    """Make the classifier that an entry of metadata names."""
    if not isinstance(said, Mapping) or not isinstance(said.get("name"), str):
        raise ValueError(f"got {said!r}")
    name = said["name"]
    if name not in _ESTIMATORS:
        raise ValueError(f"its name must be one of {sorted(_ESTIMATORS)}; got {name!r}")
    kind, known = _ESTIMATORS[name]
    parameters = {key: value for key, value in said.items() if key != "name"}
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise ValueError(
            f"the parameters of {name} must be among {sorted(known)}; got {unknown}"
        )
    for key, value in parameters.items():
        if key in _MAX and isinstance(value, (int, float)) and value > _MAX[key]:
            raise ValueError(f"{key!r} must be at most {_MAX[key]}; got {value}")
    estimator = kind(**parameters)
    estimator._validate_params()
    resolve_families(parameters.get("augmentation"))
    return estimator


def describe_estimator(estimator: Any) -> dict[str, Any]:
    """Return what a set's metadata say of a classifier: its name and parameters.

    Parameters
    ----------
    estimator : classifier
        One that sets can name.  Where it computes and its random state are left out.

    Returns
    -------
    entry : dict
        JSON can hold it.
    """
    name = type(estimator).__name__
    _, known = _ESTIMATORS[name]
    found = estimator.get_params(deep=False)
    # All of them: what is not said follows from the set.
    return {"name": name, **{key: _plain(found[key]) for key in sorted(known)}}


def describe_network(**parameters: Any) -> dict[str, Any]:
    """Return what a set's metadata say of a network; the rest follows from the set.

    Parameters
    ----------
    **parameters : dict
        Those that do not follow from the set, such as its step size does: of a
        :class:`NetworkClassifier` with ``architecture`` among them, else of a
        :class:`ConvNetClassifier`.

    Returns
    -------
    metadata : dict
        With the entry alone; JSON can hold it.
    """
    plain = {key: _plain(value) for key, value in parameters.items()}
    kind = NetworkClassifier if "architecture" in parameters else ConvNetClassifier
    return {ENTRY: {"name": kind.__name__, **plain}}


def describe_kind(kind: NetworkKind, **parameters: Any) -> dict[str, Any]:
    """Return what a set's metadata say of the networks that it was distilled with.

    Parameters
    ----------
    kind : NetworkKind
    **parameters : dict
        As of :func:`describe_network`.

    Returns
    -------
    metadata : dict
        Of a user's own network it holds the name of what makes it, and nothing else.
    """
    if kind.source is not None:
        return {OWN: kind.name}
    return describe_network(**kind.classifier_parameters(), **parameters)


def own_parameters(kind: NetworkKind, **parameters: Any) -> dict[str, Any]:
    """Return what :func:`default_estimator` needs to know of a custom network.

    Parameters
    ----------
    kind : NetworkKind
    **parameters : dict
        As of :func:`describe_network`.

    Returns
    -------
    parameters : dict
        Empty for networks of the library, which metadata name.
    """
    return {} if kind.source is None else {"source": kind.source, **parameters}


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list, np.ndarray)):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def takes_labels(estimator: Any, kind: str) -> bool:
    """Tell whether a classifier can be fitted to "probabilities" or to "targets"."""
    return hasattr(estimator, f"fit_{kind}")


def fit_on(
    estimator: Any, X: Any, y: Any, probabilities: Any = None, targets: Any = None
) -> Any:
    """Fit a classifier, to what it can use of the labels.

    Parameters
    ----------
    estimator : classifier
        With ``fit_probabilities(X, probabilities, classes)`` it is given soft labels,
        with ``fit_targets(X, targets, classes)`` regression targets.
    X : array-like
        Images, or rows of pixels.
    y : array-like of shape (n_images,)
        Class labels, which it is given where there is nothing else that it can use.
    probabilities : array-like of shape (n_images, n_classes), default=None
        Soft labels.
    targets : array-like of shape (n_images, n_classes), default=None
        Regression targets.

    Returns
    -------
    estimator : classifier
        The same, fitted.
    """
    if targets is not None and takes_labels(estimator, "targets"):
        return estimator.fit_targets(X, targets, np.unique(y))
    if probabilities is not None and takes_labels(estimator, "probabilities"):
        return estimator.fit_probabilities(X, probabilities, np.unique(y))
    return estimator.fit(X, y)


def class_rows(synthetic: Any) -> tuple[str, np.ndarray | None]:
    """Return what a set has beside the class of each image, and its name."""
    if synthetic.targets is not None:
        return "targets", synthetic.targets
    return "probabilities", synthetic.probabilities


def warn_of_contrary_labels(synthetic: Any) -> None:
    """Warn about learned labels whose columns are most likely in another order."""
    kind, rows = class_rows(synthetic)
    if rows is None:
        return
    codes = np.unique(synthetic.y, return_inverse=True)[1]
    own = rows[np.arange(len(codes)), codes]
    n_other = int((own < rows.max(axis=1)).sum())
    # Learned labels may leave that of their image, though not most of them.
    if 2 * n_other > len(codes):
        warn_once(
            f"contrary {kind}",
            f"{n_other} of {len(codes)} distilled images have `{kind}` whose largest "
            "entry is for a class other than `y`, and networks are trained on them: "
            "either their columns are not in the sorted order of the classes, or "
            "their source, such as teachers, does not recognize the images",
        )


def warn_of_unused_labels(estimator: Any, synthetic: Any) -> None:
    """Say so where a classifier is given the classes in place of learned labels."""
    kind, rows = class_rows(synthetic)
    if is_already_checked() or rows is None or takes_labels(estimator, kind):
        return
    what = "soft labels" if kind == "probabilities" else "regression targets"
    warn(
        f"{type(estimator).__name__} does not accept {what}: those of the distilled "
        "set are ignored, and it is trained only on the class of each image"
    )
