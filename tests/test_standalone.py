"""Sets that carry their preprocessing: from the fit to a colleague's raw images."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    DMDistiller,
    RandomSubset,
    SyntheticSet,
    ZCAWhitener,
    evaluate_synthetic,
    make_galaxies,
)
from skdistill.inspection._plotting import distilled_by

NETWORK = ConvNetClassifier(width=8, max_iter=3, random_state=0)


@pytest.fixture(scope="module")
def galaxies():
    X, y = make_galaxies(90, size=16, random_state=0)
    return (255 * X).astype(np.uint8), y


@pytest.fixture(scope="module", params=["scaler", "zca"])
def model(request, galaxies):
    steps = [ChannelScaler()] + [ZCAWhitener()] * (request.param == "zca")
    last = DistilledClassifier(RandomSubset(random_state=0), NETWORK)
    return make_pipeline(*steps, last).fit(*galaxies)


@pytest.fixture
def carrying(model):
    return model[-1].distiller_.synthetic_


def made_by(model):
    return model[-1].distiller_.synthetic_


def in_file(path):
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata()


def assert_same_content(path, other):
    (tensors, header), (tensors_2, header_2) = in_file(path), in_file(other)
    assert header == header_2
    assert tensors.keys() == tensors_2.keys()
    for name, values in tensors.items():
        assert values.tobytes() == tensors_2[name].tobytes()


# From the fit to the file and back


def test_a_pipeline_fills_it_in_and_a_file_brings_it(
    model, carrying, galaxies, tmp_path
):
    X, _ = galaxies
    path = tmp_path / "galaxies.safetensors"
    carrying.save(path)
    loaded = SyntheticSet.load(path)
    transformed = loaded.transform(X)
    assert transformed.dtype == np.float32
    # To the last bit as before the file; of float32 as the pipeline.
    np.testing.assert_array_equal(transformed, carrying.transform(X))
    np.testing.assert_allclose(transformed, model[:-1].transform(X), atol=2e-6)
    np.testing.assert_array_equal(loaded.to_images(), carrying.to_images(model[:-1]))
    assert loaded.to_images("passthrough").tolist() != loaded.to_images().tolist()
    names = [type(step).__name__ for step in model[:-1]]
    assert repr(loaded).endswith(f"carries {', '.join(names)}>")
    assert repr(loaded) == repr(carrying)
    again = tmp_path / "again"
    loaded.save(again)
    assert_same_content(again, path)


def test_a_colleague_needs_three_lines(model, carrying, galaxies, tmp_path):
    X, y = galaxies
    path = tmp_path / "galaxies.safetensors"
    carrying.save(path)

    classifier = SyntheticSet.load(path).classifier(NETWORK)
    np.testing.assert_array_equal(classifier.predict(X), model.predict(X))
    assert classifier.score(X, y) == model.score(X, y)
    # Flattened, too, and a clone keeps the preprocessing.
    np.testing.assert_array_equal(
        classifier.predict_proba(X[:5].reshape(5, -1)), classifier.predict_proba(X[:5])
    )
    assert clone(classifier)[0].transform(X[:2]).tolist() == (
        carrying.transform(X[:2]).tolist()
    )
    np.testing.assert_allclose(
        classifier[0].inverse_transform(classifier[0].transform(X)), X, atol=1e-3
    )


def test_scalers_are_exact(galaxies, tmp_path):
    X = galaxies[0].astype(np.float64) + 1e9  # of which float32 would lose all
    scaler = ChannelScaler().fit(X)
    white = scaler.transform(X)
    synthetic = SyntheticSet(white[:9], range(9), preprocessing=scaler)
    synthetic.save(tmp_path / "set")
    loaded = SyntheticSet.load(tmp_path / "set")
    np.testing.assert_array_equal(loaded.transform(X), white)
    inside = loaded.preprocessing[0]
    for name in ("mean_", "scale_", "data_min_", "data_max_"):
        np.testing.assert_array_equal(getattr(inside, name), getattr(scaler, name))
    back = loaded.preprocessing.inverse_transform(white)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, scaler.inverse_transform(white))
    # What was loaded learns on.
    more = scaler.partial_fit(X[:9] * 2)
    inside.partial_fit(X[:9] * 2)
    np.testing.assert_array_equal(inside.scale_, more.scale_)


def test_a_copy_does_not_change_with_the_scaler(galaxies):
    X, _ = galaxies
    scaler = ChannelScaler().fit(X)
    synthetic = SyntheticSet(scaler.transform(X[:9]), range(9), preprocessing=scaler)
    before = synthetic.transform(X)
    scaler.fit(X * 0.1)
    scaler.mean_[:] = 7
    np.testing.assert_array_equal(synthetic.transform(X), before)


def test_a_whitener_takes_four_bytes_a_value(galaxies, tmp_path):
    """Of 38 MB at 32x32x3: the components are all that counts."""
    X, _ = galaxies
    whitener = ZCAWhitener().fit(X)
    bare = SyntheticSet(whitener.transform(X[:9]), range(9))
    bare.save(tmp_path / "bare")
    bare.with_preprocessing(whitener).save(tmp_path / "set")
    more = (tmp_path / "set").stat().st_size - (tmp_path / "bare").stat().st_size
    assert 0 < more - 4 * whitener.components_.size < 30_000
    loaded = SyntheticSet.load(tmp_path / "set").with_preprocessing(None)
    loaded.save(tmp_path / "again")
    assert_same_content(tmp_path / "again", tmp_path / "bare")


@pytest.mark.parametrize("eps", [0.1, 1e-3])
def test_whitening_in_float32_is_exact_enough(eps):
    """Of correlated images, whose directions differ most in variance."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(900, 18, 18, 1)).cumsum(1).cumsum(2)[:, 2:, 2:]
    whitener = ZCAWhitener(eps=eps).fit(images)
    synthetic = SyntheticSet(whitener.transform(images[:4]), range(4))
    found = synthetic.with_preprocessing(whitener)
    white, wanted = found.transform(images), whitener.transform(images)
    assert np.abs(white - wanted).max() < 1e-5 * np.abs(wanted).max()
    back = found.preprocessing.inverse_transform(wanted)
    np.testing.assert_allclose(
        back, images, atol=2e-5 * images.std() / np.sqrt(eps), rtol=0
    )


