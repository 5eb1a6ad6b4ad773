import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestCentroid

from skdistill.datasets import _galaxies, make_galaxies

SMOOTH = "t01_smooth_or_features_a01_smooth"
FEATURES = "t01_smooth_or_features_a02_features_or_disk"
EDGE_ON, NOT_EDGE_ON = "t02_edgeon_a04_yes", "t02_edgeon_a05_no"
BAR, NO_BAR = "t03_bar_a06_bar", "t03_bar_a07_no_bar"
ARMS, NO_ARMS = "t04_spiral_a08_spiral", "t04_spiral_a09_no_spiral"


@pytest.fixture(scope="module")
def clean():
    """Galaxies alone, without noise, and the votes on them."""
    return make_galaxies(
        900, size=48, noise=0, neighbors=0, random_state=0, return_votes=True
    )


@pytest.fixture(scope="module")
def votes():
    return make_galaxies(1800, size=8, random_state=1, return_votes=True)[1:]


def radius(size):
    grid = (2 * np.arange(size) + 1) / size - 1
    return np.hypot(*np.meshgrid(grid, grid))


def axis_ratios(X):
    """Minor over major axis by second moments of the bright pixels."""
    light = X.mean(axis=-1)
    light = np.where(light > 0.25 * light.max(axis=(1, 2), keepdims=True), light, 0)
    grid = np.arange(X.shape[1])
    y, x = np.meshgrid(grid, grid, indexing="ij")
    total = light.sum(axis=(1, 2))

    def mean(q):
        return (light * q).sum(axis=(1, 2)) / total

    mx, my = mean(x), mean(y)
    xx, yy, xy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    moments = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -1)
    low, high = np.linalg.eigvalsh(moments).T
    return np.sqrt(low / high)


def leaf_scores(votes, suffix):
    """Product of the votes along the path of each of the nine classes."""
    v = {name: votes[f"{name}_{suffix}"] for name in answers(votes)}
    bulge = v["t09_bulge_shape_a25_rounded"] + v["t09_bulge_shape_a26_boxy"]
    edge_on = v[FEATURES] * v[EDGE_ON]
    face_on = v[FEATURES] * v[NOT_EDGE_ON]
    scores = [
        v[SMOOTH] * v["t07_rounded_a16_completely_round"],
        v[SMOOTH] * v["t07_rounded_a17_in_between"],
        v[SMOOTH] * v["t07_rounded_a18_cigar_shaped"],
        edge_on * bulge,
        edge_on * v["t09_bulge_shape_a27_no_bulge"],
        *(
            face_on * v[bar] * v[arms]
            for bar in (BAR, NO_BAR)
            for arms in (ARMS, NO_ARMS)
        ),
    ]
    return np.stack(scores, axis=1)


def answers(votes):
    return [name[: -len("_count")] for name in votes if name.endswith("_count")]


def counts(votes, task):
    return votes.filter(regex=f"^{task}_.*_count$").sum(axis=1)


@pytest.mark.parametrize(("size", "n_bands"), [(8, 1), (17, 2), (32, 3), (21, 5)])
def test_shape_dtype_and_range(size, n_bands):
    X, y = make_galaxies(20, size=size, n_bands=n_bands, random_state=0)
    assert X.shape == (20, size, size, n_bands)
    assert X.dtype == np.float32
    assert y.shape == (20,)
    assert y.dtype == np.int64
    assert np.isfinite(X).all()
    assert X.min() >= 0
    assert 0.3 < X.max() <= 1


@pytest.mark.parametrize("n_samples", [1, 9, 13, 100])
def test_classes_are_balanced(n_samples):
    X, y = make_galaxies(n_samples, size=8, random_state=0)
    n = np.bincount(y, minlength=9)
    assert len(X) == len(y) == n.sum() == n_samples
    assert np.ptp(n) <= 1


def test_classes_are_shuffled():
    _, y = make_galaxies(90, size=8, random_state=0)
    assert (np.diff(y) < 0).sum() > 20


def test_weights():
    _, y = make_galaxies(101, size=8, weights=[0, 3, 1] + [0] * 6, random_state=0)
    assert np.bincount(y).tolist() == [0, 76, 25]


def test_same_seed_same_galaxies():
    state = np.random.RandomState(3)
    once = make_galaxies(18, size=16, random_state=3, return_votes=True)
    again = make_galaxies(18, size=16, random_state=state, return_votes=True)
    other = make_galaxies(18, size=16, random_state=state)
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])
    pd.testing.assert_frame_equal(once[2], again[2])
    assert not np.array_equal(once[0], other[0])
    np.testing.assert_array_equal(
        once[0], make_galaxies(18, size=16, random_state=3)[0]
    )


