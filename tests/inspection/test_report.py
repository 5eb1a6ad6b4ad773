"""The report: a page that needs nothing else, and says what is true."""

import base64
import html
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    SyntheticSet,
    evaluate_synthetic,
)
from skdistill.curation._tree import CLASS_NAMES
from skdistill.inspection import report
from skdistill.inspection._report_networks import (
    Networks,
    check_training_images,
    compare_with_random,
)
from skdistill.inspection._report_origin import parameters_section
from skdistill.inspection._report_sections import images_section
from skdistill.utils._random import child_seed

NETWORK = ConvNetClassifier(width=4, depth=1, max_iter=3, device="cpu", random_state=0)


class Page(HTMLParser):
    """What a page holds: tags, attributes, text."""

    VOID = {"meta", "link", "img", "br"}

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def page(small, tmp_path_factory):
    distiller, scaler, _, X, y = small
    path = tmp_path_factory.mktemp("report") / "folder" / "report.html"
    returned = report(
        distiller,
        scaler.transform(X),
        y,
        path,
        preprocessing=scaler,
        estimator=NETWORK,
        n_repeats=2,
        title='Galaxies <1> & "others"',
        random_state=0,
    )
    assert returned == path
    return Page(path)


def test_page_needs_nothing_else(page):
    for _, attributes in page.tags:
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#"))
    assert not page.all("script")
    assert not re.search(r"https?://|@import|url\(", page.source)
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"] for attributes in page.all("a")]
    assert links
    assert {link[1:] for link in links} <= targets


def test_every_image_can_be_read_and_says_what_it_shows(page):
    images = page.all("img")
    assert len(images) > 9 + 3
    for attributes in images:
        assert len(attributes["alt"]) > 10
        data = attributes["src"].removeprefix("data:image/png;base64,")
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            image.load()
    alternatives = [attributes["alt"] for attributes in images]
    assert {f"Distilled image: {name}" for name in CLASS_NAMES} <= set(alternatives)


def test_page_is_made_for_phones_and_readers(page):
    assert page.source.startswith("<!DOCTYPE html>")
    assert page.all("html")[0]["lang"] == "en"
    assert any(
        tag.get("name") == "viewport" and "width=device-width" in tag["content"]
        for tag in page.all("meta")
    )
    assert len(page.all("h1")) == 1
    assert all(tag["scope"] in ("row", "col") for tag in page.all("th"))


