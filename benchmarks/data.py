"""Speed of simulating and of reading galaxies on one core, and memory of the former.

Reading is compared with what Pillow needs to decode the same files alone.  The files
are JPEGs of 424 x 424 pixels, simulated unless a folder with real ones is given.
"""

import argparse
import tempfile
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from skdistill import ImageReader, RotationAugmenter, make_galaxies


def timed(function, n_repeats=3):
    """Return the least of some times, in seconds."""
    seconds = []
    for _ in range(n_repeats):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def memory_beyond_images(n_samples, **settings):
    """Return the peak of memory less the result, in MB."""
    tracemalloc.start()
    X, _ = make_galaxies(n_samples, **settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - X.nbytes) / 1e6


def decode(paths):
    for path in paths:
        with Image.open(path) as image:
            image.load()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of .jpg files")
    options = parser.parse_args()

    far = {"redshift": (0.03, 0.12), "scale_cutouts": True, "psf": "moffat"}
    for name, style in {
        "textbook": {},
        "survey": {"style": "survey"},
        "survey, far, Moffat seeing": {"style": "survey", **far},
    }.items():
        settings = {"size": 64, "random_state": 0, **style}
        seconds = timed(partial(make_galaxies, 1000, **settings))
        extra = [memory_beyond_images(n, **settings) for n in (1000, 4000)]
        print(
            f"make_galaxies, {name}: {1000 / seconds:,.0f} images a second at 64 px; "
            f"beside 1,000 images {extra[0]:.0f} MB, beside 4,000 {extra[1]:.0f} MB"
        )

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.images
        if folder is None:
            folder = Path(temporary)
            images, _ = make_galaxies(60, size=424, random_state=0)
            for index, image in enumerate(images):
                pixels = Image.fromarray((image * 255).astype(np.uint8))
                pixels.save(folder / f"{index}.jpg", quality=90)
        rows = pd.DataFrame({"path": [str(p) for p in sorted(folder.glob("*.jpg"))]})
        rotated, _ = RotationAugmenter(n_rotations=10).fit_resample(rows)
        tasks = {
            "Pillow, decoding alone": (lambda: decode(rows["path"]), len(rows)),
            "ImageReader": (lambda: ImageReader().transform(rows), len(rows)),
            "ImageReader, rotated by 36 degrees": (
                lambda: ImageReader().transform(rows.assign(rotation=36.0)),
                len(rows),
            ),
            "ImageReader, 10 rotations of each": (
                lambda: ImageReader().transform(rotated),
                len(rotated),
            ),
        }
        table = pd.DataFrame(
            [(name, n / timed(task)) for name, (task, n) in tasks.items()],
            columns=["what", "images a second"],
        )
    table["share of decoding"] = table["images a second"] / table["images a second"][0]
    print(table.to_string(index=False, float_format="%.2f"))
    table.to_csv("benchmarks/data.csv", index=False)


if __name__ == "__main__":
    main()
