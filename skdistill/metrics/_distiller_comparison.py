"""DistillerComparison: the scores of several distillers, as tables and differences."""

import re
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import Interval, validate_params

from skdistill.metrics._compare import compare_scores
from skdistill.utils._torch_state import with_own_torch_state

# What the options of differences and of the tables that show them may be.
_DIFFERENCES: dict[str, Any] = {
    "self": "no_validation",
    "reference": [str, None],
    "paired": ["boolean"],
    "confidence": [Interval(Real, 0, 1, closed="neither")],
}
_NEEDED = ["distiller", "seed", "network", "score"]


class DistillerComparison:
    """The scores of several distillers with several seeds each.

    The result of :func:`~skdistill.metrics.compare_distillers`.

    Read more in the :ref:`User Guide <compare_distillers>`.

    Parameters
    ----------
    scores : DataFrame
        A row for each network: ``distiller``, ``seed``, ``network`` and ``score``.
        Optional columns describe its set: ``seconds``, ``bytes``, ``images`` and
        ``labels``.
    metric : str, default="accuracy"
        Name of the metric; accuracies are shown in percent.
    failures : DataFrame, default=None
        The failed cells: ``distiller``, ``seed`` and ``error``.

    Attributes
    ----------
    scores, metric, failures
        As they were given.

    Examples
    --------
    >>> import pandas as pd
    >>> from skdistill.metrics import DistillerComparison
    >>> scores = pd.DataFrame({
    ...     "distiller": ["DM"] * 4 + ["random"] * 4, "seed": [0, 0, 1, 1] * 2,
    ...     "network": [0, 1] * 4,
    ...     "score": [0.51, 0.53, 0.48, 0.50, 0.41, 0.40, 0.37, 0.38]})
    >>> found = DistillerComparison(scores)
    >>> found.table["mean"].round(3).to_dict()
    {'DM': 0.505, 'random': 0.39}
    >>> found.differences("random")["difference"].round(3).to_dict()
    {'DM': 0.115}
    """

    def __init__(
        self,
        scores: pd.DataFrame,
        *,
        metric: str = "accuracy",
        failures: pd.DataFrame | None = None,
    ) -> None:
        missing = [name for name in _NEEDED if name not in scores]
        if missing or not len(scores):
            raise ValueError(
                f"`scores` must have the columns {_NEEDED} and a row for each network; "
                f"missing: {missing}"
            )
        self.scores = scores
        self.metric = metric
        columns = ["distiller", "seed", "error"]
        self.failures = pd.DataFrame(columns=columns) if failures is None else failures

    def __repr__(self) -> str:
        """Return the table."""
        return f"DistillerComparison of {self.metric}\n{self.table.to_string()}"

    def _repr_html_(self) -> str:
        return self.table.to_html()

    @property
    def table(self) -> pd.DataFrame:
        """A row for each distiller, in the order in which they were given.

        ``mean`` of the means of its sets, with two standard deviations: ``std_sets`` of
        these means, NaN for a single set, and ``std_networks`` of the networks trained
        on one set, pooled over the sets; the divisors are one less than the numbers of
        values.  ``n_sets``, ``n_networks`` of each set, and means over sets of
        ``images``, ``labels``, ``seconds`` and ``bytes``.  Failed
        cells are excluded.
        """
        rows = []
        for name, found in self._runs().items():
            means = np.array([scores.mean() for scores in found.values()])
            within = [s.var(ddof=1) for s in found.values() if len(s) > 1]
            own = self.scores[self.scores["distiller"] == name]
            sets = own.dropna(subset=["score"]).drop_duplicates("seed")
            row: dict[str, Any] = {
                "distiller": name,
                "mean": means.mean() if len(means) else np.nan,
                "std_sets": means.std(ddof=1) if len(means) > 1 else np.nan,
                "std_networks": np.sqrt(np.mean(within)) if within else np.nan,
                "n_sets": len(means),
                "n_networks": max((len(s) for s in found.values()), default=0),
            }
            for column in ("images", "seconds", "bytes"):
                if column in self.scores:
                    row[column] = sets[column].mean() if len(sets) else np.nan
            if "labels" in self.scores:
                row["labels"] = (
                    ", ".join(dict.fromkeys(sets["labels"].dropna())) or None
                )
            rows.append(row)
        return pd.DataFrame(rows).set_index("distiller")

    @validate_params(_DIFFERENCES, prefer_skip_nested_validation=True)
    @with_own_torch_state
    def differences(
        self,
        reference: str | None = None,
        *,
        paired: bool = True,
        confidence: float = 0.95,
    ) -> pd.DataFrame:
        """Say by how much each distiller differs from one of them.

        Networks trained on one set are not independent runs: the mean of each set is
        one run.

        Parameters
        ----------
        reference : str, default=None
            The name of the distiller to which the others are compared; None uses the
            first.
        paired : bool, default=True
            Whether sets of one seed are pairs: distillers with the same seed start from
            the same real images where they can, and their sets are scored by networks
            with the same initial weights.  Only common seeds are used then.
        confidence : float, default=0.95
            The confidence level of the interval.

        Returns
        -------
        table : DataFrame
            A row for each other distiller: ``difference`` of the means, ``low`` and
            ``high``, the ends of Student's interval, infinite for a single set,
            ``differs``, whether it excludes zero, and ``n_sets`` of the distiller and
            ``n_reference_sets``.

        See Also
        --------
        compare_scores : How the interval is found.
        """
        runs = self._runs()
        reference = next(iter(runs)) if reference is None else reference
        if reference not in runs:
            raise ValueError(
                f"`reference` must be one of the distillers, {list(runs)}; got "
                f"{reference!r}"
            )
        rows = []
        for name, found in runs.items():
            if name == reference:
                continue
            other = runs[reference]
            if paired:
                common = [seed for seed in found if seed in other]
                found = {seed: found[seed] for seed in common}
                other = {seed: other[seed] for seed in common}
            row: dict[str, Any] = {
                "distiller": name,
                "difference": np.nan,
                "low": -np.inf,
                "high": np.inf,
                "differs": False,
                "n_sets": len(found),
                "n_reference_sets": len(other),
            }
            if found and other:
                result = compare_scores(
                    found, other, paired=paired, confidence=confidence
                )
                row |= dict(list(result._asdict().items())[:4])
            rows.append(row)
        columns = ["distiller", "difference", "low", "high", "differs"]
        columns += ["n_sets", "n_reference_sets"]
        return pd.DataFrame(rows, columns=columns).set_index("distiller")

    @validate_params(_DIFFERENCES, prefer_skip_nested_validation=True)
    @with_own_torch_state
    def to_markdown(
        self,
        reference: str | None = None,
        *,
        paired: bool = True,
        confidence: float = 0.95,
    ) -> str:
        """Return the table as Markdown, with the differences to one distiller.

        Parameters
        ----------
        reference, paired, confidence
            As of :meth:`differences`.

        Returns
        -------
        text : str
            With ``mean ± deviation of sets``; seconds and bytes are those of a set.
        """
        shown = self._shown(reference, paired, confidence)
        head = shown.columns.tolist()
        cells = [head, ["---"] * len(head), *shown.to_numpy(dtype=str).tolist()]
        return "\n".join(
            "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |"
            for row in cells
        )

    @validate_params(_DIFFERENCES, prefer_skip_nested_validation=True)
    @with_own_torch_state
    def to_latex(
        self,
        reference: str | None = None,
        *,
        paired: bool = True,
        confidence: float = 0.95,
    ) -> str:
        """Return the table as LaTeX, with the differences to one distiller.

        It needs the package booktabs.

        Parameters
        ----------
        reference, paired, confidence
            As of :meth:`differences`.

        Returns
        -------
        text : str
            With ``mean ± deviation of sets``; seconds and bytes are those of a set.
        """
        shown = self._shown(reference, paired, confidence).map(_plain)
        aligned = "l" + "r" * (shown.shape[1] - 1)
        text = shown.to_latex(index=False, escape=True, column_format=aligned)
        return text.replace("±", "$\\pm$")

    def _runs(self) -> dict[Any, dict[Any, np.ndarray]]:
        """Return the scores of each set, by distiller and seed."""
        runs: dict[Any, dict[Any, np.ndarray]] = {}
        for name in self.scores["distiller"].unique().tolist():
            own = self.scores[self.scores["distiller"] == name]
            runs[name] = {}
            for seed, of_set in own.dropna(subset=["score"]).groupby("seed"):
                runs[name][seed] = of_set["score"].to_numpy(dtype=np.float64)
        return runs

    def _shown(
        self, reference: str | None, paired: bool, confidence: float
    ) -> pd.DataFrame:
        """Return the table as texts."""
        table = self.table
        reference = table.index[0] if reference is None else reference
        compared = self.differences(reference, paired=paired, confidence=confidence)
        is_share = self.metric == "accuracy"
        unit, form = (100.0, ".1f") if is_share else (1.0, ".3f")
        head = f"{self.metric} in %" if is_share else self.metric
        interval = f"to {reference} ({100 * confidence:g} % interval)"
        shown = []
        for name, row in table.iterrows():
            mean = _number(unit * row["mean"], form)
            if np.isfinite(row["std_sets"]):
                mean += f" ± {unit * row['std_sets']:{form}}"
            texts = {
                "distiller": str(name),
                head: mean,
                "± networks": _number(unit * row["std_networks"], form),
                interval: "-"
                if name == reference
                else _difference(compared.loc[name], unit, form),
                "sets": _number(row["n_sets"], ".0f"),
            }
            if "images" in table:
                texts["images"] = _number(row["images"], ".0f")
            if "labels" in table:
                # A distiller of which all failed has none.
                texts["labels"] = row["labels"] if row["n_sets"] else "-"
            if "seconds" in table:
                texts["seconds"] = _number(row["seconds"], ".1f")
            if "bytes" in table:
                texts["kB"] = _number(row["bytes"] / 1000, ".1f")
            shown.append(texts)
        return pd.DataFrame(shown)


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "-"


def _difference(row: Any, unit: float, form: str) -> str:
    if not np.isfinite(row["difference"]):
        return "-"
    ends = [unit * row[end] for end in ("difference", "low", "high")]
    texts = [format(value, f"+{form}") for value in ends]
    if not np.isfinite(ends[1]):
        return f"{texts[0]} (too few sets)"
    return f"{texts[0]} ({texts[1]} to {texts[2]})"


def _plain(text: str) -> str:
    """Return a text that stays in its cell of a table."""
    return re.sub(r"\s+", " ", str(text)).strip()
