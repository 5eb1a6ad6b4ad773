"""
=======================
Watch a fit from inside
=======================

How far is the distillation, and does its loss still decrease?  Callbacks, available
since scikit-learn 1.9, are called in each iteration of a fit, with its losses and, on
request, the current images.  Here the losses are written to a CSV file and, if it is
installed, to TensorBoard.
"""

import csv
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from skdistill import ConvNetClassifier, STMDistiller, TrajectoryBuffer, make_galaxies

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:  # pip install tensorboard
    SummaryWriter = None


# %%
# Ten lines
# ---------
#
# A callback has four methods.  ``metadata`` has the numbers of the completed step; it
# is only computed for a callback whose method has this keyword.


class Logger:
    """Write the numbers of each step to a CSV file, and to TensorBoard."""

    def __init__(self, folder, task):
        self.path, self.task = Path(folder) / f"{task}.csv", task
        self.board = SummaryWriter(folder) if SummaryWriter else None

    def setup(self, estimator, context):
        self.file, self.writer = self.path.open("w", newline=""), None

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, metadata=None):
        if metadata is None or context.task_name != self.task:
            return
        if self.writer is None:
            self.writer = csv.DictWriter(self.file, list(metadata))
            self.writer.writeheader()
        self.writer.writerow(metadata)
        self.file.flush()
        for name, value in metadata.items() if self.board else ():
            self.board.add_scalar(f"{self.task}/{name}", value, metadata[self.task])

    def teardown(self, estimator, context):
        self.file.close()


# %%
# Teachers, images and networks
# -----------------------------
#
# Each has its own steps: epochs of teachers, iterations of a distiller, epochs of a
# network.  With ``n_jobs`` all epochs of a teacher are reported when it is complete.

X, y = make_galaxies(180, size=16, random_state=0)
folder = tempfile.TemporaryDirectory()
teachers = TrajectoryBuffer(n_teachers=2, n_epochs=4, width=8, random_state=0)
distiller = STMDistiller(buffer=teachers, n_steps=5, max_total_iter=40, random_state=0)
network = ConvNetClassifier(width=8, max_iter=60, random_state=0)

teachers.set_callbacks(Logger(folder.name, "epoch")).fit(X, y)
epochs = pd.read_csv(Path(folder.name) / "epoch.csv")
distiller.set_callbacks(Logger(folder.name, "iteration")).fit(X, y)
iterations = pd.read_csv(Path(folder.name) / "iteration.csv")
network.set_callbacks(Logger(folder.name, "epoch")).fit(*distiller.synthetic_)
training = pd.read_csv(Path(folder.name) / "epoch.csv")
print(iterations.tail(3)[["iteration", "loss", "n_epochs_matched", "step_size"]])

# %%
# The log
# -------
#
# ``tensorboard --logdir FOLDER`` shows the same during the fit.

figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
epochs.pivot(index="epoch", columns="teacher", values="loss").plot(ax=axes[0])
iterations.plot(x="iteration", y="loss", ax=axes[1], legend=False)
training.plot(x="epoch", y="loss", ax=axes[2], legend=False)
for ax, title in zip(axes, ["teachers", "distillation", "network"], strict=True):
    ax.set(title=title, ylabel="loss")
folder.cleanup()

# %%
# The keyword ``fitted_estimator`` provides the current images; an
# :class:`~skdistill.inspection.ImageRecorder` records them.  A callback that returns
# True ends the fit, and one that raises an error ends it with that error; in both cases
# the current images are in ``synthetic_``.
