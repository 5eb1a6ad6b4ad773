"""Time to label and select the galaxies of the whole of Galaxy Zoo 2: 243,500 rows.

The votes are drawn, and the table has all the columns for votes of the published one;
reading it from disk is not counted.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from skdistill import GalaxyZooCurator
from skdistill.curation import GZ2_QUESTIONS


def make_catalog(n_galaxies):
    rng = np.random.default_rng(0)
    columns = {}
    for question, answers in GZ2_QUESTIONS.items():
        votes = rng.dirichlet(np.full(len(answers), 0.4), n_galaxies)
        for answer, share in zip(answers, votes.T, strict=True):
            name = f"{question}_{answer}"
            columns[f"{name}_count"] = rng.integers(0, 50, n_galaxies)
            columns[f"{name}_weight"] = share * 40
            columns[f"{name}_fraction"] = share
            columns[f"{name}_weighted_fraction"] = share
            columns[f"{name}_debiased"] = share
            columns[f"{name}_flag"] = (share > 0.8).astype(int)
    catalog = pd.DataFrame(columns)
    catalog.insert(0, "total_votes", rng.integers(50, 400, n_galaxies))
    # As ids of SDSS are: beyond what floats can tell apart.
    catalog.insert(0, "dr7objid", 587722981736120347 + rng.permutation(n_galaxies))
    return catalog


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=243_500)
    options = parser.parse_args()
    catalog = make_catalog(options.galaxies)
    ways = {
        "nine classes": {},
        "nine classes, debiased votes, at least 100": {
            "votes": "debiased",
            "min_votes": 100,
        },
        "nine classes, the mean as confidence": {"confidence": "mean"},
        "nine classes, clean": {"clean": 10, "rare_classes": "drop"},
        "all 1,265 ways": {"tree": "gz2", "n_train": 5, "rare_classes": "drop"},
    }
    rows = []
    for name, params in ways.items():
        params = {"n_train": 100, "n_test": 10, "random_state": 0} | params
        seconds = []
        for _ in range(1 if "ways" in name else 3):
            begin = time.perf_counter()
            GalaxyZooCurator(**params).fit_resample(catalog)
            seconds.append(time.perf_counter() - begin)
        rows.append((name, min(seconds)))
    table = pd.DataFrame(rows, columns=["selection", "seconds"])
    print(f"{options.galaxies:,} galaxies, {catalog.shape[1]} columns")
    print(table.to_string(index=False, float_format="%.2f"))
    table.to_csv(Path(__file__).with_name("curation.csv"), index=False)


if __name__ == "__main__":
    main()
