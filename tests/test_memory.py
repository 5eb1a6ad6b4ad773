"""Images in a file are read in batches: what each step takes beside them."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peaks_do_not_grow_with_the_images(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import memory

    memory.write_images(tmp_path / "X.npy", 1_500, 64)
    names = [
        "ChannelScaler.fit",
        "ChannelScaler.transform",
        "teachers",
        "STMDistiller, given teachers",
        "ClassMeans",
        "Herding",
        "evaluate_synthetic",
    ]
    peaks, _ = memory.measure(tmp_path / "X.npy", names)
    sys.modules.pop("memory", None)
    # As float32 the images are 70 MiB, and steps that copied them took 140 to 350.
    assert max(peaks.values()) < 100, peaks
