"""Kill a whole pipeline at random moments, again and again, and compare the bits.

``make soak`` runs it for half an hour.  In each round a pipeline runs once without a
fault: a download, images from it in a reader's file, teachers in a folder, a
distillation with a checkpoint, the saved set and its evaluation.  Then it runs in
another folder and is ended by SIGKILL, SIGTERM or SIGINT, or stopped for a while, or
has a second process beside it on the same files, until it is through.  All that both
have left must be the same.
"""

import argparse
import collections
import hashlib
import http.server
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
import zipfile
from pathlib import Path

STAGES = ("start", "download", "images", "teachers", "distillation", "set", "scores")
SIGNALS = {"SIGKILL": 5, "SIGTERM": 3, "SIGINT": 3}

# What a process ends with where it has not come to the end for a reason that is meant.
INTERRUPTED, REFUSED = 11, 12

OPTIONS = [
    {"labels": "hard", "momentum": 0.0, "storage": "float32"},
    {"labels": "learned", "momentum": 0.9, "storage": "float16"},
    {"labels": "hard", "momentum": 0.9, "storage": "bfloat16"},
]


def pipeline(folder, url, seed, stage, error):
    """Run everything, as a user's script would; what is there already is taken on."""
    try:
        _pipeline(Path(folder), url, seed, stage)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
    except BlockingIOError:
        os._exit(REFUSED)
    except BaseException:
        Path(error).write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def _pipeline(folder, url, seed, stage):
    import numpy as np
    import torch

    import skdistill.curation._array_file as array_file
    import skdistill.distillation._engine._checkpoint as checkpoint_module
    import skdistill.trajectory._jobs as jobs
    from skdistill import (
        ImageReader,
        STMDistiller,
        SyntheticSet,
        TrajectoryBuffer,
        evaluate_synthetic,
    )
    from skdistill.datasets._download import download
    from skdistill.utils._files import atomic_path

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    # All is stored as often as it can be: kills hit writes too.
    array_file._SECONDS_BETWEEN_NOTES = 0.0
    jobs._STORE_SECONDS = 0.0
    jobs._POLL_SECONDS = 0.05
    checkpoint_module._SECONDS = 0.02
    options = OPTIONS[seed % len(OPTIONS)]

    def begin(name):
        stage.value = STAGES.index(name)

    begin("download")
    download(url, folder / "images.zip", n_retries=0)
    begin("images")
    reader = ImageReader(
        images_dir=folder / "images.zip", size=8, crop=1.0, out=folder / "X.npy"
    )
    n_images = 360
    if not (folder / "X.npy").exists():
        reader.fit_transform([f"{number}.png" for number in range(n_images)])
    X = np.load(folder / "X.npy").astype(np.float32) / 255
    y = np.arange(n_images) % 3
    begin("teachers")
    buffer = TrajectoryBuffer(
        n_teachers=3,
        n_epochs=6,
        width=4,
        depth=1,
        learning_rate=0.05,
        momentum=options["momentum"],
        storage=options["storage"],
        path=folder / "teachers",
        random_state=seed,
        device="cpu",
    ).fit(X, y)
    begin("distillation")
    distiller = STMDistiller(
        buffer=buffer,
        n_steps=2,
        step_size=0.05,
        max_iter=30,
        max_total_iter=60,
        threshold=0.5,
        labels=options["labels"],
        checkpoint=folder / "run",
        random_state=seed,
        device="cpu",
    ).fit(X, y)
    if distiller.stop_reason_ == "interrupted":
        raise KeyboardInterrupt
    begin("set")
    distiller.synthetic_.save(folder / "set.safetensors")
    distiller.best_synthetic_.save(folder / "best.safetensors")
    with atomic_path(folder / "history.csv") as path:
        distiller.history_.to_csv(path)
    begin("scores")
    found = evaluate_synthetic(
        SyntheticSet.load(folder / "set.safetensors"),
        X,
        y,
        estimator=distiller._default_estimator().set_params(max_iter=1),
        n_repeats=1,
        random_state=seed,
    )
    with atomic_path(folder / "scores.json") as path:
        path.write_text(json.dumps({"scores": list(map(float, found.scores))}))


