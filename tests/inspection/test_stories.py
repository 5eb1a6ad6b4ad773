"""Displays of how a distillation went, and what came of it."""

import shutil
import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    GalaxyZooCurator,
    RandomSubset,
    make_galaxies,
)
from skdistill.curation._tree import CLASS_NAMES
from skdistill.inspection import (
    DifferenceDisplay,
    EvolutionDisplay,
    ImageRecorder,
    MatchingDisplay,
    ProfileDisplay,
    TreeConfusionDisplay,
)
from skdistill.inspection._profiles import azimuthal_profiles, radial_profiles


def test_story_has_losses_levels_and_step_sizes(small):
    distiller = small[0]
    display = MatchingDisplay.from_estimator(distiller, window=5)
    history = distiller.history_
    assert [ax.get_ylabel() for ax in display.axes_] == [
        "matching loss",
        "epochs matched",
        "step size",
    ]
    loss = display.lines_["loss"].get_ydata()
    assert loss[10] == pytest.approx(history["loss"][8:13].mean())
    # the mean does not reach over an expansion
    assert loss[19] == pytest.approx(history["loss"][17:20].mean())
    assert loss[20] == pytest.approx(history["loss"][20:23].mean())
    np.testing.assert_array_equal(
        display.lines_["n_epochs_matched"].get_ydata(), history["n_epochs_matched"]
    )
    np.testing.assert_array_equal(
        display.lines_["step_size"].get_ydata(), history["step_size"]
    )
    assert [text.get_text() for text in display.axes_[0].texts] == [" 2 epochs"]
    legend = [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    assert legend[0] == "loss of the matched epochs"
    assert legend[2] == "single iterations (thick: running means over 5)"
    _, ax = plt.subplots()
    alone = display.plot(ax=ax)
    assert alone is display
    assert list(alone.axes_) == [ax]
    for wrong in (ChannelScaler(), 3):
        with pytest.raises(ValueError, match="with a `history_`"):
            MatchingDisplay.from_estimator(wrong)
    with pytest.raises(ValueError, match="`ax` must be one or three"):
        display.plot(ax=plt.subplots(2)[1])
    with pytest.raises(ValueError, match="'window' parameter"):
        display.plot(window=0)


def test_recorder_keeps_few_frames_and_the_last(small):
    distiller, _, recorder, X, _ = small
    pytest.importorskip("sklearn.callback")
    assert recorder.iterations_[0] == 1
    assert recorder.iterations_[-1] == distiller.n_iter_ == 25
    assert len(recorder.iterations_) <= 5
    # but for the last they are evenly spaced
    assert len(set(np.diff(recorder.iterations_[:-1]))) == 1
    assert recorder.images_.shape == (len(recorder.iterations_), 9, *X.shape[1:])
    np.testing.assert_array_equal(recorder.images_[-1], distiller.synthetic_.X)
    np.testing.assert_array_equal(recorder.y_, distiller.synthetic_.y)


def test_recorder_reaches_into_pipelines_and_starts_anew(small):
    pytest.importorskip("sklearn.callback")
    distiller, _, _, X, y = small
    recorder = ImageRecorder()
    short = clone(distiller).set_params(max_total_iter=3).set_callbacks(recorder)
    network = ConvNetClassifier(width=2, depth=1, max_iter=1)
    model = make_pipeline(ChannelScaler(), DistilledClassifier(short, network))
    inside = model[-1].distiller
    inside.set_callbacks(recorder)
    model.fit(X, y)
    assert recorder.iterations_.tolist() == [1, 2, 3]
    inside.set_params(max_total_iter=2)
    model.fit(X, y)
    assert recorder.iterations_.tolist() == [1, 2]
    np.testing.assert_array_equal(
        recorder.images_[-1], model[-1].distiller_.synthetic_.X
    )
    with pytest.raises(AttributeError, match="has not recorded a fit"):
        _ = ImageRecorder().images_
    recorder = ImageRecorder()
    RandomSubset().set_callbacks(recorder).fit(X, y)
    with pytest.raises(AttributeError, match="RandomSubset have no iterations"):
        _ = recorder.images_
    with pytest.raises(ValueError, match="`max_frames` must be at least 2"):
        clone(short).set_callbacks(ImageRecorder(1)).fit(X, y)


def test_recorder_of_a_resumed_run(small, tmp_path):
    pytest.importorskip("sklearn.callback")
    distiller, scaler, _, X, y = small
    recorder = ImageRecorder()
    run = clone(distiller).set_params(checkpoint=tmp_path, max_total_iter=2)
    run.fit(scaler.transform(X), y)
    run.set_params(max_total_iter=4).set_callbacks(recorder)
    run.fit(scaler.transform(X), y)
    assert recorder.iterations_.tolist() == [3, 4]
    # Read again at its end.
    run.fit(scaler.transform(X), y)
    assert recorder.iterations_.tolist() == [4]
    np.testing.assert_array_equal(recorder.images_[-1], run.synthetic_.X)


def frames(n_frames=12):
    """Image number k of frame number f is k + f."""
    values = np.arange(n_frames)[:, None] + np.arange(3)
    return np.zeros((n_frames, 3, 5, 7, 1)) + values[:, :, None, None, None]


def test_strip_goes_from_the_first_to_the_last():
    display = EvolutionDisplay.from_data(
        frames(), 10 * np.arange(12), list("bab"), value_range=(0, 255), n_columns=4
    )
    drawn = [[image.get_array()[0, 0, 0] for image in row] for row in display.images_]
    # classes in order: a is the second image
    assert drawn == [[1, 5, 8, 12], [0, 4, 7, 11], [2, 6, 9, 13]]
    labels = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert labels == ["0", "40", "70", "110"]
    names = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert names == ["a", "b, 1", "b, 2"]


def test_animations_hold_every_frame(tmp_path):
    display = EvolutionDisplay.from_data(
        frames(), np.arange(12), list("abc"), value_range=(0, 20), class_names="xyz"
    )
    display.save(tmp_path / "film.gif", fps=5)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 12
        assert film.info["duration"] == 200
        shades = []
        for number in range(12):
            film.seek(number)
            shades.append(film.convert("L").getpixel((5, 5)))
        assert film.info["duration"] == 2000
    assert np.all(np.diff(shades) > 0)
    with pytest.raises(ValueError, match=r"`path` must end in .gif or .mp4"):
        display.save(tmp_path / "film.avi")
    with pytest.raises(ValueError, match="'fps' parameter"):
        display.save(tmp_path / "film.gif", fps=0)
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


def test_films_need_a_program(tmp_path, monkeypatch):
    display = EvolutionDisplay.from_data(frames(), np.arange(12), list("abc"))
    if shutil.which("ffmpeg"):
        display.save(tmp_path / "film.mp4")
        assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="requires the program ffmpeg"):
        display.save(tmp_path / "other.mp4")

    # What the program is given: frames of even sides, as many as it is told.
    called = {}
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/true")

    def run(command, *, input, check):
        called.update(command=command, input=input)
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(subprocess.CalledProcessError):
        display.save(tmp_path / "broken.mp4", fps=4)
    width, height = map(
        int, called["command"][called["command"].index("-s") + 1].split("x")
    )
    assert width % 2 == height % 2 == 0
    assert len(called["input"]) == (12 + 8) * width * height * 3
    assert not (tmp_path / "broken.mp4").exists()


