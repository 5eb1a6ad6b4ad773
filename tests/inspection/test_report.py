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
from sklearn.pipeline import make_pipeline

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    DistilledClassifier,
    SyntheticSet,
    evaluate_synthetic,
)
from skdistill.curation._tree import CLASS_NAMES
from skdistill.inspection import report
from skdistill.inspection._report_sections import images_section

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
    for name in ("skdistill", "torch", "Python", "Story of the matching", "Tree"):
        assert name in page.text


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
        report(distiller, scaler.transform(X), y, path, estimator=NETWORK, n_repeats=1)
    assert path.read_text() == "an older one"
    assert list(tmp_path.iterdir()) == [path]


def test_errors(small, tmp_path):
    distiller, scaler, _, X, y = small
    Z = scaler.transform(X)
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match="`y_test` must hold classes of the distilled"):
        report(distiller, Z, y + 1, path)
    with pytest.raises(ValueError, match="must be of one length"):
        report(distiller, Z, y[:5], path)
    with pytest.raises(ValueError, match="labels must be names of the tree's leaves"):
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
    assert "Shown are 100 of 1,200" in markup
    assert "one in 3 is shown" in markup
