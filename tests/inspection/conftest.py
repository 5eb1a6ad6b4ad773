import matplotlib.pyplot as plt
import numpy as np
import pytest

from skdistill import ChannelScaler, STMDistiller, TrajectoryBuffer, make_galaxies
from skdistill.inspection import ImageRecorder


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def small():
    """A short distillation of simulated galaxies, the scaler before it, its recorder.

    Its history has an expansion, and validation losses that are missing.
    """
    X, y = make_galaxies(54, size=16, random_state=0)
    scaler = ChannelScaler().fit(X)
    teachers = TrajectoryBuffer(
        n_teachers=1, n_epochs=3, width=4, depth=1, device="cpu", random_state=0
    )
    distiller = STMDistiller(
        buffer=teachers, n_steps=2, max_total_iter=25, device="cpu", random_state=0
    )
    recorder = ImageRecorder(max_frames=4)
    if hasattr(distiller, "set_callbacks"):
        distiller.set_callbacks(recorder)
    distiller.fit(scaler.transform(X), y)
    if hasattr(distiller, "set_callbacks"):
        distiller.set_callbacks()  # clones would share the recorder
    history = distiller.history_
    history.loc[20:, "n_epochs_matched"] = 2
    history.loc[24:, "validation_loss"] = np.nan
    stage = distiller.stages_.iloc[0].copy()
    stage["n_epochs_matched"], stage["first_iteration"] = 2, 20
    distiller.stages_.loc[1] = stage
    return distiller, scaler, recorder, X, y
