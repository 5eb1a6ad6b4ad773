"""
================================================
Nine galaxies that stand for thousands of others
================================================

From a catalogue of volunteers' votes and image cutouts to one distilled image per
class: the images are chosen by the votes, teachers are trained on them, and nine
synthetic images are optimised until a network that is trained on just those nine
follows the teachers.  How well does it classify galaxies that nobody has shown it?

Without arguments the galaxies are simulated.  With a folder that holds ``votes.csv``
and ``images/`` in the layout of Galaxy Zoo 2, they are real::

    python examples/plot_discover_galaxies.py --data path/to/folder

Everything that is shown here is also written to ``demo-output/``.

.. image:: /images/distilled.png
   :alt: Nine simulated galaxies above the nine distilled images of their classes.
   :width: 100%
"""

# sphinx_gallery_thumbnail_path = "images/distilled.png"

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image
from sklearn.metrics import ConfusionMatrixDisplay
from tqdm.auto import tqdm

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    GalaxyZooCurator,
    ImageReader,
    RotationAugmenter,
    STMDistiller,
    TrajectoryBuffer,
    evaluate_synthetic,
    load_galaxy_zoo2,
    make_galaxies,
)

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, help="folder with votes.csv and images/")
parser.add_argument("--output", type=Path, default=Path("demo-output"))
arguments = parser.parse_args()
output = arguments.output
output.mkdir(parents=True, exist_ok=True)

SIZE = 32  # pixels on a side that the networks see
WIDTH = 32  # channels of their convolutions
SEED = 0

# %%
# A catalogue with votes, and images
# ----------------------------------
#
# A simulated survey is written to disk in the layout of the real one, so that all
# that follows is the same for both.

folder = arguments.data
crop = 0.5  # a galaxy of Galaxy Zoo 2 fills about half of its cutout
if folder is None:
    folder = output / "simulated"
    crop = 0.7  # the simulated ones fill a little more
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, _, votes = make_galaxies(900, random_state=SEED, return_votes=True)
    for asset_id, image in zip(votes["asset_id"], images, strict=True):
        pixels = Image.fromarray((image * 255).round().astype(np.uint8))
        pixels.save(folder / "images" / f"{asset_id}.png")
    votes.to_csv(folder / "votes.csv", index=False)

catalog = load_galaxy_zoo2(folder / "votes.csv", folder / "images")

# %%
# Choosing galaxies
# -----------------
#
# A galaxy's class is the leaf of the decision tree that most of the votes lead to.  A
# fifth of the galaxies is held out: nothing below sees them before the scores.

curator = GalaxyZooCurator(
    n_train=None, n_test=0.2, votes="debiased", random_state=SEED
)
selected, labels = curator.fit_resample(catalog)
print(curator.summary_.to_string(float_format="%.2f"))

is_test = (selected["split"] == "test").to_numpy()
# The sky has no up: every training galaxy is shown in four orientations.
rows, y_train = RotationAugmenter(n_rotations=4).fit_resample(
    selected[~is_test], labels[~is_test]
)
y_test = labels[is_test]

reader = ImageReader(size=SIZE, crop=crop, n_jobs=2)
scaler = ChannelScaler()
X_train = scaler.fit_transform(reader.transform(rows))
X_test = scaler.transform(reader.transform(selected[is_test]))
print(f"{len(X_train)} images to learn from, {len(X_test)} galaxies held out")

# %%
# Teachers, and the images that teach the same
# --------------------------------------------

teachers = TrajectoryBuffer(
    n_teachers=6,
    n_epochs=10,
    width=WIDTH,
    n_jobs=2,
    random_state=SEED,
    verbose=1,
).fit(X_train, y_train)

distiller = STMDistiller(
    ipc=1, buffer=teachers, max_total_iter=350, random_state=SEED, verbose=1
).fit(X_train, y_train)
distilled = distiller.synthetic_
distilled.save(output / "synthetic.safetensors")
print(f"{distiller.n_iter_} iterations, T = {distiller.n_epochs_matched_} epochs")

# %%
# How good are they?
# ------------------
#
# Five networks are trained on the distilled images, and five on all real ones.  Of
# random real images, as many as distilled ones, fifteen networks get a choice each,
# since it matters more than the network which galaxies are drawn.  Both small sets get
# the best rate of one grid.

RATES = (0.001, 0.005, 0.01, 0.05)
classes = list(curator.classes_)  # in the order of the decision tree
rng = np.random.default_rng(SEED)


def network(rate, max_iter=250, **parameters):
    """Return the network that is trained on each set."""
    return ConvNetClassifier(
        width=WIDTH, learning_rate=rate, max_iter=max_iter, **parameters
    )


def random_images():
    """Choose one real image of each class."""
    chosen = [rng.choice(np.flatnonzero(y_train == label)) for label in classes]
    return X_train[chosen], y_train[chosen]


