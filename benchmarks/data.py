"""Speed of simulating galaxies on one core, and its memory."""

import argparse
import time
import tracemalloc
from functools import partial

from skdistill import make_galaxies


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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()

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


if __name__ == "__main__":
    main()
