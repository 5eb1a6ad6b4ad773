"""The one place that decides on which device PyTorch computes."""

import os

import torch
import torch.distributed as dist

from skdistill.utils._threads import take_number


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Turn the ``device`` parameter of an estimator into a device.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        Anything that :class:`torch.device` takes, or "auto": a CUDA GPU if there is
        one, else Apple's GPU, else the CPU.  Each of the processes that ``torchrun``
        starts on a machine takes the GPU of its own number.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the name is not a device, or this machine does not have that device.
    """
    take_number()
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            place = os.environ.get("LOCAL_RANK")
            if place is None or not (dist.is_available() and dist.is_initialized()):
                return torch.device("cuda")
            return torch.device("cuda", int(place) % torch.cuda.device_count())
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        resolved = torch.device(device)
        # There and back: "meta" holds no data, others want a module of their own.
        torch.empty(0, device=resolved).cpu()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        raise ValueError(
            f"`device` must be 'auto' or an available device; got {device!r} "
            f"({str(error).splitlines()[0]})"
        ) from error
    return resolved


def resolve_float64_device(device: str | torch.device = "auto") -> torch.device:
    """Turn the ``device`` parameter of an estimator into one that computes in float64.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        As for :func:`resolve_device`; "auto" takes the CPU in place of Apple's GPU.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        As :func:`resolve_device`, and where the device has no float64.
    """
    resolved = resolve_device(device)
    if resolved.type != "mps":
        return resolved
    if isinstance(device, str) and device == "auto":
        return torch.device("cpu")
    raise ValueError(
        f"`device`={device!r} does not support float64, which kernels require; use "
        "'auto' or 'cpu'"
    )


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a tensor to a device; the host does not wait for a GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # Only a copy from pinned memory lets the host continue; what is on a GPU, as
        # in the state before an iteration, cannot be pinned.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def memory_of(device: torch.device) -> int | None:
    """Return the bytes of memory of a device or its machine, None if nobody knows."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # pragma: no cover - not on Linux
        return None
