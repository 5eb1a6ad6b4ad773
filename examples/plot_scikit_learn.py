"""
===================================
Distillation among other estimators
===================================

A distiller is a scikit-learn estimator: it can be used in searches, cross-validation
and pipelines, and stored.  Everything here is small, so that it runs in half a minute
on two cores; the steps are the same for larger data.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_score,
    learning_curve,
)
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    STMDistiller,
    TrajectoryBuffer,
)

X, y = load_digits(return_X_y=True)
X, y = X[:300].reshape(-1, 8, 8, 1), y[:300]
cv = StratifiedKFold(2, shuffle=True, random_state=0)

# %%
# A classifier trained only on distilled images
# ---------------------------------------------
#
# :class:`~skdistill.DistilledClassifier` distills its training data and trains any
# classifier on the result.  In a pipeline the scaler is only fitted on the training
# images of each fold, as are the teachers: an unfitted
# :class:`~skdistill.TrajectoryBuffer` is trained again in every fit.

teachers = TrajectoryBuffer(
    n_teachers=1, n_epochs=4, learning_rate=0.03, width=16, random_state=0
)
network = ConvNetClassifier(width=16, learning_rate=0.02, max_iter=40, random_state=0)
distiller = STMDistiller(
    ipc=1, buffer=teachers, n_steps=5, max_total_iter=20, random_state=0
)
model = make_pipeline(ChannelScaler(), DistilledClassifier(distiller, network))
scores = cross_val_score(model, X, y, cv=cv)
print(f"accuracy {scores.mean():.2f} of ten classes, trained on ten images")

# %%
# Searching for parameters
# ------------------------
#
# Parameters of the distiller, its teachers and the network are named by double
# underscores.

search = GridSearchCV(
    model,
    {
        "distilledclassifier__distiller__ipc": [1, 2],
        "distilledclassifier__estimator__learning_rate": [0.01, 0.02],
    },
    cv=cv,
).fit(X, y)
print(search.best_params_, f"{search.best_score_:.2f}")

# %%
# A distiller alone has a score, that of a network trained on its images.

alone = GridSearchCV(
    distiller.set_params(estimator=network), {"ipc": [1, 2]}, cv=cv
).fit(ChannelScaler().fit_transform(X), y)
print(alone.best_params_)

# %%
# What the distilled images look like
# -----------------------------------
#
# They are in the pixel space of the scaler.  ``to_images`` applies the inverse of the
# steps of the pipeline before the classifier.

best = search.best_estimator_
synthetic = best[-1].distiller_.synthetic_
pixels = synthetic.to_images(best[:-1], value_range=(0, 16))
fig, axes = plt.subplots(1, 10, figsize=(10, 1.4))
for ax, label in zip(axes, best.classes_, strict=True):
    ax.imshow(pixels[np.flatnonzero(synthetic.y == label)[0]])
    ax.set_title(label)
    ax.axis("off")

# %%
# How many real images does a distillation need?
# ----------------------------------------------

sizes, _, test = learning_curve(model, X, y, train_sizes=[0.4, 1.0], cv=cv)
fig, ax = plt.subplots(figsize=(5, 3))
ax.errorbar(sizes, test.mean(axis=1), test.std(axis=1), marker="o", capsize=3)
ax.set(xlabel="real images", ylabel="accuracy on others", ylim=(0, 1))
fig.tight_layout()

# %%
# Calibrated probabilities, and a vote with other classifiers
# -----------------------------------------------------------

calibrated = CalibratedClassifierCV(model, cv=cv).fit(X, y)
print(calibrated.predict_proba(X[:1]).round(2))

vote = VotingClassifier([("distilled", model), ("all", network)], voting="soft")
print(f"{vote.fit(X, y).score(X, y):.2f} on what it was trained on")

# %%
# Teachers that are trained once
# ------------------------------
#
# Training teachers takes most of the time.  A search over the distiller's own
# parameters can use the same teachers throughout, in a ``FrozenEstimator``.  However,
# they were trained on the images of all folds, so that the scores are biased and cannot
# be compared with others; the distiller warns about this.

scaled = ChannelScaler().fit_transform(X)
fitted = clone(teachers).fit(scaled, y)
frozen = clone(distiller).set_params(buffer=FrozenEstimator(fitted))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    GridSearchCV(frozen, {"n_steps": [3, 5]}, cv=cv).fit(scaled, y)
print(caught[0].message)

# %%
# Sample weights
# --------------
#
# ``sample_weight`` counts in the training of the teachers.  With metadata routing it
# is routed through pipelines and searches to the estimators that request it.

weight = np.random.default_rng(0).uniform(0.5, 1.5, len(X))
with sklearn.config_context(enable_metadata_routing=True):
    asking = clone(distiller).set_fit_request(sample_weight=True)
    weighted = make_pipeline(ChannelScaler(), DistilledClassifier(asking, network))
    weighted.fit(X, y, sample_weight=weight)

# %%
# A sampler for imbalanced-learn
# ------------------------------
#
# ``fit_resample`` returns the distilled images in place of the real ones.  A plain
# pipeline cannot change the number of samples, one of imbalanced-learn can::
#
#     from imblearn.pipeline import make_pipeline
#     make_pipeline(ChannelScaler(), distiller, network).fit(X, y)

X_synthetic, y_synthetic = distiller.fit_resample(scaled, y)
print(f"{len(X)} images became {len(X_synthetic)}")
