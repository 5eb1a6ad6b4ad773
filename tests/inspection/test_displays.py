"""Displays of images: grids, and trees with images at their leaves."""

import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    GalaxyZooCurator,
    RandomSubset,
    STMDistiller,
    SyntheticSet,
    TrajectoryBuffer,
)
from skdistill.curation._tree import CLASS_NAMES, NINE
from skdistill.inspection import (
    DifferenceDisplay,
    EvolutionDisplay,
    MeasuresDisplay,
    NeighborsDisplay,
    ProfileDisplay,
    SyntheticSetDisplay,
    TreeConfusionDisplay,
    TreeDisplay,
)
from skdistill.inspection._plotting import wrapped
from skdistill.inspection._tree_layout import grow, leaf_positions, tree_of


@pytest.fixture(scope="module")
def images():
    """Two images for each of nine classes, one flat color each, classes mixed."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(np.arange(9), 2))
    X = np.zeros((18, 6, 4, 3), dtype=np.float32)
    X += np.arange(18).reshape(-1, 1, 1, 1) / 17
    return X, y


@pytest.fixture(scope="module")
def fitted(images):
    """A distiller, the scaler before it, and a pipeline that does the same."""
    X, y = images
    teachers = TrajectoryBuffer(
        n_teachers=1, n_epochs=2, width=2, depth=1, device="cpu", random_state=0
    )
    distiller = STMDistiller(
        ipc=2, buffer=teachers, n_steps=1, max_total_iter=1, random_state=0
    )
    scaler = ChannelScaler().fit(X)
    network = ConvNetClassifier(width=2, depth=1, max_iter=1, random_state=0)
    pipeline = make_pipeline(ChannelScaler(), DistilledClassifier(distiller, network))
    pipeline.fit(X, y)
    distiller.fit(scaler.transform(X), y)
    return distiller, scaler, pipeline


def shown(display):
    images = display.images_
    if images and isinstance(images[0], list):
        images = [image for row in images for image in row]
    return [image.get_array() for image in images]


def test_grid_has_each_image_in_its_row_with_one_stretch(images):
    X, y = images
    display = SyntheticSetDisplay.from_data(X, y, value_range=(0, 1))
    assert [len(row) for row in display.images_] == [2] * 9
    for label, row in enumerate(display.images_):
        for image, expected in zip(row, X[y == label], strict=True):
            np.testing.assert_allclose(image.get_array(), expected * 255, atol=0.51)
        bottoms = {image.get_extent()[2] for image in row}
        assert len(bottoms) == 1
        tick = display.ax_.get_yticks()[label]
        assert row[0].get_extent()[3] < tick < row[0].get_extent()[2]
    names = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert names == [str(label) for label in range(9)]
    assert display.figure_ is display.ax_.figure


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("completely_round_smooth", "completely_\nround_smooth"),
        ("in-between edge-on", "in-between\nedge-on"),
        ("spiral", "spiral"),
    ],
)
def test_names_are_broken_where_words_end(name, lines):
    assert wrapped(name, 13) == lines


def test_grid_draws_where_it_is_told_and_returns_itself(images):
    figure, axes = plt.subplots(1, 2)
    display = SyntheticSetDisplay.from_data(
        *images, classes=[3, 1], class_names=["three", "one"], ax=axes[1], alpha=0.5
    )
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert [text.get_text() for text in axes[1].get_yticklabels()] == ["three", "one"]
    assert display.images_[0][0].get_alpha() == 0.5
    assert not axes[0].images
    assert display.plot(ax=axes[0]) is display
    assert len(axes[0].images) == 4


def test_displays_draw_in_parts_of_a_figure(images, fitted):
    X, y = images
    distiller, scaler, _ = fitted
    figure = plt.figure(figsize=(12, 10), layout="constrained")
    parts = iter(figure.subfigures(2, 3).ravel())
    real = scaler.transform(X)
    for display in (
        SyntheticSetDisplay.from_data(X, y, ax=next(parts).subplots()),
        TreeDisplay.from_data(X, y, ax=next(parts).subplots()),
        TreeConfusionDisplay.from_predictions(y, y, ax=next(parts).subplots()),
        DifferenceDisplay.from_estimator(
            distiller, real, y, classes=[0, 1], title="Two", ax=next(parts).subplots()
        ),
        ProfileDisplay.from_data(X, y, title="All", ax=next(parts).subplots()),
        ProfileDisplay.from_estimator(
            distiller, real, y, classes=[0, 1], ax=next(parts).subplots(1, 2)
        ),
    ):
        assert display.figure_ is figure
    figure.draw_without_rendering()


def test_axes_are_as_many_as_a_display_needs(images):
    X, y = images
    _, axes = plt.subplots(1, 2)
    for draw in (
        SyntheticSetDisplay.from_data,
        TreeDisplay.from_data,
        TreeConfusionDisplay.from_predictions,
    ):
        labels = y if draw is TreeConfusionDisplay.from_predictions else X
        with pytest.raises(ValueError, match=r"The 'ax' parameter of .* must be"):
            draw(labels, y, ax=axes)
    with pytest.raises(ValueError, match="`ax` must be an array of matplotlib Axes"):
        ProfileDisplay.from_data(X, y, ax=[3])


def test_grid_shows_bands_beside_the_composite():
    X = np.zeros((1, 4, 4, 5), dtype=np.float32)
    X += np.linspace(0, 1, 5)
    display = SyntheticSetDisplay.from_data(
        X, ["a"], value_range=(0, 1), bands=list("zirgu"), composite=(0, 2, 4)
    )
    composite, *bands = shown(display)
    assert composite[0, 0].tolist() == [0, 128, 255]
    assert [band[0, 0].tolist() for band in bands] == [
        [level] * 3 for level in (0, 64, 128, 191, 255)
    ]
    labels = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert labels == ["composite", *"zirgu"]
    display = SyntheticSetDisplay.from_data(X, ["a"], bands=True)
    assert display.panels[1:] == [f"band {number}" for number in range(5)]
    with pytest.raises(ValueError, match=r"`bands` must be .* 5 channels; got 2"):
        SyntheticSetDisplay.from_data(X, ["a"], bands=["r", "g"])


def test_estimators_of_every_kind_show_the_same_pixels(fitted):
    distiller, scaler, pipeline = fitted
    expected = distiller.synthetic_.to_images(scaler, value_range=(0, 1))
    alone = SyntheticSetDisplay.from_estimator(
        distiller, preprocessing=scaler, value_range=(0, 1)
    )
    inside = SyntheticSetDisplay.from_estimator(pipeline, value_range=(0, 1))
    np.testing.assert_array_equal(shown(alone), expected)
    np.testing.assert_array_equal(shown(inside), expected)


def test_tree_has_real_and_distilled_images_below_their_leaves(images, fitted):
    X, y = images
    distiller, scaler, pipeline = fitted
    alone = TreeDisplay.from_estimator(
        distiller, scaler.transform(X), y, preprocessing=scaler, value_range=(0, 1)
    )
    inside = TreeDisplay.from_estimator(pipeline, X, y, value_range=(0, 1))
    flat = TreeDisplay.from_estimator(
        pipeline, X.reshape(len(X), -1), y, value_range=(0, 1)
    )
    for display in (alone, inside, flat):
        assert len(display.images_) == 18
        leaves = grow(NINE, spacing=display.images_[1].get_extent()[0] + 0.5).leaves()
        for leaf, image in zip(leaves, display.images_, strict=False):
            label = CLASS_NAMES.index(leaf.leaf)
            first = X[np.flatnonzero(y == label)[0]]
            np.testing.assert_allclose(image.get_array(), first * 255, atol=0.51)
            left, right, bottom, top = image.get_extent()
            assert (left + right) / 2 == pytest.approx(leaf.x)
            # pixels are square: the images are 6 x 4
            assert (top - bottom) / (right - left) == pytest.approx(6 / 4)
        real, distilled = display.images_[0], display.images_[9]
        assert distilled.get_extent()[3] < real.get_extent()[2]
    pixels = distiller.synthetic_.to_images(scaler, value_range=(0, 1))
    np.testing.assert_array_equal(shown(alone)[9:], pixels[::2])


def test_tree_says_questions_answers_and_leaves(images):
    display = TreeDisplay.from_data(*images, title="galaxies", row_title="toys")
    texts = [text.get_text().replace("\n", " ") for text in display.texts_]
    assert texts.count("galaxies") == texts.count("toys") == 1
    assert {"smooth or features?", "edge-on?", "bar?", "bulge shape?"} <= set(texts)
    assert {"rounded or boxy", "no bulge", "yes", "no"} <= set(texts)
    assert set(CLASS_NAMES) <= set(texts)
    assert texts.count("spiral?") == 2


def test_tree_leaves_gaps_where_there_are_no_images(images):
    X, y = images
    display = TreeDisplay.from_data(X[y != 4], y[y != 4], n_images=3)
    assert len(display.images_) == 16
    names = np.array(CLASS_NAMES)[y]
    by_name = TreeDisplay.from_data(X, names, n_images=2)
    for one, two in zip(
        shown(by_name), shown(TreeDisplay.from_data(X, y, n_images=2)), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_tree_of_the_user(images):
    X, _ = images
    tree = {"sound": {"barks": {"big": {"yes": "dog", "no": "pup"}}, "meows": "cat"}}
    display = TreeDisplay.from_data(X[:3], ["cat", "dog", "pup"], tree=tree)
    texts = [text.get_text() for text in display.texts_]
    assert {"sound?", "barks", "meows", "big?", "no", "dog", "cat", "pup"} <= set(texts)
    shades = [image[0, 0, 0] for image in shown(display)]
    assert np.argsort(shades).tolist() == [2, 0, 1]  # the cat's is the darkest


def test_tree_of_a_curator(images):
    X, y = images
    tree = {"sound": {"barks": "dog", "meows": "cat", "none": None}}
    curator = GalaxyZooCurator(tree=tree)
    display = TreeDisplay.from_data(X[:2], ["cat", "dog"], tree=curator)
    texts = [text.get_text() for text in display.texts_]
    assert texts[:5] == ["barks", "meows", "sound?", "dog", "cat"]
    by_default = TreeDisplay.from_data(X, y, tree=GalaxyZooCurator())
    assert len(by_default.images_) == 9


def test_of_a_large_tree_only_leaves_with_images_are_drawn(images):
    X, _ = images
    leaves = list(tree_of("gz2").leaves)
    labels = [leaves[5], leaves[700]]
    display = TreeDisplay.from_data(X[:2], labels, tree="gz2")
    texts = [text.get_text().replace("\n", " ") for text in display.texts_]
    assert len(display.images_) == 2
    assert sum(text in leaves for text in texts) <= 2
    assert len(texts) < 40


def test_nodes_of_the_tree():
    root = grow(NINE)
    leaves = root.leaves()
    assert [leaf.leaf for leaf in leaves] == list(CLASS_NAMES)
    assert [leaf.depth for leaf in leaves] == [len(w) for w in NINE.leaves.values()]
    assert [leaf.x for leaf in leaves] == list(range(9))
    assert [child.x for child in root.children] == [1, pytest.approx(5.0)]
    assert root.question == "smooth or features?"
    assert root.children[1].question == "edge-on?"
    assert root.children[1].children[0].children[0].answer == "rounded or boxy"


def test_labels_of_leaves():
    assert leaf_positions([2, 0], "abc").tolist() == [2, 0]
    assert leaf_positions(["c", "a"], "abc").tolist() == [2, 0]
    for wrong in ([3], [-1], ["d"], [0.5]):
        with pytest.raises(ValueError, match="`labels` must hold names of the tree's"):
            leaf_positions(wrong, "abc")


def test_errors(images, fitted):
    X, y = images
    distiller, scaler, pipeline = fitted
    with pytest.raises(NotFittedError):
        SyntheticSetDisplay.from_estimator(STMDistiller())
    with pytest.raises(ValueError, match=r"`estimator` must be .* got ChannelScaler"):
        TreeDisplay.from_estimator(scaler)
    with pytest.raises(ValueError, match="`preprocessing` must be None"):
        TreeDisplay.from_estimator(pipeline, preprocessing=scaler)
    with pytest.raises(ValueError, match="must be given together"):
        TreeDisplay.from_estimator(distiller, X)
    with pytest.raises(ValueError, match=r"= \(6, 4, 3\); got \(6, 3, 3\)"):
        TreeDisplay.from_estimator(distiller, X[:, :, :3], y)
    with pytest.raises(ValueError, match="must be 4-D"):
        SyntheticSetDisplay.from_data(X[0], y)
    with pytest.raises(ValueError, match="one label for each"):
        SyntheticSetDisplay.from_data(X, y[:3])
    with pytest.raises(ValueError, match=r"no images have \[12\]"):
        SyntheticSetDisplay.from_data(X, y, classes=[1, 12])
    with pytest.raises(ValueError, match="`classes` must hold at least one label"):
        SyntheticSetDisplay.from_data(X, y, classes=[])
    with pytest.raises(ValueError, match="`class_names` must hold a name"):
        SyntheticSetDisplay.from_data(X, y, class_names=["one"])
    with pytest.raises(ValueError, match="got a set, which has no order"):
        SyntheticSetDisplay.from_data(X, y, class_names=set("abcdefghi"))
    with pytest.raises(ValueError, match="`value_range` must be"):
        SyntheticSetDisplay.from_data(X, y, value_range=(1, 0))
    with pytest.raises(ValueError, match="'n_images' parameter"):
        TreeDisplay.from_data(X, y, n_images=0)
    for wrong in (3, {}):
        with pytest.raises(ValueError, match="`tree` must have one question"):
            TreeDisplay.from_data(X, y, tree=wrong)
    with pytest.raises(ValueError, match="`tree` as a name must be one of"):
        TreeDisplay.from_data(X, y, tree="ten")


@pytest.mark.filterwarnings("ignore:.*pixel space")
def test_displays_want_a_label_for_each_image(images, fitted):
    X, y = images
    distiller = fitted[0]
    pairs = [(0, 1)]
    doors = [
        lambda y: SyntheticSetDisplay.from_data(X, y),
        lambda y: EvolutionDisplay.from_data(X[None], [0], y),
        lambda y: TreeDisplay.from_data(X, y),
        lambda y: TreeDisplay.from_estimator(distiller, X, y),
        lambda y: ProfileDisplay.from_data(X, y),
        lambda y: ProfileDisplay.from_estimator(distiller, X, y),
        lambda y: DifferenceDisplay.from_data(X, y, pairs=pairs),
        lambda y: DifferenceDisplay.from_estimator(distiller, X, y),
        lambda y: MeasuresDisplay.from_data(X, y, X, images[1]),
        lambda y: MeasuresDisplay.from_data(X, images[1], X, y),
        lambda y: MeasuresDisplay.from_estimator(distiller, X, y),
    ]
    short, masked = y[:-2], np.ma.masked_array(y, y == 3)
    for door in doors:
        for wrong, message in (
            (short, "one label for each of the 18 images.* got 16"),
            (np.eye(9)[y], "convert one-hot rows"),
            (masked, "is masked: 2 values"),
            (np.where(y == 3, np.nan, y), "got NaN at position"),
        ):
            with pytest.raises(ValueError, match=message):
                door(wrong)
    with pytest.raises(ValueError, match="y_true is masked"):
        TreeConfusionDisplay.from_predictions(masked, y)
    with pytest.raises(ValueError, match="`y` holds strings"):
        ProfileDisplay.from_estimator(distiller, X, y.astype(str))
    with pytest.raises(ValueError, match=r"a real image of each class .* \[3\]"):
        DifferenceDisplay.from_estimator(distiller, X[y != 3], y[y != 3])
    plt.close("all")


def test_tables_have_the_columns_of_fit(images):
    X, y = images
    rows = pd.DataFrame(X.reshape(18, -1)).add_prefix("p")
    turned = rows[rows.columns[::-1]]
    distiller = RandomSubset(image_shape=X.shape[1:], random_state=0).fit(rows, y)
    network = ConvNetClassifier(
        width=2, depth=1, max_iter=1, image_shape=X.shape[1:], device="cpu"
    ).fit(rows, y)
    for door in (
        lambda X: ProfileDisplay.from_estimator(distiller, X, y),
        lambda X: DifferenceDisplay.from_estimator(distiller, X, y),
        lambda X: TreeDisplay.from_estimator(distiller, X, y),
        lambda X: MeasuresDisplay.from_estimator(distiller, X, y, measures=["gini"]),
        lambda X: NeighborsDisplay.from_set(
            distiller.synthetic_, X, y, estimator=network
        ),
    ):
        with pytest.raises(
            ValueError, match=r"X must have the same columns .* another"
        ):
            door(turned)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        door(rows)
    plt.close("all")


def test_long_titles_and_notes_are_not_cut_off(images):
    few = images[0][:2]
    title = "Nine classes of galaxies, STM with 50 images of each class in g, r and i"
    arms = {"arms": {"yes": "spiral", "no": "smooth"}}
    leaves = ["spiral", "smooth"]
    for display in (
        SyntheticSetDisplay.from_data(few, [0, 1], title=title),
        TreeDisplay.from_data(few, leaves, tree=arms, title=title),
        TreeConfusionDisplay.from_predictions(leaves, leaves, tree=arms, title=title),
        ProfileDisplay.from_data(few, [0, 1], title=title),
        MeasuresDisplay.from_data(
            few, [0, 1], few, [0, 1], measures=["gini"], title=title
        ),
    ):
        figure = display.figure_
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        texts = [
            text
            for text in figure.findobj(Text)
            if "galaxies" in text.get_text() or "`value_range`" in text.get_text()
        ]
        assert texts
        for text in texts:
            box = text.get_window_extent()
            assert min(box.x0, box.y0) >= 0, text
            assert box.x1 <= width, text
            assert box.y1 <= height, text
    plt.close("all")


def test_missing_matplotlib_is_told(monkeypatch, images):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install skdistill\[plot\]"):
        SyntheticSetDisplay.from_data(*images)


def test_stored_sets_are_shown(tmp_path, images):
    X, y = images
    SyntheticSet(X, y).save(tmp_path / "set")
    display = SyntheticSetDisplay.from_data(*SyntheticSet.load(tmp_path / "set"))
    assert len(shown(display)) == 18


@pytest.mark.parametrize(
    ("number", "n_classes"), [(900, 1), (900, 9), (900, 900), (1, 1), (2000, 10)]
)
def test_displays_of_many_images_are_bounded(number, n_classes):
    X = np.random.default_rng(0).random((number, 4, 4, 1)).astype(np.float32)
    y = np.arange(number) % n_classes
    display = SyntheticSetDisplay.from_data(X, y, max_images=120)
    assert max(display.figure_.get_size_inches()) <= 14
    drawn = shown(display)
    assert len(drawn) <= 120
    assert min(np.bincount(y)) == 1 or len(drawn) >= 80
    note = display.note_.get_text().replace("\n", " ")
    assert ("the first" in note) == (number > 1)
    # Every image that is drawn is one of its class, and whole rows stay together.
    for label, row in enumerate(display.images_):
        levels = [image.get_array()[0, 0, 0] for image in row]
        expected = (X[y == label, 0, 0, 0][: len(row)] * 255).round()
        np.testing.assert_allclose(levels, expected, atol=1)
    steps = np.arange(3)[:, None, None, None, None] + np.zeros((1, number, 4, 4, 1))
    evolution = EvolutionDisplay.from_data(steps, np.arange(3), y)
    assert max(evolution.figure_.get_size_inches()) <= 14
    assert len(evolution.images_) <= 40
    assert len({row[0] for row in evolution.names}) >= 1


@pytest.mark.parametrize("joined", [" ", "_"])
def test_long_names_of_many_classes_are_inside_of_the_figure(joined):
    names = [joined.join(["a name of a class"] * 4) + f"{k:02d}" for k in range(60)]
    X = np.linspace(0, 1, 60 * 64, dtype=np.float32).reshape(60, 8, 8, 1)
    display = SyntheticSetDisplay.from_data(X, names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        display.figure_.draw_without_rendering()
    for label in display.ax_.get_yticklabels():
        assert label.get_text().startswith("a name of")
        assert label.get_window_extent().x0 >= 0


def test_one_row_for_each_class_by_option(images):
    X, y = images
    frames = np.stack([X * level for level in (0.2, 0.6, 1)])
    display = EvolutionDisplay.from_data(frames, [0, 5, 9], y, n_images=1)
    assert display.names == [str(label) for label in range(9)]
    last = [row[-1].get_array()[0, 0, 0] for row in display.images_]
    first = [X[np.flatnonzero(y == label)[0], 0, 0, 0] for label in range(9)]
    np.testing.assert_allclose(last, np.round(np.array(first) * 255), atol=1)
    with pytest.raises(ValueError, match="'n_images' parameter"):
        EvolutionDisplay.from_data(frames, [0, 5, 9], y, n_images=0)
    with pytest.raises(ValueError, match="one label for each of the 18 images"):
        EvolutionDisplay.from_data(frames, [0, 5, 9], y[:3])


def test_titles_and_notes_are_the_users(images, fitted):
    distiller, scaler, _ = fitted
    display = SyntheticSetDisplay.from_estimator(distiller, preprocessing=scaler)
    assert display.ax_.get_title() == "distilled by STMDistiller"
    note = display.note_.get_text().replace("\n", " ")
    assert "black is 0, white 1" in note
    assert "`value_range`" in note
    display = SyntheticSetDisplay.from_estimator(distiller, title="My $5 galaxies")
    assert display.ax_.get_title() == "My $5 galaxies"
    assert not SyntheticSetDisplay.from_estimator(distiller, title="").ax_.get_title()
    tree = TreeDisplay.from_estimator(
        distiller,
        *images,
        n_images=2,
        row_titles=("simulated", "made"),
        class_names={0: "egg", "barred spiral": "a bar"},
        title="On a slide",
    )
    texts = [text.get_text() for text in tree.texts_]
    for text in ("simulated", "made", "egg", "a bar", "On a slide"):
        assert texts.count(text) == 1
    assert "real" not in texts
    with pytest.raises(ValueError, match="'row_titles' parameter"):
        TreeDisplay.from_estimator(distiller, *images, row_titles="real")
    with pytest.raises(ValueError, match="`row_titles` must be two"):
        TreeDisplay.from_estimator(distiller, *images, row_titles=["real"])
    with pytest.raises(ValueError, match="`class_names` must hold names of"):
        TreeDisplay.from_data(*images, class_names={"dragon": "x"})
    with pytest.raises(ValueError, match="a name for each of the 9 classes; got 1"):
        TreeDisplay.from_data(*images, class_names=["x"])


def test_the_same_image_looks_the_same_in_every_display(fitted, images):
    X, y = images
    for distiller, scaler, real in (
        (*fitted[:2], fitted[1].transform(X)),
        (fitted[2], None, X),
    ):
        tree = TreeDisplay.from_estimator(
            distiller, real, y, preprocessing=scaler, n_images=2
        )
        grid = SyntheticSetDisplay.from_estimator(distiller, preprocessing=scaler)
        # Of the tree's images the first half is real.
        np.testing.assert_array_equal(shown(tree)[18:27], shown(grid)[::2])


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("edge-on?", "edge-on?"),
        ("Is it edge-on ?", "Is it edge-on ?"),
        ("round? (t01)", "round? (t01)"),
        ("t02_edgeon", "edge-on?"),
        ("\u68d2\uff1f", "\u68d2\uff1f"),
    ],
)
def test_questions_have_one_question_mark(question, said):
    root = grow(tree_of({question: {"yes": "a", "no": "b"}}))
    assert root.question == said


def test_text_of_a_tree_can_be_read_on_a_slide(images):
    display = TreeDisplay.from_data(*images, row_title="toys", title="t")
    assert display.figure_.get_size_inches()[0] <= 14
    small = [text.get_fontsize() for text in display.texts_[:-1]]  # without the note
    assert min(small) >= 11
    _, ax = plt.subplots(figsize=(4, 3))
    beside = TreeDisplay.from_data(*images, ax=ax)
    assert max(text.get_fontsize() for text in beside.texts_) < 6


def test_long_answers_do_not_lie_on_questions(images):
    tree = {
        "Is it as round as a ball?": {
            "no, it is rather like an egg": {"is the egg large": {"a": "x", "b": "y"}},
            "yes": "ball",
        }
    }
    display = TreeDisplay.from_data(images[0][:3], ["x", "y", "ball"], tree=tree)
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in display.texts_[:-1]]
    for number, one in enumerate(boxes):
        assert not any(one.overlaps(two) for two in boxes[number + 1 :])


@pytest.mark.parametrize("from_blue", [True, False])
def test_composites_of_named_bands_are_not_inverted(from_blue):
    X = np.zeros((1, 4, 4, 5), dtype=np.float32)
    X[..., 4 if from_blue else 0] = 1.0  # light in z alone
    names = "ugriz" if from_blue else "zirgu"
    for display in (
        SyntheticSetDisplay.from_data(X, ["a"], bands=list(names)),
        SyntheticSetDisplay.from_data(X, ["a"], band_names=names),
        TreeDisplay.from_data(X, [0], band_names=names),
        EvolutionDisplay.from_data(X[None], [0], ["a"], band_names=names),
    ):
        color = shown(display)[0][0, 0]
        assert color[0] > 0
        assert color[1] == color[2] == 0
    unnamed = SyntheticSetDisplay.from_data(X, ["a"])
    assert "assumed from red to blue" in unnamed.note_.get_text().replace("\n", " ")
