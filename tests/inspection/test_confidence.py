import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skdistill import GalaxyZooCurator
from skdistill.inspection import ConfidenceDisplay


@pytest.fixture
def curator():
    rng = np.random.default_rng(0)
    votes = rng.uniform(0, 1, 90)
    survey = pd.DataFrame({"arms_yes": votes, "arms_no": 1 - votes})
    survey["total_votes"] = np.arange(90)
    tree = {"arms": {"yes": "spiral", "no": "smooth"}}
    curator = GalaxyZooCurator(
        tree=tree, votes=None, n_train=5, n_test=2, min_votes=20, random_state=0
    )
    return curator.fit(survey)


def test_confidences_of_each_class(curator):
    display = ConfidenceDisplay.from_estimator(curator)
    summary = curator.summary_
    assert display.class_names == ["spiral", "smooth"]
    for row, name in enumerate(display.class_names):
        available, selected = display.available[row], display.selected[row]
        assert len(available) == summary.loc[name, "available"]
        assert available.mean() == summary.loc[name, "mean_confidence_available"]
        assert selected.min() == summary.loc[name, "lowest_confidence"]
        # Most confident first, and the selected are the first.
        np.testing.assert_array_equal(available[: len(selected)], selected)
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == ["spiral", "smooth"]
    numbers = [text.get_text() for text in display.ax_.texts]
    assert numbers == [*summary["available"].astype(str), "7", "7"]
    plt.close(display.figure_)


def test_choice_of_classes_and_axes(curator):
    _, ax = plt.subplots()
    display = ConfidenceDisplay.from_estimator(curator, classes=["smooth"], ax=ax)
    assert display.ax_ is ax
    assert len(display.available) == 1
    plt.close(display.figure_)
    for wrong in (["disc"], []):
        with pytest.raises(
            ValueError, match="`classes` must be among the classes of the cur"
        ):
            ConfidenceDisplay.from_estimator(curator, classes=wrong)
    with pytest.raises(NotFittedError):
        ConfidenceDisplay.from_estimator(GalaxyZooCurator())


def test_a_class_of_none():
    display = ConfidenceDisplay(
        [np.array([0.5]), np.array([])], [np.array([])] * 2, "ab"
    )
    display.plot()
    plt.close(display.figure_)


def test_what_is_all_selected_is_drawn_once():
    values = [np.array([0.5, 0.9]), np.array([0.7])]
    display = ConfidenceDisplay(values, values, "ab", title="Sure").plot()
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["all that could be selected, and all are"]
    assert [text.get_text() for text in display.ax_.texts] == ["2", "1"]
    assert "above 1" not in display.ax_.get_xlabel()
    assert display.ax_.get_title() == "Sure"
    plt.close(display.figure_)


def test_confidences_above_one_and_many_classes_are_told():
    values = [np.array([0.5, 1.16])] * 90
    display = ConfidenceDisplay(values, [v[:1] for v in values], list("abcdefghi") * 10)
    display.plot()
    said = display.ax_.get_xlabel().replace("\n", " ")
    assert "confidences above 1" in said
    assert "the first 40 of 90 classes" in said
    assert max(display.figure_.get_size_inches()) <= 14
    plt.close(display.figure_)
