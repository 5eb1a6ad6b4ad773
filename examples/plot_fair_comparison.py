"""
=================
A fair comparison
=================

Is a distilled set better than real images, for its own network and for others?  Every
set is evaluated at its best learning rate, chosen on images used neither for training
nor for testing, and a difference counts only if its interval excludes zero.

Everything is small, so that it runs in half a minute; the steps are the same for larger
data.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skdistill import (
    ChannelScaler,
    ClassMeans,
    ConvNetClassifier,
    Herding,
    RandomSubset,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
)
from skdistill.metrics import (
    compare_scores,
    cross_architecture,
    improvement_over_random,
    standard_estimators,
)

# %%
# Three kinds of real images
# --------------------------
#
# For distillation, for the choice of learning rates, and for the test.

X, y = load_digits(return_X_y=True)
X = X.reshape(-1, 8, 8, 1)
X, X_test, y, y_test = train_test_split(X, y, test_size=600, stratify=y, random_state=0)
X, X_val, y, y_val = train_test_split(X, y, test_size=200, stratify=y, random_state=0)
scaler = ChannelScaler().fit(X)
X, X_val, X_test = (scaler.transform(part) for part in (X, X_val, X_test))

# %%
# The sets
# --------
#
# All have one image per class.  The evaluation of a method requires several sets: the
# two random methods create five sets each, with different initial images; the other
# methods are deterministic.

teachers = TrajectoryBuffer(
    n_teachers=2, n_epochs=5, learning_rate=0.03, width=16, random_state=0
).fit(X, y)


def stm(seed):
    return STMDistiller(
        ipc=1, buffer=teachers, n_steps=10, max_total_iter=40, random_state=seed
    )


arms = {
    "STM": [stm(seed) for seed in range(5)],
    "random": [RandomSubset(ipc=1, random_state=seed) for seed in range(5)],
    "herding": [Herding(ipc=1)],
    "class means": [ClassMeans()],
}
sets = {
    name: [distiller.fit(X, y).synthetic_ for distiller in distillers]
    for name, distillers in arms.items()
}

# %%
# The same networks for all, each at the best rate for its images
# ---------------------------------------------------------------

honest = {
    "protocol": "honest",
    "X_validation": X_val,
    "y_validation": y_val,
    "n_repeats": 2,
    "random_state": 0,
}
network = ConvNetClassifier(width=16, max_iter=60)
results = {
    name: [
        evaluate_synthetic(one, X_test, y_test, estimator=network, **honest)
        for one in of_arm
    ]
    for name, of_arm in sets.items()
}
accuracies = {
    name: np.stack([result.scores for result in of_arm])
    for name, of_arm in results.items()
}
rates = [result.parameters["learning_rate"] for result in results["STM"]]
print(f"rates chosen for the sets of STM: {rates}")

# %%
# Networks trained on the same set are not independent runs of the method: the interval
# is that of the means of sets.

found = compare_scores(accuracies["STM"], accuracies["random"])
print(
    f"STM is better than random images by {100 * found.difference:.1f} points "
    f"({100 * found.low:.1f} to {100 * found.high:.1f}); "
    f"they differ: {found.differs}"
)
scores = accuracies["STM"]
gain = improvement_over_random(scores.mean(), accuracies["random"].mean())
print(f"improvement over random: {gain:.2f}")

# %%
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for place, values in enumerate(accuracies.values()):
    ax.plot(np.full(values.size, place), 100 * values.ravel(), "o", alpha=0.4)
    ax.plot(place, 100 * values.mean(), "k_", markersize=20)
ax.set_xticks(range(len(accuracies)), list(accuracies))
ax.set(ylabel="test accuracy in %", title="ten classes, ten images")

# %%
# Other networks
# --------------
#
# The images were distilled with a ConvNet of width 16.  How do other networks score on
# them, compared with random images?

estimators = standard_estimators(width=16, max_iter=60)
chosen = [
    "ConvNet",
    "ConvNet, max pooling",
    "MLP",
    "logistic regression",
    "random forest",
]
tables = {
    name: cross_architecture(
        sets[name][0],
        X_test,
        y_test,
        estimators={one: estimators[one] for one in chosen},
        **honest,
    )
    for name in ("STM", "random")
}
table = pd.concat(tables, names=["set", "row"]).reset_index("set")
means = table.pivot_table("score", "estimator", "set", sort=False)
print(means.round(2))  # of one set each

# %%
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
(100 * means).plot.barh(ax=ax)
ax.invert_yaxis()
ax.set(xlabel="test accuracy in %", ylabel="")
