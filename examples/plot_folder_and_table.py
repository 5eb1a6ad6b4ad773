"""
=========================================
A folder of images and a table of classes
=========================================

A typical data set in astronomy: cutouts named after the galaxies, and a catalog with
the class of each, with arbitrary column names.  Two lines convert them to arrays, and
report problems of files or rows before any work starts.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.model_selection import GroupShuffleSplit

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DMDistiller,
    evaluate_synthetic,
    load_image_folder,
    make_galaxies,
)

# %%
# The files
# ---------
#
# Simulated galaxies of three classes replace those of a survey.

survey = Path(tempfile.mkdtemp())  # a folder of yours
X, y = make_galaxies(720, size=32, random_state=0)
kinds = {0: "round", 2: "cigar-shaped", 5: "spiral"}
chosen = np.flatnonzero(np.isin(y, list(kinds)))
(survey / "cutouts").mkdir()
for k in chosen:
    pixels = (255 * X[k]).astype(np.uint8)
    Image.fromarray(pixels).save(survey / "cutouts" / f"J{k:04d}.PNG")
catalog = pd.DataFrame(
    {
        "Galaxy": [f"J{k:04d}" for k in chosen],
        "z": np.round(0.01 + 0.1 * np.arange(len(chosen)) / len(chosen), 3),
        "Morphology": [kinds[k] for k in y[chosen]],
        "Field": [f"F{k % 12}" for k in chosen],
    }
)
catalog.to_csv(survey / "catalog.csv", index=False)
print(catalog.head(3).to_string(index=False))

# %%
# Loading
# -------
#
# The catalog has its own column names.  By default the function guesses the columns,
# and a warning reports the guess.

columns = {"file_column": "Galaxy", "class_column": "Morphology"}
galaxies = load_image_folder(survey / "catalog.csv", **columns)
print(galaxies.data.shape, galaxies.data.dtype, galaxies.target_names)

# %%
# Messages name the problem: here a galaxy without a class, and a truncated image.

broken = catalog.copy()
broken.loc[7, "Morphology"] = None
try:
    load_image_folder(broken, images_dir=survey, **columns)
except ValueError as error:
    print(error)

path = survey / "cutouts" / f"{catalog['Galaxy'][3]}.PNG"
content = path.read_bytes()
path.write_bytes(content[:-100])
try:
    load_image_folder(survey / "catalog.csv", **columns)
except ValueError as error:
    print(str(error).replace(str(survey), "survey"))
path.write_bytes(content)

# %%
# Distillation
# ------------
#
# The result includes the rows of the catalog, so that galaxies of the same field, which
# may overlap, are kept in the same part of the split.

split = GroupShuffleSplit(n_splits=1, test_size=0.3, random_state=0)
train, test = next(split.split(galaxies.data, groups=galaxies.frame["Field"]))
scaler = ChannelScaler()
X_train = scaler.fit_transform(galaxies.data[train])
X_test = scaler.transform(galaxies.data[test])
distiller = DMDistiller(ipc=2, max_iter=60, width=16, random_state=0)
distiller.fit(X_train, galaxies.target[train])
scores = evaluate_synthetic(
    distiller.synthetic_,
    X_test,
    galaxies.target[test],
    estimator=ConvNetClassifier(width=16, max_iter=100),
    n_repeats=3,
    random_state=0,
).scores
print(f"accuracy {scores.mean():.2f}, trained on two images of each of three classes")

# %%
# The names of the classes are in the distilled set.

synthetic = distiller.synthetic_
fig, axes = plt.subplots(1, 6, figsize=(9, 1.9), layout="constrained")
pictures = synthetic.to_images(scaler, value_range=(0, 255))
for ax, picture, label in zip(axes, pictures, synthetic.y, strict=True):
    ax.imshow(picture)
    ax.set(xticks=[], yticks=[], title=label)
