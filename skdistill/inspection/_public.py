"""What every public method of a display does first."""

from collections.abc import Callable
from inspect import signature
from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)

from skdistill.utils._torch_state import Function, with_own_torch_state

# Of displays with several panels.
SEVERAL_AXES: list[Any] = [HasMethods(["imshow"]), "array-like", None]
_COUNT = Interval(Integral, 1, None, closed="left")

# Displays call the same things by the same names.  Of images, labels, estimators and
# trees the functions that read them say better what is wrong with them.
_CONSTRAINTS: dict[str, Any] = {
    **dict.fromkeys(("X", "X_distilled", "y", "y_distilled"), "no_validation"),
    **dict.fromkeys(("y_true", "y_pred", "frames", "iterations"), "no_validation"),
    **dict.fromkeys(("estimator", "tree", "path", "cmap"), "no_validation"),
    "synthetic": "no_validation",
    "ax": [HasMethods(["imshow"]), None],
    "band_names": ["array-like", str, None],
    "bands": ["array-like", "boolean"],
    "class_names": ["array-like", str, None],
    "classes": ["array-like", None],
    "colorbar": ["boolean"],
    "composite": ["array-like", None],
    "fill": [StrOptions({"sky", "mean"}), "array-like"],
    "fps": [Interval(Real, 0, None, closed="neither")],
    "kind": [StrOptions({"radial", "azimuthal"})],
    "max_images": [_COUNT],
    "measures": ["array-like", None],
    "metric": [StrOptions({"cosine", "euclidean", "manhattan"})],
    "n_columns": [_COUNT],
    "n_images": [_COUNT],
    "n_neighbors": [_COUNT],
    "names": ["array-like", None],
    "normalize": [StrOptions({"true", "pred", "all"}), None],
    "pairs": ["array-like"],
    # One without an inverse is named where that is needed, if inside of a pipeline.
    "preprocessing": [
        HasMethods(["inverse_transform"]),
        HasMethods(["transform"]),
        None,
    ],
    "random_state": ["random_state"],
    "row_title": [str],
    "row_titles": ["array-like"],
    "same_class": ["boolean"],
    "scale": [StrOptions({"log-odds", "probability"})],
    "stride": [_COUNT, None],
    "title": [str],
    "transformer": [HasMethods(["fit_transform", "transform"]), None],
    "truth": [str, None],
    "unit": [str],
    "value_range": ["array-like", None],
    "values_format": [str, None],
    "window": [_COUNT, None],
}


def public(**constraints: Any) -> Callable[[Function], Function]:
    """Let a method check its parameters, and compute as if nothing were set in PyTorch.

    Parameters
    ----------
    **constraints : list
        Of parameters that are other than those of the same name in other displays, as
        for scikit-learn's ``validate_params``.
    """

    def decorate(function: Function) -> Function:
        names = [
            name
            for name, about in signature(function).parameters.items()
            if about.kind is not about.VAR_KEYWORD and name not in ("self", "cls")
        ]
        known = _CONSTRAINTS | constraints
        check = validate_params(
            {name: known[name] for name in names}, prefer_skip_nested_validation=False
        )
        return check(with_own_torch_state(function))

    return decorate
