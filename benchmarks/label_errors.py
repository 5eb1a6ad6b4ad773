"""Label errors that teachers find: precision on labels with planted errors.

A share of the labels is replaced by another class at random, teachers are trained on
these, and find_label_errors ranks the images.  The result is the share of planted
errors among the same number of top-ranked images, over seeds; by chance it is the share
planted.  Errors that the labels had before do not count as found.

    python benchmarks/label_errors.py
    python benchmarks/label_errors.py --data galaxies --images-dir galaxies/images

Without --data the images are the digits of scikit-learn; --data is what
load_image_folder takes: a folder for each class, or a table of files and classes.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from skdistill import ChannelScaler, TrajectoryBuffer
from skdistill.datasets import load_image_folder
from skdistill.inspection import find_label_errors


def images_of(arguments):
    """Return images and labels."""
    if arguments.data is None:
        X, y = load_digits(return_X_y=True)
        X = X.reshape(-1, 8, 8, 1)
    else:
        X, y = load_image_folder(
            arguments.data,
            images_dir=arguments.images_dir,
            class_column=arguments.class_column,
            size=arguments.size,
            return_X_y=True,
        )
    y = np.asarray(y)
    if arguments.images is not None and arguments.images < len(y):
        rows = np.random.default_rng(0).permutation(len(y))[: arguments.images]
        X, y = X[rows], y[rows]
    return ChannelScaler().fit_transform(X), y


def plant(y, share, rng):
    """Return labels of which a share is wrong, and the rows of these."""
    planted, classes = y.copy(), np.unique(y)
    rows = rng.choice(len(y), round(share * len(y)), replace=False)
    for row in rows:
        planted[row] = rng.choice(classes[classes != y[row]])
    return planted, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images-dir", type=Path)
    parser.add_argument("--class-column")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, help="take so many at random")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teachers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--out", type=Path, default=Path("label_errors.csv"))
    arguments = parser.parse_args()
    X, y = images_of(arguments)
    found = []
    for seed in range(arguments.seeds):
        planted, rows = plant(y, arguments.share, np.random.default_rng(seed))
        buffer = TrajectoryBuffer(
            n_teachers=arguments.teachers,
            n_epochs=arguments.epochs,
            width=arguments.width,
            depth=2 if min(X.shape[1:3]) < 16 else 3,
            learning_rate=arguments.learning_rate,
            random_state=seed,
        ).fit(X, planted)
        table = find_label_errors(buffer, X, planted)
        top = table.head(len(rows))
        is_planted = top["row"].isin(rows)
        right = top["suggested"].to_numpy() == y[top["row"]]
        found.append(
            {
                "seed": seed,
                "n_images": len(y),
                "n_planted": len(rows),
                "precision": is_planted.mean(),
                "by_chance": arguments.share,
                "true_label_suggested": right[is_planted].mean(),
                "negative_margins": (table["margin"] < 0).sum(),
            }
        )
        print(pd.DataFrame(found[-1:]).to_string(index=False), flush=True)
    results = pd.DataFrame(found)
    results.to_csv(arguments.out, index=False)
    mean, deviation = results["precision"].agg(["mean", "std"])
    print(
        f"\nprecision at the number planted: {mean:.2f} (deviation over seeds "
        f"{deviation:.2f}), by chance {arguments.share:.2f}"
    )


if __name__ == "__main__":
    main()