def test_frames_are_checked():
    with pytest.raises(ValueError, match="`frames` must be 5-D"):
        EvolutionDisplay.from_data(frames(), np.arange(3), list("abc"))
    with pytest.raises(ValueError, match="'n_columns' parameter"):
        EvolutionDisplay.from_data(frames(), np.arange(12), list("abc"), n_columns=0)


def test_confusion_is_in_the_order_of_the_tree():
    rng = np.random.default_rng(0)
    tree = {"sound": {"barks": {"big": {"yes": "dog", "no": "pup"}}, "meows": "cat"}}
    y, predicted = rng.choice(["cat", "dog", "pup"], (2, 60))
    display = TreeConfusionDisplay.from_predictions(y, predicted, tree=tree)
    ordered = ["dog", "pup", "cat"]
    expected = confusion_matrix(y, predicted, labels=ordered, normalize="true")
    np.testing.assert_allclose(display.confusion_matrix, expected)
    ticks = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert ticks == ordered
    widths = [line.get_linewidth() for line in display.ax_.lines]
    assert widths == [0.8, 0.8, 1.6, 1.6]  # between dog and pup, and before the cat
    counts = TreeConfusionDisplay.from_predictions(
        y, predicted, tree=tree, normalize=None
    )
    assert counts.confusion_matrix.sum() == 60
    assert counts.text_[0, 0].get_text() == str(counts.confusion_matrix[0, 0])


