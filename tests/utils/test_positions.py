"""Rows at the same place in the sky are of one galaxy, whatever their ids are."""

import warnings

import numpy as np
import pandas as pd
import pytest

from skdistill.curation import GalaxyZooCurator, RotationAugmenter
from skdistill.utils._positions import same_positions

RNG = np.random.default_rng(0)


def survey(n=40):
    """Galaxies, of which no two are near each other."""
    return pd.DataFrame(
        {
            "objid": np.arange(n) + 10**17,
            "RA": np.linspace(310, 360, n) + 0.00012345,
            "DEC": RNG.uniform(-1.2, 1.2, n),
            "split": np.where(np.arange(n) % 2, "test", "train"),
        }
    )


def again(table, arcseconds):
    """The same galaxies in deeper images, with ids of their own."""
    other = table.assign(objid=table["objid"] + 5000)
    other["DEC"] += arcseconds / 3600
    other["split"] = "test"
    return pd.concat([table, other], ignore_index=True)


def test_a_galaxy_of_two_ids_in_both_sets():
    table = survey()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RotationAugmenter(2).fit(table)
        RotationAugmenter(2).fit(again(table, 3))
    with pytest.warns(
        UserWarning,
        match=r"^20 objects are in .* 40 rows of .* 'RA' and 'DEC', within an arcsec",
    ):
        RotationAugmenter(2).fit(again(table, 0.4))
    # Repeated at many angles it is still a galaxy.
    rotated, _ = RotationAugmenter(12).fit_resample(table[table["split"] == "train"])
    test = again(table, 0.4).iloc[40:].assign(rotation=0.0)
    with pytest.warns(UserWarning, match="^20 objects .* within an arcsecond"):
        RotationAugmenter(1).fit(pd.concat([rotated, test]))


def test_the_ends_of_right_ascension_meet():
    ra = [359.99999, 0.00001, 10.00123, 359.99999]
    table = pd.DataFrame({"ra": ra, "dec": [0.1234567] * 3 + [5.1234567]})
    _, names = same_positions(table)
    assert names[0] == names[1]
    assert names.nunique() == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.assign(RA=0.0, DEC=0.0),
        lambda t: t.assign(RA=150.00012, DEC=2.20012),
        lambda t: t.assign(RA=t["RA"].round(2), DEC=0.5),
        lambda t: t.assign(DEC=1000 * t["DEC"]),
        lambda t: t.assign(RA=t["RA"].astype(str)),
        lambda t: t.assign(RA=np.nan),
        lambda t: t.drop(columns="DEC"),
        lambda t: pd.concat([t, t[["RA"]]], axis=1),
    ],
)
def test_numbers_that_are_no_positions(change):
    found = same_positions(change(again(survey(), 0)))
    assert found is None or found[1].isna().all()


def test_the_curator_tells_it():
    n = 60
    votes = RNG.uniform(0.1, 0.9, n)
    catalog = pd.DataFrame(
        {"q_a": votes, "q_b": 1 - votes, "ra": np.repeat(survey(n // 2)["RA"], 2)}
    ).reset_index(drop=True)
    catalog = catalog.assign(objid=range(n), dec=0.1234567)
    curator = GalaxyZooCurator(
        tree={"q": {"a": "A", "b": "B"}},
        votes=None,
        n_train=None,
        n_test=0.5,
        random_state=0,
    )
    with pytest.warns(UserWarning, match="'ra' and 'dec', within an arcsecond"):
        curator.fit(catalog)
