"""
============================================
A decision tree with galaxies at its leaves
============================================

Galaxy Zoo's volunteers answer questions that form a tree, and the classes are its
leaves.  :class:`~skdistill.inspection.TreeDisplay` draws the tree with a real and a
distilled image at each leaf, as the first figure of the paper does.
"""

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    STMDistiller,
    TrajectoryBuffer,
    make_galaxies,
)
from skdistill.inspection import TreeConfusionDisplay, TreeDisplay

X, y = make_galaxies(450, size=24, random_state=0)
scaler = ChannelScaler()
X_train, y_train = scaler.fit_transform(X[:360]), y[:360]
X_test, y_test = scaler.transform(X[360:]), y[360:]

# %%
# A short distillation
# --------------------
#
# One image per class.  Real applications need more teachers, more iterations and larger
# images, with the same steps.

teachers = TrajectoryBuffer(n_teachers=2, n_epochs=5, width=16, random_state=0)
distiller = STMDistiller(
    ipc=1, buffer=teachers, n_steps=10, max_total_iter=60, random_state=0
).fit(X_train, y_train)

# %%
# The tree
# --------
#
# Labels are the names of the leaves, or their numbers, as here.  ``preprocessing``
# converts the images back to the original colors; all have the same stretch.  For a
# custom tree use ``tree=``: a curator, or ``{question: {answer: class or question,
# ...}}``.

display = TreeDisplay.from_estimator(
    distiller,
    X_test,
    y_test,
    preprocessing=scaler,
    row_titles=("simulated", "distilled"),
    interpolation="bicubic",
)

# %%
# Confusion matrix
# ----------------
#
# In the order of the tree, classes that differ only in the last question are adjacent:
# most confusions are between these.

network = ConvNetClassifier(
    width=16, learning_rate=0.01, max_iter=100, random_state=0
).fit(*distiller.synthetic_)
TreeConfusionDisplay.from_estimator(network, X_test, y_test)
print(f"{network.score(X_test, y_test):.2f} of the galaxies are recognized")
