"""Names of bands, and what is red."""

import numpy as np
import pytest

from skdistill.utils._bands import (
    composite_parts,
    composite_weights,
    describe_composite,
    wavelength,
)


@pytest.mark.parametrize(
    "from_blue",
    [
        "ugrizy",
        "UBVRI",
        ["FUV", "NUV", "u", "g", "r"],
        ["Y", "J", "H", "Ks"],
        ["W1", "W2", "W3", "W4"],
        ["F435W", "F606W", "F775W", "F850LP", "F125W", "F160W"],
        ["F090W", "F150W", "F277W", "F444W"],
        ["blue", "green", "red"],
        ["SDSS_u", "SDSS_g", "SDSS_r"],
        ["des-g", "des-r", "des-i", "des-z", "des-Y"],
        ["VIS", "Y_E", "J_E", "H_E"],
        ["443 nm", "0.56um", "6650 angstrom"],
    ],
)
def test_known_bands_are_in_order(from_blue):
    found = [wavelength(name) for name in from_blue]
    assert np.isfinite(found).all()
    assert found == sorted(found)


@pytest.mark.parametrize("name", ["band 1", "", "x", "ha", "g-r", "mask", "0", "2"])
def test_other_names_are_not_guessed(name):
    assert np.isnan(wavelength(name))


def test_composites_go_from_red_to_blue():
    assert composite_parts(5, "ugriz") == [[4, 3], [2], [1, 0]]
    assert composite_parts(5, "zirgu") == [[0, 1], [2], [3, 4]]
    assert composite_parts(3, ["r", "z", "g"]) == [[1], [0], [2]]
    assert composite_parts(2, "gr") == [[1], [1, 0], [0]]
    assert composite_parts(1, "g") == [[0]] * 3
    # Without names that are known, the first is the reddest.
    assert composite_parts(5) == [[0, 1], [2], [3, 4]]
    assert composite_parts(4, ["1", "2", "3", "4"]) == [[0], [1, 2], [3]]


def test_names_that_are_known_in_part_are_told():
    with pytest.warns(UserWarning, match=r"\['mask'\] are not known.*`composite`"):
        assert composite_parts(3, ["u", "g", "mask"]) == [[0], [1], [2]]


def test_composites_by_name_and_errors():
    weights = composite_weights(5, ("z", "r", "u"), "ugriz")
    assert weights.argmax(axis=1).tolist() == [4, 2, 0]
    for composite, names in [(("z", "r", "q"), "ugriz"), (("z", "r", "u"), None)]:
        with pytest.raises(ValueError, match="`composite` must be the positions"):
            composite_weights(5, composite, names)
    with pytest.raises(ValueError, match="a name for each of the 5 channels; got 3"):
        composite_weights(5, None, "gri")


def test_composites_are_described():
    assert describe_composite(3) == describe_composite(1) == ""
    assert describe_composite(5, None, "ugriz") == (
        "bands, red: i, z; green: r; blue: u, g"
    )
    rule = describe_composite(4)
    assert "red: 0; green: 1, 2; blue: 3" in rule
    assert "assumed from red to blue" in rule
    assert "red: 2; green: 1; blue: 0" in describe_composite(3, (2, 1, 0))
    assert "weights" in describe_composite(5, np.ones((3, 5)))
