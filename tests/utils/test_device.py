import pytest
import torch

from skdistill.utils._device import resolve_device


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


@pytest.mark.gpu
def test_auto_finds_the_gpu():
    assert resolve_device("auto").type != "cpu"
