"""The report in a browser, from a file: on a desk, on a phone, in the dark."""

import matplotlib.pyplot as plt
import pytest

from skdistill import (
    ChannelScaler,
    ConvNetClassifier,
    STMDistiller,
    TrajectoryBuffer,
    make_galaxies,
)
from skdistill.inspection import report


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a report on a short distillation of simulated galaxies."""
    X, y = make_galaxies(90, size=16, random_state=0)
    scaler = ChannelScaler()
    X = scaler.fit_transform(X)
    teachers = TrajectoryBuffer(n_teachers=1, n_epochs=3, width=4, random_state=0)
    distiller = STMDistiller(
        buffer=teachers, n_steps=2, max_total_iter=12, random_state=0
    )
    path = report(
        distiller.fit(X[:54], y[:54]),
        X[54:],
        y[54:],
        tmp_path_factory.mktemp("report") / "report.html",
        preprocessing=scaler,
        estimator=ConvNetClassifier(width=4, max_iter=3),
        n_repeats=2,
        random_state=0,
    )
    plt.close("all")
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_report_opens_without_a_problem(page, visit, accessibility, width, scheme):
    window = visit(width, scheme)
    opened = window.open(page)
    assert opened.title()
    assert opened.locator("img").count() >= 5
    assert not window.problems
    assert not accessibility(opened)
