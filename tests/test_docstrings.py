"""One dialect in the docstrings of public classes."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from sklearn.utils._testing import assert_docstring_consistency

import skdistill

docscrape = pytest.importorskip("numpydoc.docscrape")

# Which classes are not estimators of images: X is a table there.
OF_TABLES = {"GalaxyZooCurator", "ImageReader", "RotationAugmenter"}

# How the description of a parameter reads wherever a public class has it.
PARAMETERS = {
    "architecture": (
        r"The (teachers' )?networks?\b.*callable.*image_shape.*number of classes.* "
        r"module.*draw.* new weights"
    ),
    "augmentation": r"Families of which one is drawn for each",
    "average": (
        r"Whether ``synthetic_`` contains averages of the images \(and learned "
        r"labels\) over (all|the) iterations.*, with weight t\^2 for .*\. +They are "
        r"less noisy than the last images, which are returned if False"
    ),
    "buffer": (
        r".*eachers.*A fitted buffer, or the folder of one, is used as it is; an "
        r"unfitted one is cloned and fitted on X, y"
    ),
    "checkpoint": (
        r"A folder for the state of the fit.*each fit uses a separate "
        r"subfolder ``fit-\.\.\.``"
    ),
    "estimator": r"The classifier that :meth:`score` trains; None uses",
    "device": (
        r'Device for (the computation|:meth:`score`); "auto" uses a GPU if available'
    ),
    "features": r".*an estimator with ``extract_features``",
    "image_shape": (
        r"Shape to which the rows of a 2-D X are reshaped\. +None treats each row "
        r"as an image of height 1 with one channel\."
    ),
    "init": (
        r'Initialization of the synthetic images: - "real": random real images of '
        r'their class; - "noise": Gaussian noise with the mean and standard deviation '
        r"of each channel; - a :class:`~skdistill.SyntheticSet` with ``ipc`` images "
        r"per class: its images, such as those of another distiller, but not its "
        r"labels or step size; - an array of shape "
        r"\(n_classes \* ipc, height, width, channels\)"
    ),
    "label_lr": r"Learning rate .*labels",
    "learning_rate": r"Learning rate",
    "momentum": r"Momentum of the optimizer, in \[0, 1\)",
    "n_jobs": (
        r".*None means 1 unless in a :func:`joblib.parallel_config` context, -1 one "
        r"per core"
    ),
    "network_lr": r"Learning rate",
    "pixel_lr": r"Learning rate .*the pixels",
    "pixel_size": (
        r"Side length of the learned pixels, in pixels of the real images\. +With 2 an "
        r"image consists of a quarter of the values, and four times as many images "
        r"have the same storage budget\."
    ),
    "random_state": r"Controls .*; pass an int for reproducible results",
    "step_size": r"Learning rate of the (student|inner optimizer)",
    "step_size_lr": r"Learning rate of the logarithm of the step size",
    "verbose": r"Shows (a )?progress bars?.* if positive",
    "weight_decay": r"Strength of the L2 penalty",
}
# Attributes that read the same to the letter.
ATTRIBUTES = ["classes_", "feature_names_in_", "image_shape_", "n_features_in_"]
# Shared by name alone: the numbers, units or options differ with the class.
OF_EACH_CLASS = {
    "bias_variance",
    "batch_size",
    "class_weight",
    "depth",
    "distance",
    "gradient",
    "id_column",
    "ipc",
    "keep_activations",
    "kernel",
    "labels",
    "loss",
    "matched",
    "max_iter",
    "max_network_steps",
    "mirror",
    "n_draws",
    "n_matches",
    "n_network_epochs",
    "n_networks",
    "n_real",
    "n_rounds",
    "n_steps",
    "n_target_epochs",
    "network_batch_size",
    "normalization",
    "optimizer",
    "reg",
    "weight_variance",
    "width",
}
# One averages parameters, the other hands both on to others, and says so.
OTHER_TEXT = {
    ("TrajectoryBuffer", "average"),
    ("DistilledClassifier", "estimator"),
    ("DistilledClassifier", "image_shape"),
}
# These are results and errors, described in the reference alone.
WITHOUT_CHAPTER = {
    "Comparison",
    "SyntheticScore",
    "TrainingDivergedError",
}


def public_classes():
    found = {}
    for module in pkgutil.iter_modules(skdistill.__path__):
        if module.name.startswith("_"):
            continue
        home = importlib.import_module(f"skdistill.{module.name}")
        for name in getattr(home, "__all__", []):
            if inspect.isclass(getattr(home, name)):
                found[name] = getattr(home, name)
    return found


def estimators():
    return {
        name: thing
        for name, thing in public_classes().items()
        if hasattr(thing, "get_params")
    }


def names(thing, section):
    parsed = docscrape.NumpyDocString(inspect.getdoc(thing))
    return [entry.name for entry in parsed[section]]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_one_name_are_described_alike(name):
    having = [
        thing
        for thing in estimators().values()
        if name in names(thing, "Parameters")
        and (thing.__name__, name) not in OTHER_TEXT
    ]
    assert having
    assert_docstring_consistency(
        having,
        include_params=[name],
        descr_regex_pattern=PARAMETERS[name],
        # Defaults differ.
        ignore_types=(name,),
    )


@pytest.mark.parametrize("name", ["device", "image_shape", "random_state", "n_jobs"])
def test_parameters_of_one_name_have_one_type(name):
    types = {
        entry.type
        for thing in estimators().values()
        for entry in docscrape.NumpyDocString(inspect.getdoc(thing))["Parameters"]
        if entry.name == name
    }
    assert len(types) == 1


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_of_one_name_are_described_alike(name):
    having = [
        thing
        for thing in estimators().values()
        if name in names(thing, "Attributes") and thing.__name__ not in OF_TABLES
    ]
    assert len(having) >= 8
    assert_docstring_consistency(having, include_attrs=[name])


def test_no_parameter_that_several_classes_share_is_forgotten():
    seen = [
        name for thing in estimators().values() for name in names(thing, "Parameters")
    ]
    shared = {name for name in seen if seen.count(name) > 1}
    assert shared <= PARAMETERS.keys() | OF_EACH_CLASS
    assert not PARAMETERS.keys() & OF_EACH_CLASS


def test_no_line_of_a_raw_docstring_is_continued():
    # It would be for Python alone, which does not see it there.
    broken = [
        name
        for name, thing in public_classes().items()
        if "\\\n" in inspect.getdoc(thing)
    ]
    assert not broken


def test_each_class_links_its_chapter_of_the_guide():
    folder = Path(__file__).parents[1] / "doc"
    labels = set()
    for page in folder.glob("*.rst"):
        labels |= set(re.findall(r"^\.\. _([\w-]+):$", page.read_text(), re.M))
    for name, thing in public_classes().items():
        link = r"Read more in the :ref:`User Guide <([\w-]+)>`\."
        found = re.findall(link, inspect.getdoc(thing))
        if name in WITHOUT_CHAPTER:
            continue
        assert len(found) == 1, name
        assert found[0] in labels, name
