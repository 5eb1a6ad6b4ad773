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
# One image per class.  Real work takes more teachers, more iterations and larger
# images; the way is the same.

teachers = TrajectoryBuffer(n_teachers=2, n_epochs=5, width=16, random_state=0)
distiller = STMDistiller(
    ipc=1, buffer=teachers, n_steps=10, max_total_iter=60, random_state=0
).fit(X_train, y_train)

# %%
# The tree
# --------
#
# Labels are the names of the leaves, or as here their numbers.  ``preprocessing`` takes
# the images back to the colors that the camera saw; all have the same stretch.  For a
# tree of your own give ``tree=``: the curator that has it, or ``{question: {answer:
# class or question, ...}}``.

display = TreeDisplay.from_estimator(
    distiller,
    X_test,
    y_test,
    preprocessing=scaler,
    row_titles=("simulated", "distilled"),
    interpolation="bicubic",
)

# %%
# What is taken for what
# ----------------------
#
# The order of the tree puts classes side by side that only the last question tells
# apart: there most of the confusion is.

network = ConvNetClassifier(
    width=16, learning_rate=0.01, max_iter=100, random_state=0
).fit(*distiller.synthetic_)
TreeConfusionDisplay.from_estimator(network, X_test, y_test)
print(f"{network.score(X_test, y_test):.2f} of the galaxies are recognized")