def test_labels_of_votes_are_called_so():
    tree = {"sound": {"barks": "dog", "meows": "cat"}}
    for given, truth, said in (
        (tree, None, "True label"),
        (GalaxyZooCurator(tree=tree), None, "Voted label"),
        (tree, "voted", "Voted label"),
    ):
        display = TreeConfusionDisplay.from_predictions(
            ["dog", "cat"], ["dog", "dog"], tree=given, truth=truth, title="Pets"
        )
        assert display.ax_.get_ylabel() == said
        assert display.ax_.get_title() == "Pets"


@pytest.mark.parametrize("size", [(12, 6), (5, 3)])
def test_numbers_of_two_matrices_beside_each_other_do_not_overlap(size):
    figure, axes = plt.subplots(1, 2, figsize=size, layout="constrained")
    y = np.arange(90) % 9
    for ax in axes:
        display = TreeConfusionDisplay.from_predictions(y, np.roll(y, 1), ax=ax)
        figure.canvas.draw()
        cells = [text for text in display.text_.ravel() if text.get_visible()]
        boxes = [text.get_window_extent() for text in cells]
        for number, one in enumerate(boxes):
            assert not any(one.overlaps(two) for two in boxes[number + 1 :])


def test_a_distilled_mean_is_called_one():
    rng = np.random.default_rng(0)
    X, y = rng.random((12, 4, 4, 3)).astype(np.float32), np.repeat([0, 1], 6)
    for ipc, said in ((1, "distilled"), (3, "mean of 3\ndistilled")):
        baseline = RandomSubset(ipc=ipc, random_state=0).fit(X, y)
        display = DifferenceDisplay.from_estimator(baseline, X, y, title="Means")
        assert display.column_names[1] == said
        assert display.ax_.get_title() == "Means"
        assert "black is 0, white 1" in display.note


def test_confusion_of_a_large_tree_has_the_classes_that_are_there():
    display = TreeConfusionDisplay.from_predictions([9, 700, 9], [9, 9, 4], tree="gz2")
    np.testing.assert_allclose(
        display.confusion_matrix, [[0, 0, 0], [0.5, 0.5, 0], [0, 1, 0]]
    )


def test_confusion_of_a_classifier(small):
    *_, X, y = small
    network = ConvNetClassifier(width=2, depth=1, max_iter=1, random_state=0).fit(X, y)
    display = TreeConfusionDisplay.from_estimator(network, X, y)
    np.testing.assert_allclose(display.confusion_matrix.sum(axis=1), 1)
    assert list(display.display_labels) == list(CLASS_NAMES)


def test_radial_profile_of_an_exponential_disc():
    place = np.arange(61) - 30.0
    r = np.hypot(place[:, None], place)
    X = np.exp(-r / 6)[None, ..., None].repeat(2, axis=-1)
    radii, profiles = radial_profiles(X + 5)
    expected = np.exp(-radii / 6)
    np.testing.assert_allclose(profiles[0, 3:-1], expected[3:-1], rtol=0.05, atol=6e-3)