def test_results_in_a_file(carrying, galaxies, tmp_path):
    X, _ = galaxies
    found = carrying.transform(X, out=tmp_path / "X.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, carrying.transform(X))
    with pytest.raises(ValueError, match="`out` must end in"):
        carrying.transform(X, out=tmp_path / "X.npz")


def test_parts_are_the_bits_of_the_steps(carrying, galaxies, monkeypatch):
    X, _ = galaxies
    monkeypatch.setattr("skdistill.utils._maps._SCRATCH_BYTES", 0)
    monkeypatch.setattr("skdistill.utils._images._BATCH_VALUES", 20 * 768)
    for step in carrying.preprocessing:
        monkeypatch.setattr(type(step), "_batch_values", 20 * 768)
    want = carrying.preprocessing.transform(X)
    np.testing.assert_array_equal(carrying.transform(X), want)
    found = carrying.classifier(NETWORK)[0].transform(X)
    np.testing.assert_array_equal(found, want)
    assert found.base is not None  # of a file


# Who fills it in


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300], y[:300]


@pytest.mark.parametrize(
    "make",
    [
        lambda last: make_pipeline(ChannelScaler(), last),
        lambda last: make_pipeline("passthrough", ChannelScaler(), last),
        lambda last: Pipeline([("a", make_pipeline(ChannelScaler())), ("b", last)]),
        lambda last: make_pipeline(ChannelScaler(), make_pipeline(None, last)),
        lambda last: GridSearchCV(
            make_pipeline(ChannelScaler(), last), {"channelscaler__image_shape": [None]}
        ),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_pipelines_of_all_kinds(galaxies, make, alone):
    X, y = galaxies
    distiller = RandomSubset(random_state=0, estimator=NETWORK)
    last = distiller if alone else DistilledClassifier(distiller, NETWORK)
    found = make(last).fit(X, y)
    found = getattr(found, "best_estimator_", found)
    while isinstance(found, Pipeline):
        found = found[-1]
    synthetic = getattr(found, "distiller_", found).synthetic_
    wanted = ChannelScaler().fit(X).transform(X)
    np.testing.assert_array_equal(synthetic.transform(X), wanted)


def test_iterative_distillers_and_their_best(galaxies):
    X, y = galaxies
    distiller = DMDistiller(max_iter=1, width=4, random_state=0)
    model = make_pipeline(ChannelScaler(), distiller).fit(X, y)
    for synthetic in (model[-1].synthetic_, model[-1].best_synthetic_):
        assert isinstance(synthetic.preprocessing[0], ChannelScaler)
    # Nothing is left of it where the same distiller is fitted to other images.
    assert distiller.fit(X / 255, y).synthetic_.preprocessing is None


def test_cached_steps(galaxies, tmp_path):
    X, y = galaxies
    model = Pipeline(
        [("scale", ChannelScaler()), ("distill", RandomSubset(random_state=0))],
        memory=str(tmp_path),
    )
    for _ in range(2):
        synthetic = clone(model).fit(X, y)[-1].synthetic_
        assert synthetic.preprocessing[0].n_samples_seen_ == 90


@pytest.mark.parametrize("shape", [None, (8, 8, 1)])
@pytest.mark.parametrize("table", [False, True])
def test_flattened_images(shape, table):
    X, y = digits()
    X = pd.DataFrame(X, columns=[f"p{k}" for k in range(64)]) if table else X
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*square.*|.*flattened.*|.*1 x 64.*|.*valid feature.*"
        )
        model = make_pipeline(
            ChannelScaler(image_shape=shape),
            RandomSubset(random_state=0, image_shape=(8, 8, 1)),
        ).fit(X, y)
        synthetic = model[-1].synthetic_
        wanted = np.asarray(model[:-1].transform(X)).reshape(-1, 8, 8, 1)
        np.testing.assert_array_equal(synthetic.transform(X), wanted)
        images = synthetic.to_images()
        np.testing.assert_array_equal(images, synthetic.to_images(model[:-1]))


@pytest.mark.parametrize(
    "step",
    [StandardScaler(), PCA(64), FunctionTransformer(), FrozenEstimator(PCA(64))],
)
@pytest.mark.parametrize("first", [True, False])
def test_other_transformers_are_left_out_and_refused_by_name(step, first):
    X, y = digits()
    shape = (8, 8, 1)
    steps = [step, ChannelScaler(image_shape=shape)]
    if isinstance(step, FrozenEstimator):
        step.estimator.fit(X)
    model = make_pipeline(
        *(steps if first else steps[::-1]),
        RandomSubset(random_state=0, image_shape=shape),
    ).fit(X, y)
    synthetic = model[-1].synthetic_
    assert synthetic.preprocessing is None
    name = type(getattr(step, "estimator", step)).__name__
    with pytest.raises(TypeError, match=f"ChannelScaler or ZCAWhitener.*got {name}"):
        synthetic.with_preprocessing(model[:-1])
    with pytest.raises(ValueError, match=r"no preprocessing\..*with_preprocess"):
        synthetic.transform(X)


def test_a_distiller_called_otherwise_carries_nothing(galaxies):
    X, y = galaxies
    scaled = ChannelScaler().fit_transform(X)
    for distiller in (RandomSubset(), DMDistiller(max_iter=1, width=4)):
        assert distiller.fit(scaled, y).synthetic_.preprocessing is None


class Twice(BaseEstimator):
    """A sampler: each image two times."""

    def fit(self, X, y):
        return self

    def fit_resample(self, X, y):
        return np.repeat(X, 2, axis=0), np.repeat(y, 2)


def test_samplers_leave_images_as_they_are(galaxies):
    imblearn = pytest.importorskip("imblearn.pipeline")
    model = imblearn.make_pipeline(
        Twice(), ChannelScaler(), RandomSubset(random_state=0), NETWORK
    )
    model.fit(*galaxies)
    synthetic = model[-2].synthetic_
    assert synthetic.preprocessing[0].n_samples_seen_ == 180


# What is given by hand


def test_what_can_be_given(galaxies):
    X, _ = galaxies
    scaler = ChannelScaler().fit(X)
    whitener = ZCAWhitener().fit(scaler.transform(X))
    pipeline = make_pipeline(scaler, whitener)
    white = pipeline.transform(X)
    bare = SyntheticSet(white[:9], range(9))
    for given in (
        pipeline,
        [scaler, whitener],
        (make_pipeline("passthrough", scaler), None, FrozenEstimator(whitener)),
        FrozenEstimator(pipeline),
    ):
        found = bare.with_preprocessing(given)
        np.testing.assert_allclose(found.transform(X), white, atol=2e-6)
        np.testing.assert_array_equal(found.to_images(), bare.to_images(pipeline))
    for none in (None, "passthrough", [], Pipeline([("a", "passthrough")])):
        assert found.with_preprocessing(none).preprocessing is None
    assert bare.preprocessing is None
    bare.preprocessing = [scaler, whitener]  # checked where it is used
    np.testing.assert_allclose(bare.transform(X), white, atol=2e-6)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (ChannelScaler(), ValueError, "must be fitted; ChannelScaler is not"),
        (ZCAWhitener(), ValueError, "must be fitted; ZCAWhitener is not"),
        (make_pipeline(ChannelScaler()), ValueError, "must be fitted"),
        (ChannelScaler, TypeError, "got the class ChannelScaler"),
        (np.ones(3), TypeError, "got ndarray"),
        ({"mean": 0.5}, TypeError, "got dict"),
        (lambda X: X, TypeError, "got function"),
        (
            StandardScaler(),
            TypeError,
            r"got StandardScaler\.  Distill images that were",
        ),
        (NETWORK, TypeError, r"got ConvNetClassifier: .*`model\[:-1\]`"),
        ("scaler.joblib", TypeError, r"'passthrough' for none; got 'scaler\.joblib'"),
        (
            ChannelScaler().fit(np.ones((2, 8, 8, 3))),
            ValueError,
            "same shape, 16x16x3; its ChannelScaler .* images of 8x8x3",
        ),
    ],
)
def test_what_cannot(galaxies, given, error, message, tmp_path):
    synthetic = SyntheticSet(np.zeros((2, 16, 16, 3)), [0, 1])
    for do in (
        lambda: synthetic.with_preprocessing(given),
        lambda: SyntheticSet(*synthetic, preprocessing=given),
    ):
        with pytest.raises(error, match=message):
            do()
    synthetic.preprocessing = given
    with pytest.raises(error, match=message):
        synthetic.save(tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_subclasses_may_do_anything(galaxies):
    class Halved(ChannelScaler):
        def _forward(self, batch):
            return super()._forward(batch) / 2

    with pytest.raises(TypeError, match="got Halved"):
        SyntheticSet(
            *RandomSubset().fit(*galaxies).synthetic_,
            preprocessing=Halved().fit(galaxies[0]),
        )


def test_another_preprocessing_than_that_of_the_images(galaxies):
    X, y = galaxies
    scaler = ChannelScaler().fit(X)
    pipeline = make_pipeline(ChannelScaler(), ZCAWhitener()).fit(X)
    sets = {
        "raw": RandomSubset(random_state=0).fit(X, y).synthetic_,
        "scaled": RandomSubset(random_state=0).fit(scaler.transform(X), y).synthetic_,
        "white": RandomSubset(random_state=0).fit(pipeline.transform(X), y).synthetic_,
    }
    sets["scaled"].with_preprocessing(scaler)
    sets["white"].with_preprocessing(pipeline)
    for name, given in (
        ("raw", scaler),
        ("raw", pipeline),
        ("scaled", pipeline),
        ("white", scaler),
    ):
        with pytest.warns(UserWarning, match="does not seem to contain all steps"):
            sets[name].with_preprocessing(given)


# Raw images or not


@pytest.mark.parametrize(
    "change",
    [
        lambda X, synthetic: X / 255,
        lambda X, synthetic: synthetic.transform(X),
        lambda X, synthetic: 255.0 - X,
        lambda X, synthetic: X[:3] / 255.0,
    ],
)
def test_images_that_are_not_raw_are_told(carrying, galaxies, change):
    X, _ = galaxies
    wrong = change(X, carrying)
    told = "`X` is in a different pixel space .*Pass raw images .* pixels from 0 to 255"
    with pytest.warns(UserWarning, match=told):
        carrying.transform(wrong)
    classifier = carrying.classifier(NETWORK)
    with pytest.warns(UserWarning, match=told):
        classifier.predict(wrong)


@pytest.mark.parametrize("n_images", [1, 3, 90])
def test_raw_images_are_not(carrying, galaxies, n_images):
    other, _ = make_galaxies(90, size=16, random_state=5)
    carrying.transform((255 * other[:n_images]).astype(np.uint8))
    carrying.transform(255 * other[:n_images])


def test_raw_test_images_are_told_what_to_do(carrying, galaxies):
    X, y = galaxies
    with pytest.warns(UserWarning, match=r"raw images by `synthetic.transform\(X_test"):
        evaluate_synthetic(carrying, X, y, estimator=NETWORK, n_repeats=1)
    evaluate_synthetic(
        carrying, carrying.transform(X), y, estimator=NETWORK, n_repeats=1
    )


def test_a_set_without_it_takes_the_images_as_they_are(galaxies):
    X, y = galaxies
    synthetic = RandomSubset(random_state=0).fit(X, y).synthetic_
    classifier = synthetic.classifier(NETWORK)
    assert classifier.predict(X[:4].reshape(4, -1)).shape == (4,)
    with pytest.warns(UserWarning, match="a different pixel space"):
        classifier.predict(X / 255)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((2, 3, 16, 16)), "channels|axes|shape"),
        (np.zeros((16, 16, 3)), "4-D|axes"),
        (np.zeros((2, 8, 8, 3)), r"\(16, 16, 3\)"),
        (np.zeros((2, 100)), "100"),
        (np.full((2, 16, 16, 3), np.nan), "NaN"),
        ("X.npy", "path|str"),
    ],
)
def test_other_images(carrying, X, message):
    with pytest.raises((TypeError, ValueError), match=message):
        carrying.transform(X)


