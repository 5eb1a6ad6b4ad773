"""Speed of simulating and of reading galaxies, on one core.

Reading is compared with what Pillow needs to decode the same files alone.  The files
are JPEGs of 424 x 424 pixels, simulated unless a folder with real ones is given.
"""

import argparse
import tempfile
import time
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


def decode(paths):
    for path in paths:
        with Image.open(path) as image:
            image.load()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of .jpg files")
    options = parser.parse_args()

    seconds = timed(lambda: make_galaxies(1000, size=64, random_state=0))
    print(f"make_galaxies: 1,000 images at 64 px in {seconds:.2f} s")

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
