"""How two runs that should be the same differ."""

from typing import Any


def describe_difference(
    name: str, found: Any, expected: Any, values: str = "found {!r}, expected {!r}"
) -> str:
    """Describe one difference, for the message of an error.

    Parameters
    ----------
    name : str
        What differs; digests of data have "fingerprint" in their name.
    found, expected : object
        The stored value and the requested one, or those of two processes.
    values : str, default="found {!r}, expected {!r}"
        How both are named.

    Returns
    -------
    difference : str
    """
    text = f"{name}: {values.format(found, expected)}"
    if "fingerprint" in name and found is not None and expected is not None:
        # A whitening with another number of threads has other last bits.
        text += (
            ", which is equal only for bitwise identical data: save computed images, "
            "such as whitened ones, and load them in each run or process"
        )
    return text
