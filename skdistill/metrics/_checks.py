"""What is wrong with the images that a choice is made on."""

import hashlib

import numpy as np

from skdistill.utils._images import Images, batches
from skdistill.utils._warnings import warn

# What is wrong with a score where test images are in what another parameter holds.
_WRONG = {
    "X_validation": (
        "settings are chosen on the test images, so the score is too high.  Take "
        "`X_validation` from the real training images"
    ),
    "training": (
        "networks are tested on images that sets are made of, so the scores are too "
        "high.  First split the real images into training and test images"
    ),
}


def warn_of_shared_images(
    images: Images, test: np.ndarray, name: str = "X_validation"
) -> None:
    """Warn about test images that are among the training images.

    Parameters
    ----------
    images : ndarray or Rows of shape (n_images, height, width, channels)
        What has a part in the score before the test.
    test : ndarray of shape (n_samples, height, width, channels)
    name : str, default="X_validation"
        What parameter the former are.
    """
    wanted = [_digest(image) for image in test]
    missing = set(wanted)
    for part in batches(images):
        missing.difference_update(map(_digest, images[part]))
    n_shared = sum(digest not in missing for digest in wanted)
    if n_shared:
        warn(
            f"{n_shared} of {len(test)} images of `X_test` are also in `{name}`: "
            f"{_WRONG.get(name, _WRONG['training'])}"
        )


def _digest(image: np.ndarray) -> bytes:
    # The two parts may be of any types.
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
