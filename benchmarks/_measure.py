"""Time and memory of what a benchmark compares, each form in a process of its own."""

import multiprocessing
import threading

import psutil
import torch


def is_gpu(device):
    """Tell whether a device is a CUDA GPU, also one of several as "cuda:1"."""
    return torch.device(device).type == "cuda"


def wait(device):
    """Wait until a GPU is through with its work."""
    if is_gpu(device):
        torch.cuda.synchronize(device)


class PeakMemory(threading.Thread):
    """Watches the memory of this process, or of its tensors on a GPU.

    A process's own record of its peak would include that of the process it was
    started from.
    """

    def __init__(self, device):
        super().__init__(daemon=True)
        self._on_gpu = is_gpu(device)
        self._device = device
        self._process = psutil.Process()
        self._before = self._peak = self._now()
        self._done = threading.Event()

    def _now(self):
        if self._on_gpu:
            return torch.cuda.memory_allocated(self._device)
        return self._process.memory_info().rss

    def run(self):
        while not self._done.wait(0.005):
            self._peak = max(self._peak, self._now())

    def __enter__(self):
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self.start()
        return self

    def __exit__(self, *_):
        if self._on_gpu:
            self._peak = torch.cuda.max_memory_allocated(self._device)
        else:
            self._peak = max(self._peak, self._now())
            self._done.set()
            self.join()

    @property
    def mebibytes(self):
        """The peak above what there was at the start."""
        return (self._peak - self._before) / 2**20


def in_a_process(function, *arguments):
    """Call a function in a new process; it sends its result by a connection."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=function, args=(*arguments, sender)
    )
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result
