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

# Distillers that learn images.  Who takes one out of this list lets it be held.
NOT_YET_HELD = {
    "BPTTDistiller",
    "CAFEDistiller",
    "DCDistiller",
    "DMDistiller",
    "DSADistiller",
    "FRePoDistiller",
    "KIPDistiller",
    "MTTDistiller",
    "NCFMDistiller",
    "RFADDistiller",
    "STMDistiller",
}
# Which classes are not estimators of images: X is a table there.
OF_TABLES = {"GalaxyZooCurator", "ImageReader", "RotationAugmenter"}

# How the description of a parameter reads wherever a public class has it.
PARAMETERS = {
    "augmentation": r"Families of which one is drawn for each batch",
    "checkpoint": r"A folder for the state of the fit",
    "device": (
        r'Where (to compute|:meth:`score` computes); "auto" takes a GPU if there is one'
    ),
    "features": r".*an estimator with ``extract_features``",
    "image_shape": (
        r"Shape to which the rows of a 2-D X are reshaped\. +None takes each for one "
        r"row of pixels with one channel\."
    ),
    "learning_rate": r"Learning rate",
    "momentum": r"Momentum of the optimizer, in \[0, 1\)",
    "n_jobs": (
        r".*None means 1 unless in a :func:`joblib.parallel_config` context, -1 one "
        r"per core"
    ),
    "random_state": r"Controls .*; pass an int for reproducible results",
    "verbose": r"Shows (a )?progress bars?.* if positive",
    "weight_decay": r"Strength of the L2 penalty",
}
# Attributes that read the same to the letter.
ATTRIBUTES = ["classes_", "feature_names_in_", "image_shape_", "n_features_in_"]
# Shared by name alone: the numbers, units or options differ with the class.
OF_EACH_CLASS = {
    "architecture",
    "batch_size",
    "class_weight",
    "depth",
    "estimator",
    "id_column",
    "ipc",
    "loss",
    "max_iter",
    "normalization",
    "optimizer",
    "width",
}
# It hands the shape on to two others, and says so.
OTHER_TEXT = {("DistilledClassifier", "image_shape")}
# These are results, networks and errors, or described in the reference alone.
WITHOUT_CHAPTER = NOT_YET_HELD | {
    "Comparison",
    "ConvNet",
    "NeuralKernelClassifier",
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
        if hasattr(thing, "get_params") and name not in NOT_YET_HELD
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
    if not having:
        pytest.skip("only distillers that are not held yet have it")
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
