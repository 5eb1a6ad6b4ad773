"""
=============================================
Your own images, and a run that can be killed
=============================================

Any array of images with any labels can be distilled.  Long runs may be interrupted:
with ``checkpoint`` the same fit resumes, with bitwise identical results on a CPU.  This
example uses 8x8 digits and takes a few seconds; larger images only take more time.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
    evaluate_synthetic,
)

# %%
# Ten lines
# ---------
#
# Replace the first line by your own array ``(n_samples, height, width, channels)`` and
# labels; gray images have one channel.

X, y = load_digits(return_X_y=True)
X = X.reshape(-1, 8, 8, 1)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
scaler = ChannelScaler()
X, X_test = scaler.fit_transform(X), scaler.transform(X_test)
folder = Path(tempfile.mkdtemp())  # a folder of yours, for a real run
distiller = STMDistiller(
    ipc=1,
    buffer=TrajectoryBuffer(n_teachers=2, n_epochs=3, width=16, random_state=0),
    n_steps=10,
    max_total_iter=15,
    checkpoint=folder,
    random_state=0,
).fit(X, y)

# %%
# The teachers, and the state of the run, are in the folder.  The state is stored at
# most twice a minute, and at the end.

for path in sorted(folder.rglob("*.*")):
    print(f"{path.relative_to(folder)}  {path.stat().st_size / 1024:.0f} KiB")

# %%
# Resuming
# --------
#
# The run ended after 15 iterations because of ``max_total_iter``.  The same estimator
# with a larger limit reuses the trained teachers and the 15 iterations, and runs the
# other 15; the same works after the process was killed.

longer = clone(distiller).set_params(max_total_iter=30).fit(X, y)
print(f"{distiller.n_iter_} iterations became {longer.n_iter_}")

at_once = clone(longer).set_params(checkpoint=None, buffer=longer.buffer_.path)
at_once.fit(X, y)
same = np.array_equal(at_once.synthetic_.X, longer.synthetic_.X)
print(f"bitwise identical to 30 iterations in one go: {same}")

# %%
# A run with different settings raises an error that lists the differences.

try:
    clone(distiller).set_params(n_steps=5).fit(X, y)
except ValueError as error:
    print(str(error).replace(str(folder), "folder"))

# %%
# One file to keep
# ----------------

longer.synthetic_.save(folder / "digits.safetensors")
distilled = SyntheticSet.load(folder / "digits.safetensors")
network = ConvNetClassifier(width=16, max_iter=150)
scores = evaluate_synthetic(
    distilled, X_test, y_test, estimator=network, n_repeats=3, random_state=0
).scores
print(f"accuracy {scores.mean():.2f} of ten classes, trained on ten images")

fig, axes = plt.subplots(2, 10, figsize=(10, 2.2), layout="constrained")
rows = {"15": distiller.synthetic_, "30": distilled}
for axes_row, (n_iter, synthetic) in zip(axes, rows.items(), strict=True):
    axes_row[0].set_ylabel(f"{n_iter} iterations", fontsize=8)
    pictures = synthetic.to_images(scaler, value_range=(0, 16))
    for ax, picture, label in zip(axes_row, pictures, synthetic.y, strict=True):
        ax.imshow(picture)
        ax.set(xticks=[], yticks=[], title=label if n_iter == "15" else "")
