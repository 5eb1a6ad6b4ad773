"""Parameters of estimators inside of others."""

from typing import Any


class NestedParametersMixin:
    """Say what is wrong where there is no estimator whose parameter could be set."""

    def set_params(self, **params: Any) -> Any:
        """Set parameters, of this estimator and of those in its parameters.

        Parameters
        ----------
        **params : dict
            Values by the names of :meth:`get_params`; a parameter of an estimator
            in a parameter is ``<outer>__<inner>``.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If there is no such parameter, or no estimator that has it.
        """
        known = self.get_params(deep=False) | params  # type: ignore[attr-defined]
        for name in params:
            outer, _, inner = name.partition("__")
            if inner and outer in known and not hasattr(known[outer], "set_params"):
                raise ValueError(
                    f"`{outer}` must be an estimator for its parameter {inner!r} to be "
                    f"set; it is {known[outer]!r:.100}"
                )
        return super().set_params(**params)  # type: ignore[misc]
