"""Speed and memory of reading images, on one core.

Speed is compared with decoding the same files by Pillow alone, and with a plain loop:
open, rotate, crop, resize.  All take turns in one run and are compared by CPU time, so
that other work on the machine does not matter much.  Memory is that of reading many
images into a file, in a process of its own.

The files are the JPEGs of 424 x 424 pixels in ../shared, or simulated ones.
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from skdistill import ImageReader, RotationAugmenter, make_galaxies

REAL = Path(__file__).parents[1] / ".." / "shared" / "data" / "gz2-sample" / "images"


def decode(paths):
    for path in paths:
        with Image.open(path) as image:
            image.load()


def plain_loop(paths, angle=0.0):
    X = np.empty((len(paths), 128, 128, 3), dtype=np.uint8)
    for i, path in enumerate(paths):
        with Image.open(path) as file:
            image = file.convert("RGB")
        if angle:
            image = image.rotate(angle, resample=Image.Resampling.BILINEAR)
        side = round(0.5 * min(image.size))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        X[i] = image.resize((128, 128), Image.Resampling.BOX)
    return X


def simulate(folder):
    images, _ = make_galaxies(60, size=424, random_state=0)
    for index, image in enumerate(images):
        pixels = Image.fromarray((image * 255).astype(np.uint8))
        pixels.save(folder / f"{index}.jpg", quality=90)


def speeds(paths, zip_path, n_rounds):
    """Images a second of each way, and the share of decoding alone."""
    rows = pd.DataFrame({"path": paths})
    turned = rows.assign(rotation=36.0)
    ten, _ = RotationAugmenter(10).fit_resample(rows.iloc[: len(rows) // 10])
    zipped = pd.DataFrame({"path": [Path(path).name for path in paths]})
    ways = {
        "Pillow, decoding alone": (lambda: decode(paths), len(rows)),
        "plain loop": (lambda: plain_loop(paths), len(rows)),
        "ImageReader": (lambda: ImageReader(crop=0.5).transform(rows), len(rows)),
        "plain loop, rotated": (lambda: plain_loop(paths, 36.0), len(rows)),
        "ImageReader, rotated": (
            lambda: ImageReader(crop=0.5).transform(turned),
            len(rows),
        ),
        "ImageReader, 10 rotations": (
            lambda: ImageReader(crop=0.5).transform(ten),
            len(ten),
        ),
        "ImageReader, from a zip": (
            lambda: ImageReader(images_dir=zip_path, crop=0.5).transform(zipped),
            len(rows),
        ),
    }
    least = dict.fromkeys(ways, np.inf)
    for _ in range(n_rounds):
        for name, (way, _) in ways.items():
            begin = time.process_time()
            way()
            least[name] = min(least[name], time.process_time() - begin)
    table = pd.DataFrame(
        {"images a second": [n / least[name] for name, (_, n) in ways.items()]},
        index=pd.Index(ways, name="way"),
    )
    table["share of decoding"] = (
        table["images a second"] / table["images a second"].iloc[0]
    )
    return table


def read_many(paths, n_images, in_file, sender):
    """Read images in a process of its own; send MiB above the start, and seconds."""
    process = psutil.Process()
    rows = pd.DataFrame({"path": np.resize(paths, n_images)})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "X.npy" if in_file else None
        ImageReader(crop=0.5).transform(rows.iloc[:10])
        start = peak = process.memory_info().rss
        done = threading.Event()

        def watch():
            nonlocal peak
            while not done.wait(0.02):
                peak = max(peak, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        begin = time.perf_counter()
        X = ImageReader(out=out, crop=0.5).transform(rows)
        seconds = time.perf_counter() - begin
        done.set()
        watcher.join()
        sender.send(((peak - start) / 2**20, X.nbytes / 2**20, seconds))


def memory(paths, n_images, in_file):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=read_many, args=(paths, n_images, in_file, sender)
    )
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of .jpg files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=45_000, help="0 leaves it out")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.images or (REAL if REAL.is_dir() else None)
        print("real files" if folder else "simulated files")
        if folder is None:
            folder = Path(temporary)
            simulate(folder)
        paths = [str(path.resolve()) for path in sorted(folder.glob("*.jpg"))]
        zip_path = Path(temporary) / "images.zip"
        with zipfile.ZipFile(zip_path, "w") as archive:
            for path in paths:
                archive.write(path, Path(path).name)
        table = speeds(paths, zip_path, options.rounds)
        print(table.to_string(float_format="%.3f"))
        table.to_csv(Path(__file__).with_name("reader.csv"))

        if options.many:
            rows = []
            for n, in_file in ((5_000, False), (5_000, True), (options.many, True)):
                peak, result, seconds = memory(paths, n, in_file)
                rows.append((n, "file" if in_file else "memory", result, peak, seconds))
            table = pd.DataFrame(
                rows, columns=["images", "result in", "result MiB", "peak MiB", "s"]
            )
            print(table.to_string(index=False, float_format="%.0f"))
            table.to_csv(Path(__file__).with_name("reader_memory.csv"), index=False)


if __name__ == "__main__":
    main()
