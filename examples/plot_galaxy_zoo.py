"""
================================================
From the files of Galaxy Zoo 2 to a training set
================================================

The public files are a table of votes, a table that joins it with the images, and a
folder of images.  A training set is an array of images, with equally many of each
class, of galaxies that the volunteers agree on, in several orientations.  This example
creates it step by step.

Without arguments the files are simulated, in the layout of the public ones.  With a
folder that holds ``gz2_hart16.csv.gz``, ``gz2_filename_mapping.csv`` and ``images/``,
or ``votes.csv`` (with a column ``asset_id``) and ``images/``, they are real::

    python examples/plot_galaxy_zoo.py --data path/to/folder
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, StratifiedGroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    GalaxyZooCurator,
    ImageReader,
    RotationAugmenter,
    load_galaxy_zoo2,
    make_galaxies,
)
from skdistill.inspection import ConfidenceDisplay, TreeDisplay

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, help="folder with votes and images/")
parser.add_argument("--output", type=Path, help="file for the picture of the tree")
arguments, _ = parser.parse_known_args()

# %%
# The files
# ---------
#
# The simulated survey has the problems of the real one: most galaxies are smooth,
# distant ones are blurred, and the volunteers disagree.  It has fewer images than the
# real survey, and they are smaller than the published 424 pixels.

folder, crop = arguments.data, 0.5  # a galaxy fills about half of its cutout
if folder is None:
    temporary = tempfile.TemporaryDirectory()
    folder, crop = Path(temporary.name), 0.7
    (folder / "images").mkdir()
    images, truth, votes = make_galaxies(
        1600,
        size=96,
        style="survey",
        redshift=(0.03, 0.10),
        scale_cutouts=True,
        weights="gz2",
        random_state=0,
        return_votes=True,
    )
    for asset_id, image in zip(votes["asset_id"], images, strict=True):
        pixels = Image.fromarray((image * 255).round().astype(np.uint8))
        pixels.save(folder / "images" / f"{asset_id}.jpg", quality=90)
    mapping = votes[["dr7objid", "asset_id"]].rename(columns={"dr7objid": "objid"})
    mapping.to_csv(folder / "gz2_filename_mapping.csv", index=False)
    votes.drop(columns="asset_id").to_csv(folder / "gz2_hart16.csv.gz", index=False)

# %%
# A catalog
# -----------
#
# The identifiers have 18 digits and are read as integers: as floats, different galaxies
# would have the same identifier.  Galaxies without an image are dropped, and counted in
# a warning.

votes_file, mapping_file = folder / "gz2_hart16.csv.gz", None
if votes_file.exists():
    mapping_file = folder / "gz2_filename_mapping.csv"
else:
    votes_file = folder / "votes.csv"
catalog = load_galaxy_zoo2(votes_file, folder / "images", mapping_file)
print(f"{len(catalog):,} galaxies with images, {catalog.shape[1]} columns")

# %%
# Classes and selected galaxies
# -----------------------------
#
# The class of a galaxy is the leaf of the decision tree with the highest product of
# votes; that product is its confidence.  The same number of galaxies is selected from
# each class, the most confident first.  For all of Galaxy Zoo 2 use 500 and 100 per
# class.  The plot shows the confidences of all galaxies, and of the selected ones.

curator = GalaxyZooCurator(n_train=9, n_test=3, votes="debiased", random_state=0)
selected, labels = curator.fit_resample(catalog)
print(curator.summary_.to_string(float_format="%.2f"))
ConfidenceDisplay.from_estimator(curator)

# %%
# Rotations, and images
# ---------------------
#
# Rows are repeated, not images: the reader rotates what it decodes before the crop, so
# that the corners show sky.  Test galaxies are not rotated.  If the images do not fit
# into memory, ``out="images.npy"`` writes them to a file.

is_test = (selected["split"] == "test").to_numpy()
augmenter = RotationAugmenter(n_rotations=10)
rows, y_train = augmenter.fit_resample(selected[~is_test], labels[~is_test])
y_test = labels[is_test]

reader = ImageReader(size=32, crop=crop, n_jobs=2)
X_train, X_test = reader.transform(rows), reader.transform(selected[is_test])
print(f"to train on {X_train.shape}, to test on {X_test.shape}, {X_train.dtype}")
print(f"{len(y_train) // 9} images of each of {len(set(y_train))} classes")

# %%
# Groups in a split
# -----------------
#
# Ten images of a galaxy are not ten galaxies.  If they are in both parts of a split, a
# classifier is tested on galaxies of its training set, and the score is too high.
# ``groups_`` of the augmenter identifies the rows of each galaxy.  The folds are
# shuffled, since the rows are sorted by confidence.

model = make_pipeline(
    ChannelScaler(image_shape=X_train.shape[1:]),
    PCA(30, random_state=0),
    KNeighborsClassifier(5, weights="distance"),
)
flat = X_train.reshape(len(X_train), -1)
groups = augmenter.groups_
folds = {"n_splits": 9, "shuffle": True, "random_state": 0}
apart = StratifiedGroupKFold(**folds)
scores = cross_val_score(model, flat, y_train, groups=groups, cv=apart)
leaked = cross_val_score(model, flat, y_train, cv=KFold(**folds))
model.fit(flat, y_train)
held_out = model.score(X_test.reshape(len(X_test), -1), y_test)
print(f"accuracy with the groups kept together {scores.mean():.2f}")
print(f"         with copies on both sides     {leaked.mean():.2f}")
error = np.sqrt(held_out * (1 - held_out) / len(y_test))
print(f"         on {len(y_test)} galaxies held out       {held_out:.2f} ± {error:.2f}")

# %%
# The tree
# --------
#
# At each leaf are the galaxies with the highest confidence.

pictures = ImageReader(size=96, crop=crop, n_jobs=2).transform(selected)
display = TreeDisplay.from_data(
    pictures,
    labels,
    tree=curator,
    row_title="most confident",
    n_images=4,
    value_range=(0, 255),
    interpolation="bicubic",
)
if arguments.output is not None:
    display.figure_.savefig(arguments.output, dpi=120, bbox_inches="tight")
plt.show()
