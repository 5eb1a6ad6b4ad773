"""
==============================================
Gradients, features, trajectories: one picture
==============================================

:class:`~skdistill.DMDistiller` compares the mean features of real and synthetic images,
:class:`~skdistill.DCDistiller` the gradients that a network gets from them, and
:class:`~skdistill.STMDistiller` where a network ends that is trained on them.  Here all
three start from the same random galaxies, one of each class.  What do they change, how
do the results score, and how long does it take?
"""

import time

import matplotlib.pyplot as plt
import numpy as np

from skdistill import (
    ChannelScaler,
    ClassMeans,
    ConvNetClassifier,
    DCDistiller,
    DMDistiller,
    RandomSubset,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
    make_galaxies,
)

X, y = make_galaxies(1080, size=24, random_state=0)
scaler = ChannelScaler()
X_train, y_train = scaler.fit_transform(X[:540]), y[:540]
X_test, y_test = scaler.transform(X[540:]), y[540:]

# %%
# Three distillers, and two sets that cost nothing
# ------------------------------------------------
#
# The networks are small and the runs short.  The time of STM includes the training of
# its teachers, which other runs could reuse.

random = RandomSubset(ipc=1, random_state=0).fit(X_train, y_train)
start = random.synthetic_.X
shared = {"ipc": 1, "init": start, "random_state": 0}
teachers = TrajectoryBuffer(n_teachers=2, n_epochs=4, width=16, random_state=0)
distillers = {
    "random": random,
    "class means": ClassMeans(),
    "DM": DMDistiller(max_iter=100, width=16, **shared),
    "DC": DCDistiller(max_iter=40, batch_size=32, width=16, **shared),
    "STM": STMDistiller(buffer=teachers, n_steps=5, max_total_iter=50, **shared),
}
seconds = {}
for name, distiller in distillers.items():
    begin = time.perf_counter()
    distiller.fit(X_train, y_train)
    seconds[name] = time.perf_counter() - begin
sets = {name: distiller.synthetic_ for name, distiller in distillers.items()}

# %%
# One image per class
# -------------------
#
# The pictures of a column are of the same class.  DM and DC, with one image per class,
# use networks with random weights, STM teachers that learned from the galaxies.

fig, axes = plt.subplots(len(sets), 9, figsize=(9, 5.4), layout="constrained")
for row, (name, distilled) in zip(axes, sets.items(), strict=True):
    pictures = scaler.inverse_transform(distilled.X).clip(0, 1)
    for ax, picture in zip(row, pictures, strict=True):
        ax.imshow(picture, interpolation="bicubic")
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)

# %%
# What each method changes in the same galaxy
# -------------------------------------------
#
# The difference from the start, averaged over the channels, for three of the classes:
# red is brighter than before, blue darker, in standard deviations of the pixels.  All
# methods remove neighboring objects, which are not a property of the class.  DM and DC
# move light toward the mean image of the class; what STM changes is spread more widely
# over the image.

differences = {name: sets[name].X - start for name in ("DM", "DC", "STM")}
fig, axes = plt.subplots(3, 4, figsize=(7, 5), layout="constrained")
for row, code in zip(axes, (0, 4, 8), strict=True):
    row[0].imshow(scaler.inverse_transform(start[[code]])[0].clip(0, 1))
    row[0].set_ylabel(f"class {random.classes_[code]}")
    for ax, difference in zip(row[1:], differences.values(), strict=True):
        image = ax.imshow(difference[code].mean(-1), cmap="RdBu_r", vmin=-1, vmax=1)
for ax, name in zip(axes[0], ("start", *differences), strict=True):
    ax.set_title(name)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
fig.colorbar(image, ax=axes, label="change")
for name, difference in differences.items():
    print(f"{name}: root mean square change {np.sqrt((difference**2).mean()):.2f}")

# %%
# Scores and seconds
# ------------------
#
# All sets are scored by the same networks at the same learning rate.  Compare with the
# class means first: with one image per class they are hard to beat in seconds.  One
# short run of each does not show which method is better.  Differences of a few points
# are noise, and STM is made for longer runs with more teachers: see
# ``examples/plot_discover_galaxies.py``.

network = ConvNetClassifier(width=16, learning_rate=0.01, max_iter=80)
scores = np.array(
    [
        evaluate_synthetic(
            distilled, X_test, y_test, estimator=network, n_repeats=3, random_state=0
        ).scores
        for distilled in sets.values()
    ]
)
for name, values in zip(sets, scores, strict=True):
    print(f"{name}: {values.mean():.3f} ± {values.std():.3f}, {seconds[name]:.1f} s")

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.barh(list(sets), scores.mean(1), xerr=scores.std(1), color="tab:blue", alpha=0.7)
ax.set(xlabel="accuracy on galaxies that no distiller saw", xlim=(0, 0.6))
ax.invert_yaxis()