everything = network(0.02, 12, batch_size=64, class_weight="balanced")
tasks = [("all real images", 0.02, (X_train, y_train), everything)] * 5
random_sets = [random_images() for _ in range(15)]
for rate in RATES:
    tasks += [("random real images", rate, some, network(rate)) for some in random_sets]
    tasks += [("distilled images", rate, tuple(distilled), network(rate))] * 5

jobs = (
    delayed(evaluate_synthetic)(
        images, X_test, y_test, estimator=estimator, n_repeats=1, random_state=seed
    )
    for seed, (_, _, images, estimator) in enumerate(tasks)
)
rows = []
with tqdm(total=len(tasks), desc="evaluation", unit="network") as bar:
    done = Parallel(n_jobs=2, return_as="generator")(jobs)
    for (arm, rate, images, _), score in zip(tasks, done, strict=True):
        rows.append((arm, len(images[1]), rate, score.mean))
        bar.set_postfix(arm=arm, accuracy=f"{score.mean:.3f}")
        bar.update()

columns = ["trained on", "images", "rate", "accuracy"]
results = pd.DataFrame(rows, columns=columns).groupby(columns[:3])["accuracy"]
scores = results.agg(["mean", "std", "count"]).reset_index()
scores.to_csv(output / "scores.csv", index=False)
best = scores.loc[scores.groupby("trained on")["mean"].idxmax()]
best = best.sort_values("mean", ignore_index=True)
print(f"\nAccuracy on {len(X_test)} galaxies of {len(classes)} classes, held out:\n")
print(best.to_string(index=False, float_format="%.3f"))

# %%
# What do they look like?
# -----------------------
#
# Above the training galaxy of each class that the volunteers were surest of, below
# the distilled image, both in the colours that the camera saw.

counts = curator.summary_["selected"]
surest = [np.flatnonzero(y_train == label)[0] for label in classes]
order = [list(distilled.y).index(label) for label in classes]
real = "simulated" if arguments.data is None else "real"
shown = {
    real: scaler.inverse_transform(X_train[surest]),
    "distilled": scaler.inverse_transform(distilled.X[order]),
}
figure, axes = plt.subplots(2, len(classes), figsize=(14, 3.7), layout="constrained")
figure.get_layout_engine().set(hspace=0.01)
for axes_row, (name, images) in zip(axes, shown.items(), strict=True):
    axes_row[0].set_ylabel(name, fontsize=13)
    for ax, image, label in zip(axes_row, images, classes, strict=True):
        ax.imshow((image / 255).clip(0, 1), interpolation="bicubic")
        ax.set(xticks=[], yticks=[])
        if name == real:
            ax.set_title(f"{label}\n({counts[label]} galaxies)", fontsize=9)
figure.savefig(output / "distilled.png", dpi=120)

# %%
# How the images learned
# ----------------------
#
# The matching loss compares a student that was trained on the nine images with the
# teachers' next epoch; 1 means that the student is as far away as when it started.  The
# validation loss does the same for an epoch that is not matched yet: when it falls
# significantly, that epoch is taken in too.

history, stages = distiller.history_, distiller.stages_
figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
for column, label in {
    "loss": "matching loss",
    "probe_loss": "validation loss (the next epoch)",
}.items():
    (line,) = ax.plot(history[column], alpha=0.25)
    smooth = history[column].rolling(21, min_periods=1, center=True).mean()
    ax.plot(smooth, color=line.get_color(), label=label)
for index, stage in stages.iloc[1:].iterrows():
    first = stage["first_iteration"]
    ax.axvline(
        first, color="grey", linestyle=":", label=None if index > 1 else "level-up"
    )
    ax.text(
        first,
        1.0,
        f" T={stage['n_epochs_matched']}",
        transform=ax.get_xaxis_transform(),
        va="top",
        fontsize=9,
    )
ax.set(xlabel="iteration", ylabel="squared distance to the teacher")
ax.set_ylim(0, min(1.3, ax.get_ylim()[1]))
ax.legend(loc="lower left")
figure.savefig(output / "learning.png", dpi=120)

# %%
# What is taken for what
# ----------------------

rate = best.set_index("trained on").loc["distilled images", "rate"]
model = network(rate, random_state=SEED).fit(*distilled)
figure, ax = plt.subplots(figsize=(7.5, 6.5), layout="constrained")
ConfusionMatrixDisplay.from_predictions(
    y_test,
    model.predict(X_test),
    labels=classes,
    normalize="true",
    values_format=".2f",
    xticks_rotation=45,
    cmap="Blues",
    colorbar=False,
    ax=ax,
)
plt.setp(ax.get_xticklabels(), ha="right")
ax.set(title="trained on nine distilled images", xlabel="predicted", ylabel="voted")
figure.savefig(output / "confusion.png", dpi=120)

print(f"\nPictures, scores and the distilled set are in {output}/")
