"""
==================================
More than red, green and blue
==================================

Surveys take images in more bands than a screen has colors.  Images may have any number
of channels, and so do the distilled ones: here five, from the reddest to the bluest.
"""

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
    make_galaxies,
)
from skdistill.inspection import SyntheticSetDisplay

X, y = make_galaxies(450, size=24, n_bands=5, random_state=0)
scaler = ChannelScaler()
X_train, y_train = scaler.fit_transform(X[:360]), y[:360]
X_test, y_test = scaler.transform(X[360:]), y[360:]

teachers = TrajectoryBuffer(n_teachers=2, n_epochs=4, width=16, random_state=0)
distiller = STMDistiller(
    buffer=teachers, n_steps=10, max_total_iter=50, random_state=0
).fit(X_train, y_train)
print(distiller.synthetic_)

# %%
# Band by band, and in color
# ---------------------------
#
# The composite shows the means of the two reddest, the middle and the two bluest bands
# as red, green and blue: the names of the bands determine which these are, in any
# order.  The bands have the same stretch and can be compared: the smooth galaxies at
# the top become fainter toward the blue, spirals do not.

SyntheticSetDisplay.from_estimator(
    distiller,
    preprocessing=scaler,
    classes=[0, 2, 5, 7],
    class_names=["smooth, rounded", "cigar-shaped", "barred spiral", "spiral"],
    bands=["z", "i", "r", "g", "u"],
)

# %%
# Another composite
# -----------------
#
# Three positions or names choose bands, and weights ``(3, n_bands)`` mix them: here the
# three bluest, which emphasizes young stars.

SyntheticSetDisplay.from_estimator(
    distiller,
    preprocessing=scaler,
    classes=[0, 2, 5, 7],
    class_names=["smooth, rounded", "cigar-shaped", "barred spiral", "spiral"],
    band_names=["z", "i", "r", "g", "u"],
    composite=("r", "g", "u"),
)

# %%
# The contribution of the bands
# -----------------------------
#
# The same images with five bands, and with only their mean, which has the shapes but
# not the colors.

network = ConvNetClassifier(width=16, learning_rate=0.01, max_iter=60)


def colors(images):
    """Return the images as they are."""
    return images


def shapes(images):
    """Return the mean over the bands."""
    return images.mean(axis=-1, keepdims=True)


for prepare in (colors, shapes):
    images, labels = distiller.synthetic_
    score = evaluate_synthetic(
        (prepare(images), labels),
        prepare(X_test),
        y_test,
        estimator=network,
        n_repeats=3,
        random_state=0,
    )
    print(f"{prepare.__name__}: accuracy {score.mean:.2f} ± {score.std:.2f}")
