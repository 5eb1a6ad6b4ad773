"""What measures are called in pictures: names, units, and what a large value means."""

from typing import NamedTuple

import numpy as np

from skdistill.utils._bands import wavelength


class MeasureLabel(NamedTuple):
    """How to call a measure.

    Attributes
    ----------
    label : str
        Its name in words.
    unit : str
        "" for a plain number.
    direction : str
        What a larger value means.
    """

    label: str
    unit: str
    direction: str

    def axis(self) -> str:
        """Return the label of an axis: name and unit, and below the direction."""
        name = f"{self.label} ({self.unit})" if self.unit else self.label
        return f"{name}\n{self.direction}" if self.direction else name

    def name(self) -> str:
        """Return name and unit in one line."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


LABELS = {
    "concentration": MeasureLabel(
        "concentration C", "", "larger: more light in the middle"
    ),
    "asymmetry": MeasureLabel(
        "asymmetry A", "share of light", "larger: less symmetric under rotation by 180°"
    ),
    "smoothness": MeasureLabel(
        "clumpiness S", "share of light", "larger: clumpier, less smooth"
    ),
    "gini": MeasureLabel("Gini coefficient G", "", "larger: light in fewer pixels"),
    "m20": MeasureLabel(
        "second moment M20", "log10", "larger (nearer 0): bright spots far out"
    ),
    "ellipticity": MeasureLabel("ellipticity 1 − b/a", "", "0: round; larger: longer"),
    "petrosian_radius": MeasureLabel(
        "Petrosian radius", "pixels", "larger: more extended; half the frame at most"
    ),
    "bar_strength": MeasureLabel("bar strength", "", "0: no bar; larger: stronger"),
}


def color_pairs(
    n_channels: int, band_names: list[str] | None
) -> list[tuple[int, int, str, bool]]:
    """Return which colors are measured, the bluer band less the redder.

    Parameters
    ----------
    n_channels : int
    band_names : list of str or None
        Names of the channels.

    Returns
    -------
    pairs : list of tuple (one, two, name, is_known)
        The magnitude of channel ``one`` less that of ``two``, of each channel and the
        first one; where their names do not say which is bluer, that is the first one.
    """
    names = [str(k) for k in range(n_channels)] if band_names is None else band_names
    where = [wavelength(name) if band_names else np.nan for name in names]
    pairs = []
    for other in range(1, n_channels):
        one, two = (0, other) if where[0] < where[other] else (other, 0)
        known = bool(np.isfinite([where[0], where[other]]).all())
        pairs.append((one, two, f"color_{names[one]}_{names[two]}", known))
    return pairs


def color_label(one: str, two: str, is_known: bool, is_named: bool) -> MeasureLabel:
    """Return how to call the color of two bands."""
    if is_named:
        direction = "larger: redder" if is_known else f"larger: less light in {one}"
        return MeasureLabel(f"color {one} − {two}", "mag", direction)
    direction = f"larger: less light in {one} (redder, if {two} is redder)"
    return MeasureLabel(f"color, channel {one} − {two}", "mag", direction)


def label_of(name: str) -> MeasureLabel:
    """Return how to call a measure, as it is written if nothing is known of it."""
    if name in LABELS:
        return LABELS[name]
    parts = name.split("_")
    if len(parts) == 3 and parts[0] == "color":
        one, two = parts[1:]
        known = wavelength(one) < wavelength(two)
        named = not (one.isdigit() and two.isdigit())
        return color_label(one, two, bool(known), named)
    return MeasureLabel(name.replace("_", " "), "", "")