# The classifier


def test_what_is_trained(carrying, galaxies):
    X, y = galaxies
    short = SyntheticSet(
        *carrying,
        metadata={
            "default_estimator": {
                "name": "ConvNetClassifier",
                "width": 4,
                "max_iter": 2,
            }
        },
        preprocessing=carrying.preprocessing,
    )
    default = short.classifier(random_state=0)
    assert default[-1].width == 4
    np.testing.assert_array_equal(
        default.predict(X), short.classifier(random_state=0).predict(X)
    )
    table = short.classifier(LogisticRegression())
    np.testing.assert_array_equal(
        table.predict(X),
        LogisticRegression()
        .fit(short.X.reshape(9, -1), short.y)
        .predict(short.transform(X).reshape(90, -1)),
    )
    table.fit(X, y)
    assert table.score(X, y) > 0.9
    # An estimator that is given is not changed.
    assert not hasattr(NETWORK, "classes_")


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (ConvNetClassifier, "a class"),
        (StandardScaler(), "must be a classifier"),
        (ConvNetClassifier(width=-1), "width"),
        ("ConvNetClassifier", "must be a classifier"),
    ],
)
def test_what_is_no_classifier(carrying, estimator, message):
    with pytest.raises(ValueError, match=message):
        carrying.classifier(estimator)