def contrast(one, two):
    """Of WCAG 2."""

    def luminance(color):
        digits = color.lstrip("#")
        digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
        parts = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(
            parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    light, dark = sorted([luminance(one), luminance(two)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_has_enough_contrast(page):
    (style,) = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)
    colors = re.findall(r"(?<![-\w])color: (#\w+)", style)
    assert len(colors) >= 3
    assert re.findall(r"background: (#\w+)", style) == ["#fff"]
    assert all(contrast(color, "#fff") > 7 for color in colors)


def test_page_says_what_is_true(page, small):
    distiller, scaler, _, X, y = small
    expected = evaluate_synthetic(
        distiller.synthetic_,
        scaler.transform(X),
        y,
        estimator=NETWORK,
        n_repeats=2,
        random_state=0,
    )
    assert f"{expected.mean:.3f} ± {expected.std:.3f}" in page.text
    assert 'Galaxies <1> & "others"' in page.text
    for name in distiller.get_params():
        assert name in page.text
    for name in ("skdistill", "torch", "Python", "Progress of the matching", "Tree"):
        assert name in page.text
    for name in ("What a network looks at", "Origin", "How to load the set"):
        assert name in page.text
    real = ", ".join(f"{label}: 6" for label in range(9))
    assert f"real images54 ({real})" in page.text
    assert 'SyntheticSet.load("synthetic_set.safetensors")' in page.text
    assert "The source of the data is not given" in page.text


def baseline_by_hand(X, y, n_draws, drawn_from=None):
    """Train a network on an image of each class at a time, and test it."""
    accuracies = []
    for number in range(n_draws):
        draw = np.random.default_rng([0, number])
        images, labels = (X, y) if drawn_from is None else drawn_from
        rows = [
            draw.choice(np.flatnonzero(labels == label), 1, replace=False)[0]
            for label in range(9)
        ]
        others = np.arange(len(y))
        if drawn_from is None:
            others = np.setdiff1d(others, rows)
        seed = child_seed(child_seed(0, number) % 2**31, 0) % 2**32
        network = clone(NETWORK).set_params(random_state=seed)
        network.fit(images[rows], labels[rows])
        accuracies.append(network.score(X[others], y[others]))
    return accuracies


def test_random_images_are_other_real_ones(page, small):
    X = small[1].transform(small[3])
    expected = baseline_by_hand(X, small[4], 2)
    said = f"{np.mean(expected):.3f} ± {np.std(expected):.3f}"
    assert f"drawn from the test images and tested on the others, gives {said}," in (
        page.text
    )
    assert f"with random real images{said}" in page.text


def test_random_images_of_the_training(small):
    distiller, scaler, _, X, y = small
    X = scaler.transform(X)
    synthetic = distiller.synthetic_
    train = check_training_images(X.reshape(len(X), -1), y, synthetic)
    networks = Networks([], np.zeros(1), None, X[9:])
    settings = {"n_repeats": 2, "random_state": 0}
    found = compare_with_random(
        distiller, synthetic, networks, y[9:], train, NETWORK, **settings
    )
    assert found.said == "drawn from the training images"
    expected = baseline_by_hand(X[9:], y[9:], 2, drawn_from=(X, y))
    assert found.accuracies.tolist() == expected
    # One test image of some classes: there would be none left.
    few = np.concatenate([np.flatnonzero(y == label)[:1] for label in range(9)])
    networks = Networks([], np.zeros(1), None, X[few])
    found = compare_with_random(
        distiller, synthetic, networks, y[few], None, NETWORK, **settings
    )
    assert found.accuracies is None
    assert "requires `X_train` and `y_train`" in found.said
    assert check_training_images(None, None, synthetic) is None
    kept = y != 3
    for match, train in (
        ("must be given together", (X, None)),
        ("must be given together", (None, y)),
        ("must have the same length", (X, y[:30])),
        ("as the set: 1 of class 3; got 0", (X[kept], y[kept])),
        ("`y_train` must hold classes of the distilled", (X, y + 9)),
    ):
        with pytest.raises(ValueError, match=match):
            check_training_images(*train, synthetic)


def test_no_folder_is_named(small, tmp_path):
    distiller, _, _, X, y = small
    kept = y < 2
    short = clone(distiller).set_params(
        checkpoint=tmp_path / "my run", buffer__path=str(tmp_path / "my teachers")
    )
    short.set_params(max_total_iter=1)
    steps = [("scale", ChannelScaler()), ("fit", DistilledClassifier(short, NETWORK))]
    model = Pipeline(steps, memory=str(tmp_path / "my cache"))
    model.fit(X[kept], y[kept])
    path = tmp_path / "report.html"
    page = Page(report(model, X[kept], y[kept], path, n_repeats=1, estimator=NETWORK))
    for name in ("my run", "my teachers", "my cache", tmp_path.name, "PosixPath"):
        assert name not in page.source
    relative = short.set_params(buffer="my teachers", checkpoint="my run")
    rows = parameters_section(relative)
    assert "my " not in rows
    assert rows.count("&lt;path&gt;") == 2


def test_report_of_a_pipeline_and_names_with_markup(small, tmp_path):
    distiller, _, _, X, y = small
    kept = y < 3
    names = np.array(["<b>bold</b>", "$x_1$ & $\\frac", "plain 'quoted'"])[y[kept]]
    short = clone(distiller).set_params(max_total_iter=1)
    model = make_pipeline(ChannelScaler(), DistilledClassifier(short, NETWORK))
    flat = X[kept].reshape(kept.sum(), -1)
    model.fit(X[kept], names)
    path = report(
        model, flat, names, tmp_path / "report.html", estimator=NETWORK, n_repeats=1
    )
    page = Page(path)
    assert not page.all("b")
    assert "<b>bold</b>" in page.text
    assert html.escape("$x_1$ & $\\frac") in page.source
    assert "Tree" not in page.text  # these classes are in none


def test_a_page_is_whole_or_not_there(small, tmp_path, monkeypatch):
    distiller, scaler, _, X, y = small
    path = tmp_path / "report.html"
    path.write_text("an older one")

    def broken(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr("skdistill.inspection._html.page", broken)
    with pytest.raises(RuntimeError, match="broken"):
        report(
            distiller,
            scaler.transform(X[:9]),
            y[:9],
            path,
            estimator=NETWORK,
            n_repeats=1,
            tree=False,
        )
    assert path.read_text() == "an older one"
    assert list(tmp_path.iterdir()) == [path]


def test_errors(small, tmp_path):
    distiller, scaler, _, X, y = small
    Z = scaler.transform(X)
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match="`y_test` must hold classes of the distilled"):
        report(distiller, Z, y + 1, path)
    with pytest.raises(ValueError, match="must have the same length"):
        report(distiller, Z, y[:5], path)
    with pytest.raises(ValueError, match="`y` must hold names of the tree's"):
        report(distiller, Z, y, path, tree={"x": {"y": "a", "z": "b"}})
    assert not path.exists()


def test_images_of_a_large_set_are_bounded():
    pixels = np.zeros((1200, 4, 300, 1), dtype=np.uint8)
    synthetic = SyntheticSet(pixels, np.arange(1200) % 3)

    class Look:
        note = "black is 0"

        def __call__(self, images):
            return images.repeat(3, axis=-1)

    markup = images_section(pixels, synthetic, np.arange(3), ["a", "b", "c"], Look())
    assert markup.count("<img") == 100
    assert "100 of 1,200 are shown" in markup
    assert "one in 3 pixels" in markup
