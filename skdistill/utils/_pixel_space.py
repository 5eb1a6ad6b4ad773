"""What the pixels of an image set are like: the space that it is in."""

from typing import NamedTuple

import numpy as np

from skdistill.utils._images import Images, batches, take
from skdistill.utils._warnings import warn

# Minimum standard deviation in units of the resolution of float32: 8-bit images with
# little contrast have no more.
_MIN_STEPS = 16


class PixelSpace(NamedTuple):
    """Statistics of images by which those of another unit or preprocessing show.

    Attributes
    ----------
    mean : ndarray of shape (channels,), float64
        Mean of each channel.
    deviation : ndarray of shape (channels,), float64
        Standard deviation of each channel.
    correlation : ndarray of shape (channels,), float64
        Correlation of neighboring pixels in each channel: near 1 in natural images,
        near 0 after a whitening.
    """

    mean: np.ndarray
    deviation: np.ndarray
    correlation: np.ndarray


class ChannelMoments:
    """Number, mean, spread and range of the pixels of each channel, gathered in parts.

    Attributes
    ----------
    n_pixels : int
        Of each channel.
    mean : ndarray of shape (channels,), float64
    squares : ndarray of shape (channels,), float64
        Sum of the squared distances from the mean.
    low, high : ndarray of shape (channels,), float64
    """

    def __init__(self, n_channels: int) -> None:
        self.n_pixels = 0
        self.mean = np.zeros(n_channels)
        self.squares = np.zeros(n_channels)
        self.low = np.full(n_channels, np.inf)
        self.high = np.full(n_channels, -np.inf)

    def add(self, images: Images) -> "ChannelMoments":
        """Take in more images, of shape (n_images, height, width, channels)."""
        for part in batches(images):
            self._add_batch(take(images, part, np.float64))
        return self

    def _add_batch(self, batch: np.ndarray) -> None:
        n_channels = batch.shape[-1]
        # Rows of an image, which are long: NumPy adds up short ones slowly.
        lines = batch.reshape(-1, batch.shape[2] * n_channels)

        def by_channel(sums: np.ndarray) -> np.ndarray:
            return sums.reshape(-1, n_channels).sum(axis=0)

        n_new = batch[..., 0].size
        for name, function in (("low", np.minimum), ("high", np.maximum)):
            found = function.reduce(function.reduce(lines).reshape(-1, n_channels))
            setattr(self, name, function(getattr(self, name), found))
        mean = by_channel(lines.sum(axis=0)) / n_new
        lines -= np.tile(mean, batch.shape[2])
        # What rounding took from the mean.
        rest = by_channel(lines.sum(axis=0)) / n_new
        squares = by_channel(np.einsum("ij,ij->j", lines, lines)) - n_new * rest**2
        mean += rest
        n_all = self.n_pixels + n_new
        shift = mean - self.mean
        self.mean = self.mean + shift * (n_new / n_all)
        self.squares = self.squares + (
            np.maximum(squares, 0.0) + shift**2 * (self.n_pixels * n_new / n_all)
        )
        self.n_pixels = n_all
        # Of a constant channel both are known exactly.
        is_constant = self.low == self.high
        self.mean[is_constant] = self.low[is_constant]
        self.squares[is_constant] = 0.0

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each channel."""
        return np.sqrt(self.squares / max(self.n_pixels, 1))

    def total_deviation(self) -> float:
        """Return the standard deviation of all pixels."""
        between = np.square(self.mean - self.mean.mean()).mean()
        return float(np.sqrt(self.squares.mean() / max(self.n_pixels, 1) + between))


def pixel_space(images: Images) -> PixelSpace:
    """Measure the pixels of images, a batch at a time.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels)

    Returns
    -------
    PixelSpace
    """
    moments = ChannelMoments(images.shape[3]).add(images)
    mean = moments.mean
    # In the unit of the largest, squares neither overflow nor vanish.
    unit = np.maximum(moments.high - mean, mean - moments.low)
    unit[~(unit > 0)] = 1.0
    squares, products = np.zeros(len(mean)), np.zeros(len(mean))
    for part in batches(images):
        batch = take(images, part, np.float64)
        batch -= mean
        batch /= unit
        centered = batch.astype(np.float32)
        width, n_channels = centered.shape[2:]
        lines = centered.reshape(len(centered), -1, width * n_channels)
        for one, two, found in (
            (lines, lines, squares),
            (lines[:, 1:], lines[:, :-1], products),
            (lines[:, :, n_channels:], lines[:, :, :-n_channels], products),
        ):
            sums = (one * two).sum(axis=(0, 1), dtype=np.float64)
            found += sums.reshape(-1, n_channels).sum(axis=0)
    n, height, width, _ = images.shape
    n_pairs = n * ((height - 1) * width + height * (width - 1))
    variance = squares / max(n * height * width, 1)
    covariance = products / max(n_pairs, 1)
    known = variance > 0
    correlation = np.divide(covariance, variance, out=np.zeros(len(mean)), where=known)
    return PixelSpace(mean, unit * np.sqrt(variance), correlation)


def loses_contrast(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return for each channel whether it would lose much of its contrast in float32.

    Parameters
    ----------
    mean, deviation : ndarray of shape (channels,)

    Returns
    -------
    is_lost : ndarray of shape (channels,), bool
        False for a channel without contrast.
    """
    return (deviation > 0) & (_MIN_STEPS * _steps(mean) > deviation)


def _steps(values: np.ndarray) -> np.ndarray:
    """Return the distance of neighboring numbers of float32."""
    return np.spacing(np.abs(values).astype(np.float32)).astype(np.float64)


def check_contrast(dtype: np.dtype, mean: np.ndarray, deviation: np.ndarray) -> None:
    """Refuse images whose contrast float32 would lose; warn if it would lose much.

    Parameters
    ----------
    dtype : dtype
        Of the images; those that float32 holds have lost nothing.
    mean, deviation : ndarray of shape (channels,)
        Of their pixels.

    Raises
    ------
    ValueError
        If in float32 hardly two pixels would differ.
    """
    if np.can_cast(dtype, np.float32, "safe"):
        return
    poor = loses_contrast(mean, deviation)
    if not poor.any():
        return
    step, varies = _steps(mean), deviation > 0
    channel = int(np.argmax(poor))
    what = (
        f"X has pixels of mean {mean[channel]:.6g} and standard deviation "
        f"{deviation[channel]:.3g} in channel {channel}, where float32, the type of "
        f"stored images and networks, has a resolution of only {step[channel]:.3g}"
    )
    remedy = (
        "Transform X by a ChannelScaler first, which subtracts the mean in float64, or "
        "subtract a constant"
    )
    if not (step[varies] < deviation[varies]).any():
        raise ValueError(f"{what}: their contrast would be lost.  {remedy}")
    warn(f"{what}: much of their contrast is lost.  {remedy}")


def pixel_scale(images: Images) -> float:
    """Return the standard deviation of all pixels, 1 where they are all the same."""
    return scale_of(ChannelMoments(images.shape[3]).add(images))


def scale_of(moments: ChannelMoments) -> float:
    """Return the standard deviation of all pixels, 1 where they are all the same."""
    scale = moments.total_deviation()
    # Rounding leaves a constant set a tiny deviation.
    mean = float(np.abs(moments.mean.mean()))
    return scale if scale > np.finfo(np.float32).eps * mean else 1.0