def test_soft_labels_are_used_or_told(carrying):
    soft = SyntheticSet(
        *carrying, probabilities=np.eye(9), preprocessing=carrying.preprocessing
    )
    soft.classifier(NETWORK)
    with pytest.warns(
        UserWarning, match="LogisticRegression does not accept soft labels"
    ):
        soft.classifier(LogisticRegression())


def test_labels_in_another_order_than_the_classes_are_told(carrying):
    soft = SyntheticSet(*carrying, probabilities=np.eye(9)[::-1])
    with pytest.warns(UserWarning, match="8 of 9 .*not in the sorted order"):
        soft.classifier(NETWORK)


# Parts, wholes and other layouts


def test_parts_keep_it(carrying, galaxies):
    X, _ = galaxies
    wanted = carrying.transform(X[:2])
    label = carrying.y[0]
    for part in (carrying.of_class(label), carrying[:3], carrying[[1, 2]]):
        np.testing.assert_array_equal(part.transform(X[:2]), wanted)
    whole = SyntheticSet.concat([carrying[:3], carrying[3:]])
    np.testing.assert_array_equal(whole.transform(X[:2]), wanted)


def test_a_whole_of_different_ones_has_none(galaxies):
    X, _ = galaxies
    one, two = ChannelScaler().fit(X), ChannelScaler().fit(X[:50])
    images = one.transform(X[:2])
    sets = [
        SyntheticSet(images, [0, 1], preprocessing=which)
        for which in (one, two, None, ZCAWhitener().fit(X))
    ]
    for other, told in (
        (1, "ChannelScaler, fitted on different images, from number 0, ChannelScaler"),
        (2, "preprocessing, none, from number 0, ChannelScaler"),
        (3, "preprocessing, ZCAWhitener, from number 0, ChannelScaler"),
    ):
        with pytest.warns(UserWarning, match=f"set number 1 has a different .*{told}"):
            whole = SyntheticSet.concat([sets[0], sets[other]])
        assert whole.preprocessing is None
    assert SyntheticSet.concat([sets[2]] * 2).preprocessing is None


