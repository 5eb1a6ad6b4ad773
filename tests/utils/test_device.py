import pytest
import torch

from skdistill.utils._device import resolve_device, to_device


def test_auto_takes_the_best_device(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_named_device(device):
    assert resolve_device(device) == torch.device("cpu")


@pytest.mark.parametrize(
    "device", ["", "gpu", "cuda:99", "meta", "hpu", "xla", 99, None]
)
def test_unknown_or_missing_device(device):
    with pytest.raises(ValueError, match=r"`device` must be 'auto' or a") as info:
        resolve_device(device)
    assert f"got {device!r}" in str(info.value)


def test_copies_to_a_gpu_are_from_pinned_memory():
    """Only those let the host go on; here with a tensor that writes down its calls."""
    calls = []

    class Spy:
        def __init__(self, place):
            self.device = torch.device(place)

        def pin_memory(self):
            calls.append("pin")
            return self

        def to(self, device, non_blocking):
            calls.append((device, non_blocking))
            return self

    for here, there in (("cpu", "cuda"), ("cpu", "cpu"), ("cuda", "cuda")):
        to_device(Spy(here), torch.device(there))
    assert calls == [
        "pin",
        (torch.device("cuda"), True),
        (torch.device("cpu"), True),
        # What is there cannot be pinned.
        (torch.device("cuda"), True),
    ]


@pytest.mark.gpu
def test_auto_finds_the_gpu():
    assert resolve_device("auto").type != "cpu"
