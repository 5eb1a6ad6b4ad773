"""Fits after fits: an estimator is what one of them made of it, not parts of two."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from sklearn.utils.validation import _is_fitted

Function = TypeVar("Function", bound=Callable[..., Any])


def fitted_as_a_whole(
    has_result: Callable[[Any], bool] = _is_fitted,
) -> Callable[[Function], Function]:
    """Let a fit replace everything that an earlier one of the same object has learned.

    What the new fit does not set, such as names of columns that X no longer has, is
    gone.  If it fails or is interrupted without a result, all is as it was before:
    with the classes of one fit and the weights of another an estimator would predict
    nonsense, and teachers would be taken for those of other images.

    Parameters
    ----------
    has_result : callable, default=_is_fitted
        Tells whether a fit that failed has put away something of its own, which stays.

    Returns
    -------
    decorate : callable
        Outside of scikit-learn's own decorator, which ends what callbacks began.
    """

    def decorate(fit: Function) -> Function:
        @wraps(fit)
        def fitting(self: Any, *args: Any, **kwargs: Any) -> Any:
            before = dict(vars(self)) if _is_fitted(self) else None
            for name in [name for name in vars(self) if _is_learned(name)]:
                delattr(self, name)
            try:
                return fit(self, *args, **kwargs)
            except BaseException:
                if before is not None and not has_result(self):
                    vars(self).clear()
                    vars(self).update(before)
                raise

        return fitting  # type: ignore[return-value]

    return decorate


def _is_learned(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")