def test_azimuthal_profile_peaks_at_the_axis_however_it_lies():
    place = np.arange(41) - 20.0
    curves = []
    for angle in (0.3, 1.0, 2.5):
        along = np.cos(angle) * place + np.sin(angle) * place[:, None]
        across = np.cos(angle) * place[:, None] - np.sin(angle) * place
        image = np.exp(-np.hypot(along / 8, across / 3))[None, ..., None]
        angles, profile = azimuthal_profiles(image)
        curves.append(profile[0])
    assert angles[0] == 0
    np.testing.assert_allclose(np.mean(curves, axis=1), 1)
    np.testing.assert_allclose(curves[1:], curves[:2], atol=0.1)
    assert sorted(np.argsort(curves[0])[-2:].tolist()) == [0, 18]


@pytest.mark.parametrize("kind", ["radial", "azimuthal"])
def test_profiles_of_real_and_distilled_images(small, kind):
    distiller, scaler, _, X, y = small
    display = ProfileDisplay.from_estimator(
        distiller, scaler.transform(X), y, preprocessing=scaler, kind=kind
    )
    assert len(display.axes_) == 9
    function = radial_profiles if kind == "radial" else azimuthal_profiles
    places, profiles = function(X)
    np.testing.assert_allclose(display.places, places)
    middle = display.axes_[5].lines[0].get_ydata()
    np.testing.assert_allclose(
        middle, np.median(profiles[y == 5], axis=0), rtol=1e-3, atol=1e-4
    )
    together = ProfileDisplay.from_data(X, y, kind=kind, classes=[5, 7])
    assert len(together.axes_) == 1
    np.testing.assert_allclose(
        together.axes_[0].lines[0].get_ydata(), middle, rtol=1e-3, atol=1e-4
    )
    with pytest.raises(ValueError, match="'kind' parameter"):
        ProfileDisplay.from_data(X, y, kind="other")
    with pytest.raises(ValueError, match="`ax` must be an array of 1 axes"):
        ProfileDisplay.from_data(X, y, ax=plt.subplots(2)[1])


def test_differences(small):
    distiller, scaler, _, X, y = small
    display = DifferenceDisplay.from_estimator(
        distiller, scaler.transform(X), y, preprocessing=scaler, classes=[7, 0]
    )
    distilled = scaler.inverse_transform(distiller.synthetic_.X)
    for row, label in enumerate([7, 0]):
        expected = (distilled[label] - X[y == label].mean(axis=0)).mean(axis=-1)
        np.testing.assert_allclose(display.difference[row], expected, atol=1e-5)
        np.testing.assert_array_equal(
            display.images_[row][2].get_array(), display.difference[row]
        )
    limits = {image[2].get_clim() for image in display.images_}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high
    classes = DifferenceDisplay.from_data(
        X, y, pairs=[(5, 7)], class_names={5: "barred"}
    )
    expected = (X[y == 7].mean(axis=0) - X[y == 5].mean(axis=0)).mean(axis=-1)
    np.testing.assert_allclose(classes.difference[0], expected, atol=1e-5)
    assert classes.row_names == ["barred | 7"]
    for wrong in ([], [5, 7], [(5, 7, 6)]):
        with pytest.raises(ValueError, match="`pairs` must contain at least one pair"):
            DifferenceDisplay.from_data(X, y, pairs=wrong)
    with pytest.raises(ValueError, match=r"`pairs` must be labels .* \[77\]"):
        DifferenceDisplay.from_data(X, y, pairs=[(5, 77)])
    with pytest.raises(ValueError, match=r"`class_names` must be a mapping .*5: 'a"):
        DifferenceDisplay.from_data(X, y, pairs=[(5, 7)], class_names=["a", "b"])


def test_empty_images_have_profiles():
    X, _ = make_galaxies(2, size=16, random_state=0)
    X[0] = 0
    assert np.isfinite(radial_profiles(X)[1]).all()
    _, profiles = azimuthal_profiles(X)
    assert np.isnan(profiles[0]).all()
    assert np.isfinite(profiles[1]).all()
