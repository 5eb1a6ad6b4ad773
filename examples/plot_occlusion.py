"""
==========================
What does the network see?
==========================

A network was trained only on nine distilled images.  Which parts of a galaxy does it
use?  :func:`~skdistill.inspection.occlusion_maps` hides one part after the other and
measures the decrease of the log-odds of the class.
"""

import numpy as np

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    STMDistiller,
    TrajectoryBuffer,
    make_galaxies,
)
from skdistill.inspection import OcclusionDisplay, occlusion_maps

X, y = make_galaxies(540, size=28, random_state=0)
scaler = ChannelScaler()
X_train, y_train = scaler.fit_transform(X[:360]), y[:360]
X_test, y_test = scaler.transform(X[360:]), y[360:]

teachers = TrajectoryBuffer(n_teachers=2, n_epochs=4, width=16, random_state=0)
distiller = STMDistiller(
    buffer=teachers, n_steps=10, max_total_iter=50, random_state=0
).fit(X_train, y_train)
network = ConvNetClassifier(
    width=16, learning_rate=0.01, max_iter=100, random_state=0
).fit(*distiller.synthetic_)
print(f"{network.score(X_test, y_test):.2f} of nine classes, from nine images")

# %%
# One galaxy of each class that is recognized
# -------------------------------------------
#
# Red is evidence for the class, blue evidence against it.  Above each image are its
# class, the probability of this class, and the predicted class.

right = network.predict(X_test) == y_test
_, chosen = np.unique(np.where(right, y_test, -1), return_index=True)
chosen = chosen[right[chosen]]
names = ["round", "in-between", "cigar", "edge-on, bulge", "edge-on, flat"]
names += ["barred, arms", "barred", "spiral", "disc"]
OcclusionDisplay.from_estimator(
    network,
    X_test[chosen],
    y_test[chosen],
    preprocessing=scaler,
    window=5,
    stride=2,
    class_names=names,
)

# %%
# Center or edge?
# ---------------
#
# Single maps are anecdotal.  The mean over many galaxies shows the distribution: here
# as the share within a third of the half frame.

maps = occlusion_maps(network, X_test[right][:60], y_test[right][:60], window=5)
place = np.arange(28) - 13.5
inner = np.hypot(place[:, None], place) < 14 / 3
weight = np.abs(maps)
share = weight[:, inner].sum() / weight.sum()
print(
    f"{share:.0%} of the weight is in the inner {inner.mean():.0%} of the frame, where "
    "the galaxy's middle is"
)