def test_galaxies_do_not_depend_on_size():
    settings = {"noise": 0, "neighbors": 0, "random_state": 0}
    small, _ = make_galaxies(18, size=32, **settings)
    large, _ = make_galaxies(18, size=64, **settings)
    binned = large.reshape(18, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    for a, b in zip(small, binned, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.97


def test_independent_of_chunks(monkeypatch):
    X, _ = make_galaxies(30, size=16, random_state=0)
    monkeypatch.setattr(_galaxies, "_CHUNK_PIXELS", 3 * 16**2)
    chunked, _ = make_galaxies(30, size=16, random_state=0)
    np.testing.assert_allclose(chunked, X, rtol=0, atol=1e-6)


@pytest.mark.parametrize("random_state", [None, 0])
def test_global_generator_moves_only_without_seed(random_state):
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    make_galaxies(9, size=8, random_state=random_state, return_votes=True)
    after = np.random.get_state()  # noqa: NPY002
    untouched = np.array_equal(before[1], after[1]) and before[2:] == after[2:]
    # As everywhere in scikit-learn, None means the global generator.
    assert untouched == (random_state is not None)


def test_galaxies_are_in_the_center(clean):
    X, _, _ = clean
    light = X.sum(axis=-1)
    outside = radius(X.shape[1]) > 0.7
    assert light[:, outside].max() / 3 < 0.05
    share = light[:, outside].sum(axis=1) / light.sum(axis=(1, 2))
    assert share.max() < 0.015


def test_neighbors_are_anywhere():
    settings = {"size": 32, "noise": 0, "random_state": 0}
    alone, _ = make_galaxies(100, neighbors=0, **settings)
    crowded, _ = make_galaxies(100, neighbors=3, **settings)
    outside = radius(32) > 0.7
    bright = crowded[:, outside].max(axis=(1, 2)) > 0.2
    assert alone[:, outside].max() < 0.05
    assert bright.mean() > 0.6


def test_noise_scale():
    dark = radius(32) > 0.9
    scatter = [
        make_galaxies(50, size=32, neighbors=0, noise=noise, random_state=0)[0][:, dark]
        .std()
        .item()
        for noise in [0, 0.004, 0.016]
    ]
    assert scatter[0] < 0.002 < scatter[1] < scatter[2]


def test_edge_on_galaxies_are_elongated(clean):
    X, y, _ = clean
    ratio = axis_ratios(X)
    median = np.array([np.median(ratio[y == k]) for k in range(9)])
    assert median[0] > 0.85 > median[1] > 0.4 > median[2]
    assert median[[3, 4]].max() < 0.45
    assert median[5:].min() > 0.55
    assert median[4] < median[3]


def test_arms_are_bluer_than_bulges(clean):
    X, y, _ = clean
    spirals = X[np.isin(y, [5, 7])]
    r = radius(X.shape[1])
    center = spirals[:, r < 0.08].mean(axis=1)
    arms = spirals[:, (r > 0.25) & (r < 0.45)].mean(axis=1)
    redder = center[:, 0] / center[:, 2] > arms[:, 0] / arms[:, 2]
    assert redder.mean() > 0.95
    # Smooth galaxies are older, hence redder than spirals as a whole.
    red = X[..., 0].sum(axis=(1, 2)) / X[..., 2].sum(axis=(1, 2))
    assert red[y <= 2].mean() > 1.2 * red[np.isin(y, [5, 7])].mean()


def test_mean_images_tell_classes_apart_only_in_part():
    X, y = make_galaxies(450, size=32, random_state=0)
    X_test, y_test = make_galaxies(450, size=32, random_state=1)
    centroids = NearestCentroid().fit(X.reshape(450, -1), y)
    assert 0.25 < centroids.score(X_test.reshape(450, -1), y_test) < 0.7


def test_votes_layout(votes):
    y, table = votes
    assert table.shape == (len(y), 4 + 3 * 37)
    assert len(answers(table)) == 37
    assert table["dr7objid"].dtype == table["asset_id"].dtype == np.int64
    assert table["dr7objid"].is_unique
    assert table["asset_id"].is_unique
    assert table["dr7objid"].min() > 2**53
    assert (table["dr7objid"].astype(str).str.len() == 18).all()
    assert table["total_classifications"].between(20, 80).all()
    assert 38 < table["total_classifications"].mean() < 44
    assert table.notna().all(axis=None)


def test_votes_go_down_the_tree(votes):
    _, table = votes
    count = {name: table[f"{name}_count"] for name in answers(table)}
    for task, asked in {
        "t01": table["total_classifications"],
        "t02": count[FEATURES],
        "t03": count[NOT_EDGE_ON],
        "t04": count[NOT_EDGE_ON],
        "t05": count[NOT_EDGE_ON],
        "t06": count[SMOOTH] + count[FEATURES],
        "t07": count[SMOOTH],
        "t08": count["t06_odd_a14_yes"],
        "t09": count[EDGE_ON],
        "t10": count[ARMS],
        "t11": count[ARMS],
    }.items():
        np.testing.assert_array_equal(counts(table, task), asked, err_msg=task)
    total = sum(count.values())
    np.testing.assert_array_equal(table["total_votes"], total)


@pytest.mark.parametrize("suffix", ["fraction", "debiased"])
def test_fractions_sum_to_one_where_somebody_was_asked(votes, suffix):
    _, table = votes
    for task in range(1, 12):
        asked = counts(table, f"t{task:02}") > 0
        total = table.filter(regex=f"^t{task:02}_.*_{suffix}$").sum(axis=1)
        np.testing.assert_allclose(total, asked.astype(float), atol=1e-12)


def test_fractions_are_shares_of_those_asked(votes):
    _, table = votes
    asked = counts(table, "t07")
    share = table["t07_rounded_a17_in_between_count"] / asked
    np.testing.assert_allclose(
        table["t07_rounded_a17_in_between_fraction"], share.fillna(0)
    )


@pytest.mark.parametrize("suffix", ["fraction", "debiased"])
def test_votes_agree_with_most_classes(votes, suffix):
    y, table = votes
    scores = leaf_scores(table, suffix)
    right = scores.argmax(axis=1) == y
    confident = scores.max(axis=1) > np.median(scores.max(axis=1))
    assert 0.8 < right.mean() < 0.99
    assert right[confident].mean() > 0.97
    assert right[confident].mean() > right[~confident].mean()
    for k in range(9):
        assert right[y == k].mean() > 0.55


def test_noise_and_faintness_split_votes(clean):
    X, y, table = clean
    _, _, noisy = make_galaxies(
        900, size=8, noise=0.03, random_state=0, return_votes=True
    )
    confidence = leaf_scores(table, "fraction")[np.arange(900), y]
    assert confidence.mean() > leaf_scores(noisy, "fraction").max(axis=1).mean() + 0.05
    light = X.sum(axis=(1, 2, 3))
    bright = light > pd.Series(light).groupby(y).transform("median").to_numpy()
    assert confidence[bright].mean() > confidence[~bright].mean() + 0.03


def test_boundary_cases_split_votes(clean):
    X, y, table = clean
    smooth = y <= 2
    ratio = axis_ratios(X[smooth])
    split = table.loc[smooth].filter(regex="^t07.*_fraction$").max(axis=1).to_numpy()
    near = np.abs(ratio - 0.78) < 0.06
    assert near.sum() > 20
    assert split[near].mean() < split[ratio > 0.92].mean() - 0.05


def test_features_are_voted_for(votes):
    y, table = votes
    mean = table.groupby(y).mean()
    bars = mean[f"{BAR}_fraction"]
    assert bars[[5, 6]].min() > bars[[7, 8]].max() + 0.3
    arms = mean[f"{ARMS}_fraction"]
    assert arms[[5, 7]].min() > arms[[6, 8]].max() + 0.3


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_samples": 0},
        {"size": 7},
        {"n_bands": 0},
        {"noise": -1},
        {"neighbors": -1},
        {"random_state": "a"},
        {"return_votes": "yes"},
        {"weights": "equal"},
    ],
)
def test_invalid_parameters(parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        make_galaxies(**parameters)


@pytest.mark.parametrize(
    "weights", [[1, 2], [0] * 9, [-1] + [1] * 8, [np.nan] * 9, [np.nan] * 8]
)
def test_invalid_weights(weights):
    with pytest.raises(ValueError, match="`weights` must"):
        make_galaxies(9, weights=weights)


def test_eight_weights_leave_something_for_the_ninth():
    _, y = make_galaxies(10, size=8, weights=[0.1] * 8, random_state=0)
    assert np.bincount(y)[8] == 2
    rounded = [0.1] * 6 + [0.2, 0.2 + 1e-15]
    assert 8 not in make_galaxies(10, size=8, weights=rounded, random_state=0)[1]
    with pytest.raises(ValueError, match=r"`weights` of all but the last.* at most 1"):
        make_galaxies(9, weights=[10] * 8)
