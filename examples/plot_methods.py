"""
=======================================
STM beside MTT, hard and learned labels
=======================================

Two distillers on the same teachers: self-adaptive matching (STM) finds out by itself
how many epochs of the teachers the images can hold, matching with a fixed pool of
epochs (MTT) has to be set.  And two kinds of label: that of the class, or
probabilities of all classes that are learned with the image.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.colors import LogNorm
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    MTTDistiller,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
)

X, y = load_digits(return_X_y=True)
X = X.reshape(-1, 8, 8, 1)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
scaler = ChannelScaler()
X, X_test = scaler.fit_transform(X), scaler.transform(X_test)
teachers = TrajectoryBuffer(n_teachers=2, n_epochs=4, width=16, random_state=0)
teachers.fit(X, y)

# %%
# Thirty iterations each
# ----------------------
#
# STM begins with the first epoch alone.  The pool of MTT is set to two sizes.

shared = {"ipc": 1, "buffer": teachers, "n_steps": 10, "random_state": 0}
fixed = {"max_iter": 30, "n_target_epochs": 1, **shared}
distillers = {
    "STM": STMDistiller(max_total_iter=30, **shared),
    "STM, learned labels": STMDistiller(max_total_iter=30, labels="learned", **shared),
    "MTT, 2 epochs": MTTDistiller(max_start_epoch=2, **fixed),
    "MTT, 4 epochs": MTTDistiller(max_start_epoch=4, **fixed),
}
for name, distiller in distillers.items():
    distiller.fit(X, y)
    print(f"{name}: step size {distiller.synthetic_.step_size:.3f}")
stm = distillers["STM"]
print(f"STM matched {stm.n_epochs_matched_} epochs in the end")

# %%
# Their scores
# ------------
#
# Learned labels are used for training too, which :func:`~skdistill.evaluate_synthetic`
# does by itself.  One short run of each does not tell which method is better: in so few
# iterations STM has seen the first epochs only, and has not had to stop by itself.
# ``benchmarks/figure4.py`` makes several trials of each.

network = ConvNetClassifier(width=16, max_iter=150)
accuracy = {
    name: evaluate_synthetic(
        distiller.synthetic_,
        X_test,
        y_test,
        estimator=network,
        n_repeats=3,
        random_state=0,
    ).scores
    for name, distiller in distillers.items()
}
scores = pd.DataFrame(accuracy)
print(scores.agg(["mean", "std"]).T.to_string(float_format="%.3f"))
scores = scores.to_numpy()

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for place, values in enumerate(accuracy.values()):
    ax.barh(place, values.mean(), xerr=values.std(), color="tab:blue", alpha=0.7)
ax.set(
    yticks=range(len(accuracy)),
    yticklabels=accuracy,
    xlim=(0, 1),
    xlabel="accuracy on real digits",
)
ax.invert_yaxis()

# %%
# What a learned label says
# -------------------------
#
# Each row is an image, each column the probability of a class.  All begin with 0.9 for
# their own; most have become surer of it, some less sure.  What they share with other
# classes shows on a logarithmic scale.

probabilities = distillers["STM, learned labels"].synthetic_.probabilities
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
image = ax.imshow(probabilities, norm=LogNorm(1e-4, 1), cmap="Blues")
ax.set(xticks=range(10), yticks=range(10), xlabel="class", ylabel="image of class")
fig.colorbar(image, ax=ax, label="probability")
own = probabilities.diagonal()
print(f"probability of the own class: {own.min():.2f} to {own.max():.2f}")
