"""
================================================
Nine galaxies that stand for thousands of others
================================================

From a catalog of volunteers' votes and image cutouts to one distilled image per
class: images are selected by the votes, teachers are trained on them, and nine
synthetic images are optimized until a network trained only on these nine follows the
teachers.  How well does it classify new galaxies?

Without arguments the galaxies are simulated.  With a folder that holds ``votes.csv``
and ``images/`` in the layout of Galaxy Zoo 2, they are real::

    python examples/plot_discover_galaxies.py --data path/to/folder

All results are also written to ``demo-output/``, starting with the pictures of the
distilled galaxies, which can be viewed while the scores are being computed.

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
from tqdm import tqdm

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
print(f"Two to three minutes on two free cores; what comes out goes to {output}/")

SIZE = 32  # pixels on a side that the networks see
WIDTH = 32  # channels of their convolutions
SEED = 0

# %%
# A catalog with votes, and images
# ----------------------------------
#
# A simulated survey is written to disk in the layout of the real one, so that the rest
# of the example is the same for both.

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
# A galaxy's class is the leaf of the decision tree to which most of the votes lead.  A
# fifth of the galaxies is held out and only used for the scores.

curator = GalaxyZooCurator(
    n_train=None, n_test=0.2, votes="debiased", random_state=SEED
)
selected, labels = curator.fit_resample(catalog)
print(curator.summary_.to_string(float_format="%.2f"))

is_test = (selected["split"] == "test").to_numpy()
# Galaxies have no preferred orientation: every training galaxy is shown in four.
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
# One progress bar for all steps
# ------------------------------
#
# A scikit-learn callback is called for each teacher and each iteration of the
# distiller. The shares of the time of the parts were measured on another machine, so
# that the remaining time is an estimate.


class Progress:
    """A bar over the parts of the demo, which says how long is left of them all."""

    SHARES = {"teachers": 37, "distillation": 45, "evaluation": 18}

    def __init__(self):
        self.bar = tqdm(
            total=sum(self.SHARES.values()),
            smoothing=0,  # by the mean speed since the start
            bar_format="{desc}{percentage:3.0f}%|{bar}| "
            "{elapsed} so far, {remaining} left{postfix}",
        )

    def begin(self, part, n_steps):
        """Begin the next part, which takes a number of steps."""
        before = list(self.SHARES)[: list(self.SHARES).index(part)]
        # Previous parts are complete, even if they have not reported their steps.
        self.bar.n = sum(self.SHARES[name] for name in before)
        self.step = self.SHARES[part] / n_steps
        self.bar.set_description(part)

    def watch(self, estimator, part, n_steps):
        """Have an estimator report its steps, if scikit-learn is 1.9 or newer."""
        self.begin(part, n_steps)
        if hasattr(estimator, "set_callbacks"):
            estimator.set_callbacks(self)
        return estimator

    def advance(self, n_steps=1, **numbers):
        """Report completed steps."""
        self.bar.set_postfix(numbers, refresh=False)
        # Rounded shares may add up to more than all.
        left = self.bar.total - self.bar.n
        self.bar.update(min(n_steps * self.step, left))

    def end(self):
        """Fill the bar."""
        self.bar.n = self.bar.total
        self.bar.close()

    def setup(self, estimator, context):
        """Do nothing: the bar is there before the fit."""

    def teardown(self, estimator, context):
        """Do nothing: the bar stays for the next part."""

    def on_fit_task_begin(self, estimator, context):
        """Do nothing: steps count when they are done."""

    def on_fit_task_end(self, estimator, context):
        """Count a step, but not the fit itself, which ends too."""
        if context.task_name in ("teacher", "iteration"):
            self.advance()


# %%
# Teachers and distilled images
# -----------------------------

N_TEACHERS = 6
N_ITERATIONS = 240

progress = Progress()
teachers = TrajectoryBuffer(
    n_teachers=N_TEACHERS, n_epochs=10, width=WIDTH, n_jobs=2, random_state=SEED
)
progress.watch(teachers, "teachers", N_TEACHERS).fit(X_train, y_train)

distiller = STMDistiller(
    ipc=1, buffer=teachers, max_total_iter=N_ITERATIONS, random_state=SEED
)
progress.watch(distiller, "distillation", N_ITERATIONS).fit(X_train, y_train)
distilled = distiller.synthetic_
distilled.save(output / "synthetic.safetensors")
tqdm.write(f"{distiller.n_iter_} iterations, T = {distiller.n_epochs_matched_} epochs")

# %%
# What do they look like?
# -----------------------
#
# Above is the training galaxy of each class with the highest confidence of the
# volunteers, below the distilled image, both in the original colors.

classes = list(curator.classes_)  # in the order of the decision tree
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
# Progress of the matching
# ------------------------
#
# The matching loss compares a student that was trained on the nine images with the
# teachers' next epoch; 1 means that the student is as far away as when it started.  The
# validation loss does the same for an epoch that is not matched yet: when it falls
# significantly, that epoch is added to the pool.

history, stages = distiller.history_, distiller.stages_
figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
for column, label in {
    "loss": "matching loss",
    "validation_loss": "validation loss (the next epoch)",
}.items():
    (line,) = ax.plot(history[column], alpha=0.25)
    smooth = history[column].rolling(21, min_periods=1, center=True).mean()
    ax.plot(smooth, color=line.get_color(), label=label)
for index, stage in stages.iloc[1:].iterrows():
    first = stage["first_iteration"]
    ax.axvline(
        first, color="gray", linestyle=":", label=None if index > 1 else "expanded"
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
tqdm.write(f"The distilled galaxies are in {output}/distilled.png")

# %%
# How good are they?
# ------------------
#
# The teachers represent training on all real images and are scored directly.  Five
# networks are trained on the distilled images, and fifteen on random real images of the
# same number, each on a different sample, since the sample matters more than the
# network.  Both small sets use the best learning rate of the same grid, determined with
# five networks for each rate; the ten other samples use only this rate.

RATES = (0.001, 0.005, 0.01)
N_NETWORKS, N_CHOICES = 5, 15
rng = np.random.default_rng(SEED)


def network(rate, **parameters):
    """Return the network that is trained on each small set."""
    return ConvNetClassifier(
        width=WIDTH, learning_rate=rate, max_iter=250, **parameters
    )


def random_images():
    """Choose one real image of each class."""
    chosen = [rng.choice(np.flatnonzero(y_train == label)) for label in classes]
    return X_train[chosen], y_train[chosen]


def train_on(tasks):
    """Train networks on sets at rates, and return a row for each network."""
    jobs = (
        delayed(evaluate_synthetic)(
            images,
            X_test,
            y_test,
            estimator=network(rate),
            n_repeats=n_networks,
            at_once=True,
            random_state=seed,
        )
        for seed, (_, rate, images, n_networks) in enumerate(tasks)
    )
    found = Parallel(n_jobs=2, batch_size=1, return_as="generator")(jobs)
    rows = []
    for (arm, rate, images, _), score in zip(tasks, found, strict=True):
        rows += [(arm, len(images[1]), rate, accuracy) for accuracy in score.scores]
        progress.advance(len(score.scores), arm=arm, accuracy=f"{score.mean:.3f}")
    return rows


n_first = 2 * N_NETWORKS * len(RATES)
progress.begin("evaluation", n_first + N_CHOICES - N_NETWORKS)
rows = [
    ("all real images", len(X_train), teachers.learning_rate, accuracy)
    for accuracy in (
        teachers.classifier(number).score(X_test, y_test)
        for number in range(N_TEACHERS)
    )
]
choices = [random_images() for _ in range(N_CHOICES)]
# The longest tasks come first, so that both processes end at about the same time.
rows += train_on(
    [("distilled images", rate, tuple(distilled), N_NETWORKS) for rate in RATES]
    + [
        ("random real images", rate, some, 1)
        for rate in RATES
        for some in choices[:N_NETWORKS]
    ]
)
columns = ["trained on", "images", "rate", "accuracy"]
means = pd.DataFrame(rows, columns=columns).groupby(columns[:3])["accuracy"].mean()
best = means.groupby("trained on").idxmax()  # triples: arm, images, rate
rate = best["random real images"][2]
rows += train_on(
    [("random real images", rate, some, 1) for some in choices[N_NETWORKS:]]
)
progress.end()

results = pd.DataFrame(rows, columns=columns).groupby(columns[:3])["accuracy"]
scores = results.agg(["mean", "std", "count"])
scores.reset_index().to_csv(output / "scores.csv", index=False)
table = scores.loc[best.tolist()].reset_index().sort_values("mean")
print(f"\nAccuracy on {len(X_test)} galaxies of {len(classes)} classes, held out:\n")
print(table.to_string(index=False, float_format="%.3f"))

# %%
# Confusion matrix
# ----------------

rate = best["distilled images"][2]
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