class Handler(http.server.BaseHTTPRequestHandler):
    """Send a file, or the rest of it, slowly."""

    content: bytes
    tag: str
    seconds = 0.15

    def do_GET(self):
        first = 0
        if self.headers.get("If-Range") == self.tag and self.headers.get("Range"):
            first = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        rest = self.content[first:]
        self.send_response(206 if first else 200)
        self.send_header("ETag", self.tag)
        self.send_header("Content-Length", str(len(rest)))
        if first:
            size = len(self.content)
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.end_headers()
        try:
            for start in range(0, len(rest), 10_000):
                self.wfile.write(rest[start : start + 10_000])
                time.sleep(self.seconds * 10_000 / len(self.content))
        except OSError:
            pass  # whoever it was for is no more

    def log_message(self, *args):
        pass


def archive(seed):
    """Return a zip of small images of three classes."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for number in range(360):
            pixels = rng.integers(0, 90, (12, 12, 3), dtype=np.uint8)
            if number % 3 == 0:
                pixels[4:7] += 150
            elif number % 3 == 1:
                pixels[:, 4:7] += 150
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, format="PNG")
            # A fixed date, for the same bytes whenever this runs.
            file.writestr(zipfile.ZipInfo(f"{number}.png"), picture.getvalue())
    return stream.getvalue()


def watch(process, stage):
    """Wait for a process, and return the seconds of each of its stages."""
    seconds = [0.0] * len(STAGES)
    before = time.monotonic()
    while process.exitcode is None:
        time.sleep(0.001)
        now = time.monotonic()
        seconds[stage.value] += now - before
        before = now
    return seconds


def results(folder):
    """Return a digest of each file that counts."""
    paths = [folder / "images.zip", folder / "X.npy", *folder.glob("*.safetensors")]
    paths += [*folder.glob("teachers/*.safetensors"), folder / "teachers/manifest.json"]
    paths += [folder / "history.csv", folder / "scores.json"]
    return {
        str(path.relative_to(folder)): hashlib.sha256(content(path)).hexdigest()
        for path in sorted(paths)
    }


def content(path):
    """Return the bytes of a file."""
    if path.parent.name == "teachers" or path.suffix != ".safetensors":
        return path.read_bytes()
    # The entries of a set's header come in any order.
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    said = json.loads(header["__metadata__"]["metadata"])
    # When and by what command it was made.
    said.pop("run", None)
    header["__metadata__"]["metadata"] = said
    return json.dumps(header, sort_keys=True).encode() + data[end:]


class Soak:
    """Rounds of a pipeline with and without faults, and what became of them."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.seed = seed
        self.random = random.Random(seed)
        self.kills = collections.Counter()
        self.others = collections.Counter()
        self.problems = []
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            ["skdistill.curation", "skdistill.distillation", "skdistill.metrics"]
        )
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        # The first process takes long: what all import is imported then.
        process = self.context.Process(target=time.sleep, args=(0,))
        process.start()
        process.join()

    def start(self, folder, seed):
        """Start the pipeline; returns the process and where it says what it is at."""
        stage = self.context.Value("i", 0, lock=False)
        url = f"http://127.0.0.1:{self.server.server_port}/images.zip"
        process = self.context.Process(
            target=pipeline,
            args=(str(folder), url, seed, stage, str(folder) + ".error"),
        )
        process.start()
        return process, stage

    def check_end(self, process, folder):
        """Note an end that is none of those that are meant."""
        code = process.exitcode
        meant = {0, INTERRUPTED, REFUSED, *(-getattr(signal, name) for name in SIGNALS)}
        if code in meant:
            return
        error = Path(str(folder) + ".error")
        words = error.read_text() if error.exists() else "no message"
        self.problems.append(f"{folder.name}: ended with {code}: {words}")

    def round(self, number, deadline):
        """Run the pipeline without and with faults, and compare."""
        seed = self.seed * 1000 + number
        Handler.content = archive(seed)
        Handler.tag = f'"{seed}"'
        whole, parts = (self.folder / f"{number}-{name}" for name in ("whole", "parts"))
        whole.mkdir()
        parts.mkdir()
        process, stage = self.start(whole, seed)
        seconds = watch(process, stage)
        self.check_end(process, whole)
        if process.exitcode != 0:
            return
        self.others["uninterrupted runs"] += 1
        self.furthest = 0
        while not self.problems:
            # After the time is up it may come to its end.
            late = time.monotonic() > deadline
            if self.attempt(parts, seed, None if late else seconds):
                break
        if self.problems:
            return
        found, expected = results(parts), results(whole)
        self.problems += [
            f"{parts.name}: {name} differs from that of the uninterrupted run"
            for name in sorted({*found, *expected})
            if found.get(name) != expected.get(name)
        ]
        self.others["files compared"] += len(expected)
        self.others["left over"] += len(list(parts.rglob(".*.part")))
        if not self.problems:
            shutil.rmtree(whole)
            shutil.rmtree(parts)

    def attempt(self, folder, seed, seconds):
        """Let the pipeline run, and hit it; tell whether it came to its end."""
        runs = [self.start(folder, seed)]
        if seconds is not None and self.random.random() < 0.15:
            runs.append(self.start(folder, seed))
            self.others["two at once"] += 1
        if seconds is not None:
            for process, stage in runs:
                self.await_moment(process, stage, seconds)
                if self.random.random() < 0.1 and process.exitcode is None:
                    os.kill(process.pid, signal.SIGSTOP)
                    time.sleep(self.random.uniform(0.0, 0.3))
                    os.kill(process.pid, signal.SIGCONT)
                    self.others["stopped and continued"] += 1
                name = self.random.choices([*SIGNALS], [*SIGNALS.values()])[0]
                if stage.value == 0:
                    name = "SIGKILL"  # Python itself is still at its start
                if process.exitcode is None:
                    at = STAGES[stage.value]
                    self.furthest = max(self.furthest, stage.value)
                    os.kill(process.pid, getattr(signal, name))
                    self.kills[at, name] += 1
        for process, _ in runs:
            process.join(300)
            if process.exitcode is None:
                process.kill()
                self.problems.append(f"{folder.name}: a process did not end")
            self.others["refused beside another"] += process.exitcode == REFUSED
            self.check_end(process, folder)
        return any(process.exitcode == 0 for process, _ in runs)

    def await_moment(self, process, stage, seconds):
        """Wait for a moment in a stage not far from the furthest that was hit."""
        aim = self.furthest + self.random.choice([-1, 0, 1, 1, 2])
        aim = min(max(0, aim), len(STAGES) - 1)
        while stage.value < aim and process.exitcode is None:
            time.sleep(0.001)
        process.join(self.random.uniform(0.0, 0.6) * seconds[aim])

    def print_table(self, file=None):
        """Say what was done."""
        print(f"seed {self.seed}", file=file)
        print(f"{'stage':14}" + "".join(f"{name:>9}" for name in SIGNALS), file=file)
        for stage in STAGES:
            counts = [self.kills[stage, name] for name in SIGNALS]
            print(f"{stage:14}" + "".join(f"{count:9}" for count in counts), file=file)
        print(f"{sum(self.kills.values())} kills", file=file)
        for name, count in self.others.items():
            print(f"{count} {name}", file=file)
        for problem in self.problems:
            print(f"PROBLEM {problem}", file=file)
        print(f"{len(self.problems)} differences or other problems", file=file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=10**9, help="at most so many")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = arguments.seed
    if seed is None:
        seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)
    deadline = time.monotonic() + 60 * arguments.minutes
    folder = Path(tempfile.mkdtemp(prefix="skdistill-soak-"))
    # Killed processes leave semaphores to their tracker, which warns of them.
    os.environ["PYTHONWARNINGS"] = "ignore"
    soak = Soak(folder, seed)
    for number in range(arguments.rounds):
        soak.round(number, deadline)
        if soak.problems or time.monotonic() > deadline:
            break
        if number % 5 == 4:
            print(f"round {number + 1}: {sum(soak.kills.values())} kills", flush=True)
    soak.print_table()
    if soak.problems:
        print(f"The files are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return bool(soak.problems)


if __name__ == "__main__":
    sys.exit(main())
