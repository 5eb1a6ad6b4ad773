"""Images in a space of features, a batch at a time."""

from typing import Any

import numpy as np

from skdistill.utils._images import Images, batches
from skdistill.utils._maps import scratch_array
from skdistill.utils._warnings import without_names

# A network extracts features of more images at once than are averaged at once.
_BATCH_VALUES = 2**23


def embed(extractor: Any, X: Images, name: str) -> np.ndarray:
    """Return the features of images.

    Parameters
    ----------
    extractor : estimator instance
        Fitted, with ``extract_features`` or else ``transform``.
    X : ndarray or Rows of shape (n_samples, ...)
        Images or rows, whichever the extractor takes.
    name : str
        Of the parameter that the extractor is, for messages.

    Returns
    -------
    features : ndarray of shape (n_samples, n_features)
        Finite; of many images in a temporary file.

    Raises
    ------
    ValueError
        If the extractor makes anything but a row of finite numbers for each image.
    """
    has_features = hasattr(extractor, "extract_features")
    extract = extractor.extract_features if has_features else extractor.transform
    found: np.ndarray | None = None
    for part in batches(X, _BATCH_VALUES):
        with without_names():
            features = np.asarray(extract(X[part]))
        n_wanted = part.stop - part.start
        n_poor = int(np.count_nonzero(~np.isfinite(features)))
        if len(features) != n_wanted or n_poor:
            raise ValueError(
                f"`{name}` must return a row of finite numbers for each image; for "
                f"{n_wanted} images it returned shape {features.shape}"
                + (f", with {n_poor} numbers that are NaN or infinite" * (n_poor > 0))
            )
        features = features.reshape(n_wanted, -1)
        if found is None:
            found = scratch_array((len(X), features.shape[1]), features.dtype)
        found[part] = features
    assert found is not None
    return found
