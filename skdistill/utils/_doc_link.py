"""Links from the HTML representation of an estimator to its documentation."""

from importlib.metadata import PackageNotFoundError, metadata


class DocLinkMixin:
    """Link an estimator to its page in the documentation of this package.

    The address is that of the project's metadata, ``Documentation`` in the table
    ``[project.urls]`` of ``pyproject.toml``; without one there is no link.
    """

    _doc_link_module = "skdistill"

    @property
    def _doc_link_template(self) -> str:
        address = _documentation()
        if address is None:
            return ""
        return f"{address}/api/generated/skdistill.{{estimator_name}}.html"


def _documentation() -> str | None:
    """Return the address of the documentation, without a slash at its end."""
    try:
        urls = metadata("skdistill").get_all("Project-URL") or []
    except PackageNotFoundError:  # the sources alone, on the path
        return None
    for url in urls:
        label, _, address = url.partition(",")
        if label.strip().lower() == "documentation":
            return address.strip().rstrip("/")
    return None
