"""The examples that are no demo run as they stand."""

import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from skdistill import STMDistiller

EXAMPLES = Path(__file__).parents[1] / "examples"
# The demo takes minutes as it stands and has tests of its own.
SCRIPTS = sorted(
    set(EXAMPLES.glob("plot_*.py")) - {EXAMPLES / "plot_discover_galaxies.py"}
)
# Of ten classes with ten images, and of nine with nine galaxies each.
MIN_ACCURACY = {
    "plot_fair_comparison": 0.5,
    "plot_folder_and_table": 0.5,
    "plot_galaxy_zoo": 0.33,
    "plot_gradient_and_features": 0.25,
    "plot_kernels": 0.7,
    "plot_methods": 0.5,
    "plot_own_images": 0.5,
    "plot_scikit_learn": 0.5,
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_example(script, capsys):
    if "set_callbacks" in script.read_text() and not hasattr(
        STMDistiller, "set_callbacks"
    ):
        pytest.skip("needs scikit-learn 1.9, which has callbacks")
    try:
        found = runpy.run_path(str(script))
        assert plt.get_fignums()
    finally:
        plt.close("all")
    assert capsys.readouterr().out
    if script.stem in MIN_ACCURACY:
        assert found["scores"].mean() > MIN_ACCURACY[script.stem]