@pytest.mark.parametrize("layout", ["mtt", "dc", "npz"])
def test_other_layouts_do_not_hold_it(carrying, layout, tmp_path):
    with pytest.warns(UserWarning, match="`preprocessing`"):
        carrying.export(tmp_path / "set", layout)


def test_pictures_are_in_their_own_colors(carrying, tmp_path):
    with pytest.warns(UserWarning, match="256 steps"):
        carrying.to_image_folder(tmp_path / "pictures")
    folder = tmp_path / "pictures" / str(carrying.y[0])
    from PIL import Image

    with Image.open(folder / "0000.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), carrying.to_images()[0])


def test_a_card_tells_it(carrying, tmp_path):
    carrying.card(tmp_path)
    text = (tmp_path / "README.md").read_text()
    names = ", ".join(type(step).__name__ for step in carrying.preprocessing)
    assert f"carries the preprocessing | {names} |" in text
    assert "synthetic.classifier()" in text
    carried = SyntheticSet.load(tmp_path / "synthetic_set.safetensors").preprocessing
    assert len(carried) == len(carrying.preprocessing)
    carrying.with_preprocessing(None).card(tmp_path)
    assert "classifier()" not in (tmp_path / "README.md").read_text()


def test_displays_find_it(carrying, galaxies):
    X, y = galaxies
    distiller = RandomSubset(random_state=0).fit(carrying.transform(X), y)
    distiller.synthetic_.preprocessing = carrying.preprocessing
    assert distilled_by(distiller)[1] is carrying.preprocessing


# Files of anybody


def test_files_without_it_are_as_before(carrying, tmp_path):
    bare = carrying.with_preprocessing(None)
    bare.save(tmp_path / "set")
    _, header = in_file(tmp_path / "set")
    assert header["version"] == "1"
    assert "preprocessing" not in header


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    X = np.random.default_rng(0).normal(5, 3, size=(20, 3, 2, 1))
    pipeline = make_pipeline(ChannelScaler(), ZCAWhitener()).fit(X)
    path = tmp_path_factory.mktemp("set") / "set"
    SyntheticSet(pipeline.transform(X[:2]), [0, 1], preprocessing=pipeline).save(path)
    return in_file(path)


def step(place, **changes):
    """Change an entry of a step; None takes it away."""

    def change(tensors, header):
        entries = json.loads(header["preprocessing"])
        entries[place].update(changes)
        entries[place] = {k: v for k, v in entries[place].items() if v is not None}
        header["preprocessing"] = json.dumps(entries)

    return change


def tensor(name, make):
    """Change a tensor; None takes it away."""

    def change(tensors, header):
        name_ = f"preprocessing.{name}"
        found = make(tensors.pop(name_, None))
        if found is not None:
            tensors[name_] = found

    return change


def entry(name, value):
    def change(tensors, header):
        header.pop(name, None)
        if value is not None:
            header[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (entry("preprocessing", None), "lacks .'preprocessing'"),
        (entry("preprocessing", "[["), ""),
        (entry("preprocessing", "{}"), "not a list of transformers"),
        (entry("preprocessing", "[]"), "unknown part 'preprocessing.0"),
        (entry("preprocessing", "[1]"), "step 0 of its preprocessing must be one of"),
        (entry("version", "3"), "unknown part 'preprocessing.0"),
        (entry("version", "5"), "version is '5', this version .* reads 1, 2, 3, 4"),
        (step(0, name="os.system"), "must be one of .*; got 'os.system'"),
        (step(0, name="StandardScaler"), "must be one of ChannelScaler, ZCAWhitener"),
        (step(0, name=["ChannelScaler"]), "step 0 of its preprocessing"),
        (step(0, name=None), "step 0 of its preprocessing"),
        (step(0, name="ZCAWhitener"), "step 0 of the preprocessing, ZCAWhitener: "),
        (step(0, more=1), "must have the entries"),
        (step(0, n_pixels=None), "must have the entries"),
        (step(0, n_pixels=0), "'n_pixels' must be a count"),
        (step(0, n_pixels=True), "'n_pixels' must be a count"),
        (step(0, n_samples_seen=10**40), "'n_samples_seen' must be a count"),
        (step(0, rounding=float("nan")), "'rounding' must be a number"),
        (step(0, rounding="0"), "'rounding' must be a number"),
        (
            step(0, image_shape=[3, 2]),
            r"'image_shape' must be \(height, width, channels\)",
        ),
        (
            step(0, image_shape=[3, 2, -1]),
            r"'image_shape' must be \(height, width, channels\)",
        ),
        (
            step(0, image_shape=[2**40, 1, 1]),
            r"'image_shape' must be \(height, width, channels\)",
        ),
        (step(0, image_shape=[3, 4, 1]), "images of the same shape, 3x2x1"),
        (step(0, image_shape=[2, 1, 3]), "'mean' must be float64 of shape .3,"),
        (step(1, eps=0), "'eps' must be positive"),
        (step(1, eps=-0.1), "'eps' must be a number"),
        (step(1, eps=float("inf")), "'eps' must be a number"),
        (step(1, image_shape=[2**20, 2**20, 2**20]), "'mean' must be float64"),
        (tensor("0.mean", lambda a: None), "must have the tensors"),
        (tensor("0.more", lambda a: np.zeros(1)), "must have the tensors"),
        (tensor("2.mean", lambda a: np.zeros(1)), "unknown part 'preprocessing.2.mean"),
        (tensor("x", lambda a: np.zeros(1)), "unknown part 'preprocessing.x'"),
        (tensor("0.mean", lambda a: a.astype("f4")), "'mean' must be float64"),
        (tensor("0.mean", lambda a: a * np.nan), "'mean' must be finite"),
        (tensor("0.scale", lambda a: a * 0), "'scale' must be positive"),
        (tensor("0.scale", lambda a: -a), "'scale' must be positive"),
        (tensor("0.squares", lambda a: -a), "'squares' must not be negative"),
        (tensor("0.low", lambda a: a + 1e9), "nor 'low' above 'high'"),
        (tensor("1.mean", lambda a: a[:-1]), "'mean' must be float64 of shape"),
        (tensor("1.components", lambda a: a.T[:5]), "'components' must be float32"),
        (tensor("1.components", lambda a: a * np.inf), "'components' must be finite"),
        (tensor("1.components", lambda a: a * 3), "'components' must have norm"),
        (tensor("1.components", lambda a: None), "must have the tensors"),
        (tensor("1.variances", lambda a: -a), "'variances' must not be negative"),
        (tensor("1.variances", lambda a: a[:0]), "'components' must be float32"),
        (tensor("1.variances", lambda a: np.zeros(10**6)), "'components' must be"),
    ],
)
def test_wrong_files_are_refused_by_name(stored, tmp_path, change, message):
    tensors, header = dict(stored[0]), dict(stored[1])
    change(tensors, header)
    tensors = {name: np.ascontiguousarray(part) for name, part in tensors.items()}
    path = tmp_path / "wrong.safetensors"
    save_file(tensors, path, metadata=header)
    message = re.escape(str(path)) + " cannot be read: .*" + message
    with pytest.raises(ValueError, match=message):
        SyntheticSet.load(path)
