"""Images of users as tensors, and tensors as their images."""

import numpy as np
import torch
from torch import Tensor

from skdistill.utils._images import Images, batches

# Real images are kept on a GPU while they take no more of what is free there.
_SHARE_OF_GPU = 0.3


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """Move images (n, height, width, channels) to a float32 tensor (n, c, h, w)."""
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    if not channels_first.flags.writeable:
        channels_first = channels_first.copy()
    # By way of one axis: an array of one channel may have strides that PyTorch takes
    # for channels that come last, for which it has other kernels with other bits.
    flat = torch.from_numpy(channels_first.reshape(-1))
    return flat.view(channels_first.shape).to(device)


class RealImages:
    """Images as a training reads them: float32 tensors of those that it asks for.

    On a CPU they stay where they are, in memory or in a file, and in their type.  On
    a GPU they are kept whole, in their type, where they take little of its memory.

    Parameters
    ----------
    images : ndarray or Rows of shape (n_samples, height, width, channels)
    device : torch.device
        Of what is returned.
    dtype : torch.dtype, default=torch.float32
        Of what is returned.
    """

    def __init__(
        self,
        images: Images,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = device
        self.dtype = dtype
        self._images = images
        self._kept: Tensor | None = None
        if device.type == "cuda":
            is_small = images.dtype == np.uint8
            n_bytes = int(np.prod(images.shape)) * (1 if is_small else 4)
            if n_bytes <= _SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]:
                self._kept = self._on_gpu(torch.uint8 if is_small else torch.float32)

    def _on_gpu(self, dtype: torch.dtype) -> Tensor:
        n, height, width, channels = self._images.shape
        kept = torch.empty(
            (n, channels, height, width), dtype=dtype, device=self.device
        )
        for part in batches(self._images):
            kept[part] = to_tensor(self._images[part], self.device).to(dtype)
        return kept

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return a copy of images, of shape (*rows.shape, channels, height, width)."""
        if self._kept is not None:
            return self._kept[rows].to(self.dtype)
        wanted = rows.reshape(-1).cpu().numpy()
        found = to_tensor(self._images[wanted], self.device)
        return found.to(self.dtype).unflatten(0, rows.shape)


def to_images(tensor: Tensor) -> np.ndarray:
    """Copy a tensor (n, channels, height, width) to images (n, h, w, channels)."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy().transpose(0, 2, 3, 1))
