from email.message import Message
from importlib.metadata import PackageNotFoundError

import pytest
from sklearn.base import BaseEstimator

import skdistill
from skdistill.utils import _doc_link

NAMES = [name for name in skdistill.__all__ if name[0].isupper()]
ESTIMATORS = [n for n in NAMES if issubclass(getattr(skdistill, n), BaseEstimator)]


def publish(monkeypatch, *urls):
    message = Message()
    for url in urls:
        message["Project-URL"] = url
    monkeypatch.setattr(_doc_link, "metadata", lambda name: message)


def make(name):
    if name == "DistilledClassifier":
        inner = skdistill.STMDistiller(), skdistill.ConvNetClassifier()
        return skdistill.DistilledClassifier(*inner)
    return getattr(skdistill, name)()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_each_estimator_links_to_its_page(name, monkeypatch):
    publish(
        monkeypatch,
        "Source, https://example.org/source",
        "Documentation, https://example.org/stable/",
    )
    page = f"https://example.org/stable/api/generated/skdistill.{name}.html"
    assert f'href="{page}"' in make(name)._repr_html_()


@pytest.mark.parametrize("urls", [[], ["Source, https://example.org/source"]])
def test_no_address_no_link(urls, monkeypatch):
    publish(monkeypatch, *urls)
    html = skdistill.STMDistiller()._repr_html_()
    assert "skdistill.STMDistiller.html" not in html


def test_package_that_is_not_installed(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_doc_link, "metadata", missing)
    assert skdistill.ChannelScaler()._get_doc_link() == ""


def test_subclasses_of_others_have_no_page(monkeypatch):
    publish(monkeypatch, "documentation,https://example.org")

    class Mine(skdistill.ChannelScaler):
        pass

    assert Mine()._get_doc_link() == ""
