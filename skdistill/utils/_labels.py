"""What class labels may be."""

from typing import Any

import numpy as np

from skdistill.utils._image_input import unmasked

# Every format that labels are stored in can hold these.
LABEL_KINDS = "labels of one kind: strings, integers, booleans or whole numbers"


def check_labels(y: Any) -> None:
    """Refuse labels that scikit-learn or a file would refuse later, or worse.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or None

    Raises
    ------
    ValueError
        If there are objects other than strings, or dates.
    """
    labels = np.asarray(unmasked(y, "y", "labels"))
    if labels.dtype.kind in "mM":
        raise ValueError(
            f"Unknown label type: y must hold {LABEL_KINDS}; got {labels.dtype}"
        )
    if labels.dtype != object or labels.ndim != 1:
        return
    for place, label in enumerate(labels):
        if not isinstance(label, str):
            raise ValueError(
                f"Unknown label type: y must hold {LABEL_KINDS}; as a Python object, "
                f"which can only be a string, got {label!r} at position {place}.  "
                "Numbers need an array of their own type, such as y.astype(int)"
            )
