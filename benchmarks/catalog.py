"""Time and memory of loading a catalog as large as Galaxy Zoo 2.

Each format is loaded in a process of its own, and compared with what pandas alone
needs to read the same CSV file, identifiers and all.  Memory is the peak beyond the
imports, in units of the resulting table.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from skdistill import load_galaxy_zoo2, make_galaxies


def write_tables(folder, n_galaxies):
    """Write 228 columns in each format, and the mapping."""
    rng = np.random.default_rng(0)
    _, _, votes = make_galaxies(2000, size=8, random_state=0, return_votes=True)
    votes = votes.iloc[rng.integers(0, len(votes), n_galaxies)].reset_index(drop=True)
    answers = [c.removesuffix("_count") for c in votes if c.endswith("_count")]
    columns = {
        "dr7objid": 587_722_981_736_120_320
        + np.cumsum(rng.integers(1, 40, n_galaxies)),
        "sample": np.full(n_galaxies, "original"),
        "ra": rng.uniform(0, 360, n_galaxies),
        "dec": rng.uniform(-10, 60, n_galaxies),
        "total_classifications": votes["total_classifications"],
        "total_votes": votes["total_votes"],
    }
    for answer in answers:
        share = votes[f"{answer}_fraction"] * rng.uniform(0.95, 1, n_galaxies)
        columns |= {
            f"{answer}_count": votes[f"{answer}_count"],
            f"{answer}_weight": (votes[f"{answer}_count"] * 0.98).round(3),
            f"{answer}_fraction": votes[f"{answer}_fraction"].round(3),
            f"{answer}_weighted_fraction": share.round(3),
            f"{answer}_debiased": votes[f"{answer}_debiased"].round(3),
            f"{answer}_flag": (votes[f"{answer}_debiased"] > 0.8).astype(int),
        }
    table = pd.DataFrame(columns)
    table.to_csv(
        folder / "votes.csv.gz",
        index=False,
        compression={"method": "gzip", "compresslevel": 1},
    )
    table.to_parquet(folder / "votes.parquet")
    from astropy.table import Table

    Table.from_pandas(table).write(folder / "votes.fits")
    mapping = pd.DataFrame(
        {"objid": table["dr7objid"], "asset_id": np.arange(1, n_galaxies + 1)}
    )
    mapping.sample(frac=1, random_state=0).to_csv(folder / "mapping.csv", index=False)


def measure(folder, name):
    """Load one table and print time and peak memory, in this process."""
    import astropy.table  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    before = peak()
    begin = time.perf_counter()
    if name == "pandas alone":
        table = pd.read_csv(folder / "votes.csv.gz", dtype={"dr7objid": str})
        table["dr7objid"] = table["dr7objid"].astype("int64")
    else:
        table = load_galaxy_zoo2(folder / name, mapping=folder / "mapping.csv")
    seconds = time.perf_counter() - begin
    size = int(table.memory_usage(deep=True).sum())
    print(json.dumps([table.shape, seconds, peak() - before, size]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=243_500)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        return measure(options.folder, options.load)
    if options.folder:
        return write_tables(options.folder, options.galaxies)

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # A process begins with the peak of the one that started it: all work in others.
        size = ["--galaxies", str(options.galaxies)]
        subprocess.check_call([sys.executable, __file__, "--folder", folder, *size])
        for name in ["pandas alone", "votes.csv.gz", "votes.parquet", "votes.fits"]:
            command = [sys.executable, __file__, "--folder", folder, "--load", name]
            runs = [json.loads(subprocess.check_output(command)) for _ in range(3)]
            shape, seconds, memory, size = min(runs, key=lambda run: run[1])
            rows.append([name, *shape, seconds, memory / size])
    columns = ["what", "rows", "columns", "seconds", "memory in tables"]
    table = pd.DataFrame(rows, columns=columns)
    table["time of pandas"] = table["seconds"] / table["seconds"][0]
    print(table.to_string(index=False, float_format="%.2f"))
    table.to_csv(Path(__file__).with_name("catalog.csv"), index=False)
    return None


if __name__ == "__main__":
    main()
