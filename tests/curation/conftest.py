"""A small catalog of votes in the form of Galaxy Zoo 2."""

import numpy as np
import pandas as pd
import pytest

from skdistill.curation._tree import ANSWERS, LEAVES


@pytest.fixture(scope="session")
def make_catalog():
    """Make a catalog with `n_per_class` clear galaxies of each of the classes."""

    def make(n_per_class=12, suffix="fraction", seed=0, decimals=3):
        rng = np.random.default_rng(seed)
        n = n_per_class * len(LEAVES)
        votes = pd.DataFrame(
            rng.uniform(0, 0.3, (n, len(ANSWERS))).round(decimals), columns=ANSWERS
        )
        for leaf, path in enumerate(LEAVES.values()):
            for step in path:
                votes.loc[leaf :: len(LEAVES), step[0]] += 0.6
        catalog = votes.add_suffix(f"_{suffix}")
        catalog.insert(0, "total_votes", rng.integers(100, 200, n))
        catalog.insert(0, "total_classifications", rng.integers(20, 60, n))
        # Above 2**53, where floats have gaps.
        catalog.insert(0, "objid", 587722981736120347 + rng.permutation(n))
        return catalog

    return make
