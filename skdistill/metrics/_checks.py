"""What is wrong with the images that a choice is made on."""

import hashlib

import numpy as np

from skdistill.utils._warnings import warn


def warn_of_shared_images(validation: np.ndarray, test: np.ndarray) -> None:
    """Tell of test images on which settings are chosen: such a score is too high."""
    known = {_digest(image) for image in validation}
    n_shared = sum(_digest(image) in known for image in test)
    if n_shared:
        warn(
            f"{n_shared} of {len(test)} images of `X_test` are in `X_validation` too: "
            "settings are chosen on what they are scored on, and the score is too "
            "high.  Take `X_validation` from the real training images"
        )


def _digest(image: np.ndarray) -> bytes:
    # Whatever type the one and the other part came in.
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
