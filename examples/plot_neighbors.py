"""
================================
Which real galaxies are similar?
================================

A distilled galaxy is not a real observation.  Which real galaxies are similar to it for
a network?  :class:`~skdistill.inspection.NeighborsDisplay` finds them by the features
before the last layer of a trained network.
"""

import matplotlib.pyplot as plt

from skdistill import ChannelScaler, DMDistiller, TrajectoryBuffer, make_galaxies
from skdistill.inspection import NeighborsDisplay

X, y = make_galaxies(540, size=28, random_state=0)
object_ids = [f"J{number:06d}" for number in range(540)]  # as in a catalog
scaler = ChannelScaler()
X_scaled = scaler.fit_transform(X)
names = ["round", "in-between", "cigar", "edge-on, bulge", "edge-on, flat"]
names += ["barred, arms", "barred", "spiral", "disc"]

distiller = DMDistiller(ipc=1, max_iter=40, width=16, random_state=0)
synthetic = distiller.fit(X_scaled, y).synthetic_

# %%
# The nearest real galaxies
# -------------------------
#
# The network is a teacher, which was trained on the real galaxies.

teachers = TrajectoryBuffer(n_teachers=1, n_epochs=8, width=16, random_state=0)
network = teachers.fit(X_scaled, y).classifier(teacher=0)
display = NeighborsDisplay.from_set(
    synthetic,
    X_scaled,
    y,
    estimator=network,
    names=object_ids,
    preprocessing=scaler,
    class_names=names,
)
table = display.table
share = (table["class"] == table["neighbor_class"]).mean()
print(f"{share:.0%} of the nearest galaxies are of the class of the distilled one")

# %%
# The table has the captions of the images, and the ids of the galaxies.

print(table.head(5).to_string(index=False, float_format="%.3g"))

# %%
# Within the class
# ----------------
#
# Red captions above are galaxies of other classes.  With ``same_class`` only galaxies
# of the class of the distilled one are considered.

NeighborsDisplay.from_set(
    synthetic,
    X_scaled,
    y,
    estimator=network,
    same_class=True,
    n_neighbors=7,
    preprocessing=scaler,
    classes=[3, 5, 7],
    class_names=[names[label] for label in (3, 5, 7)],
)
plt.show()
