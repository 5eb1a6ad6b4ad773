"""
=======================================
STM beside MTT, hard and learned labels
=======================================

Two distillers with the same teachers: self-adaptive matching (STM) determines
automatically how many epochs of the teachers the images can match, while MTT has a
fixed pool of epochs that must be set.  And two kinds of labels: the class, or learned
probabilities of all classes.
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
# :func:`~skdistill.evaluate_synthetic` automatically uses learned labels for training.
# One short run of each does not show which method is better: in these few iterations
# STM has only matched the first epochs and has not yet stopped by itself.
# ``benchmarks/figure4.py`` runs several trials of each.

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
# Each row is an image, each column the probability of a class.  All start with 0.9 for
# their own class; for most it increases, for some it decreases.  The similarity to
# other classes is visible on a logarithmic scale.

probabilities = distillers["STM, learned labels"].synthetic_.probabilities
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
image = ax.imshow(probabilities, norm=LogNorm(1e-4, 1), cmap="Blues")
ax.set(xticks=range(10), yticks=range(10), xlabel="class", ylabel="image of class")
fig.colorbar(image, ax=ax, label="probability")
own = probabilities.diagonal()
print(f"probability of the own class: {own.min():.2f} to {own.max():.2f}")
