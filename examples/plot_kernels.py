"""
=========================================
Distillation by kernels, without networks
=========================================

:class:`~skdistill.KIPDistiller` learns images on which a kernel regression, that of an
infinitely wide network, predicts real images best.  No network is trained, to distill
or to score: everything here takes seconds.  The last part evaluates the images with
other classifiers.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from skdistill import (
    ConvNetClassifier,
    KIPDistiller,
    NeuralKernelClassifier,
    RandomSubset,
    evaluate_synthetic,
)
from skdistill.inspection import SyntheticSetDisplay

X, y = load_digits(return_X_y=True)
X = X.reshape(-1, 8, 8, 1).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=500, stratify=y, random_state=0
)

# %%
# Ten images
# ----------
#
# Kernel regression on ten random digits, one of each class, on ten learned images
# initialized with these, and on learned images with learned regression targets.

kernel = NeuralKernelClassifier()
random = RandomSubset(ipc=1, estimator=kernel, random_state=0)
distillers = {
    "random digits": random,
    "learned digits": KIPDistiller(ipc=1, max_iter=100, random_state=0),
    "learned digits and labels": KIPDistiller(
        ipc=1, max_iter=100, labels="learned", random_state=0
    ),
}
sets = {}
for name, distiller in distillers.items():
    begin = time.perf_counter()
    sets[name] = distiller.fit(X_train, y_train).synthetic_
    seconds = time.perf_counter() - begin
    print(f"{name}: {distiller.score(X_test, y_test):.3f} ({seconds:.1f} s)")
score = kernel.fit(X_train, y_train).score(X_test, y_test)
print(f"all {len(X_train)} digits: {score:.3f}")

# %%
# What they look like
# -------------------
#
# They keep the shape of their initial digit and gain features that distinguish it from
# others.

display = SyntheticSetDisplay.from_data(
    np.concatenate([sets["random digits"].X, sets["learned digits"].X]),
    np.tile(np.arange(10), 2),
)
display.figure_.suptitle("Random digits, and what they became")

# %%
# Labels alone
# ------------
#
# For fixed images, such as fifty random digits, the best labels are the solution of a
# least-squares problem.  They have a number of any sign for each class, ``targets``.

fifty = RandomSubset(ipc=5, estimator=kernel, random_state=0).fit(X_train, y_train)
solved = KIPDistiller(
    ipc=5, images="fixed", labels="solved", init=fifty.synthetic_
).fit(X_train, y_train)
print(f"fifty random digits: {fifty.score(X_test, y_test):.3f}")
print(f"with the best labels: {solved.score(X_test, y_test):.3f}")

figure, ax = plt.subplots(figsize=(4, 6))
targets = solved.synthetic_.targets
limit = abs(targets).max()
ax.imshow(targets, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
ax.set(xlabel="class", ylabel="digit", title="Labels that were solved for")

# %%
# Other classifiers trained on them
# ---------------------------------
#
# The images were optimized for kernel regression.  A ConvNet and a support vector
# machine can also be trained on them, with lower scores.  Scores of different
# classifiers must not be compared with each other.

learners = {
    "kernel regression": kernel,
    "ConvNet": ConvNetClassifier(width=32, max_iter=200, learning_rate=0.02),
    "SVC": SVC(),
}
names = ("random digits", "learned digits")
scores = np.zeros((len(names), len(learners)))
for row, name in enumerate(names):
    for column, learner in enumerate(learners.values()):
        scores[row, column] = evaluate_synthetic(
            sets[name], X_test, y_test, estimator=learner, n_repeats=2, random_state=0
        ).mean
figure, ax = plt.subplots()
for place, name in enumerate(names):
    ax.bar(np.arange(3) + 0.4 * place - 0.2, scores[place], 0.4, label=name)
ax.set_xticks(range(3), list(learners))
ax.set(ylim=(0, 1), ylabel="accuracy", title="Ten images, three learners")
ax.legend()
print(scores.round(3))
