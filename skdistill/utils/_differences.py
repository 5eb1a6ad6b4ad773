"""How a stored run differs from the one that is asked for."""

from typing import Any


def describe_difference(name: str, found: Any, expected: Any) -> str:
    """Describe one difference, for the message of an error.

    Parameters
    ----------
    name : str
        What differs; digests of data have "fingerprint" in their name.
    found, expected : object
        The stored value and the requested one.

    Returns
    -------
    difference : str
    """
    text = f"{name}: found {found!r}, expected {expected!r}"
    if "fingerprint" in name and found is not None and expected is not None:
        # A whitening with another number of threads has other last bits.
        text += (
            ", which is equal only for bitwise identical data: save computed images, "
            "such as whitened ones, and load them in each run"
        )
    return text
