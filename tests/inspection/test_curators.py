"""Trees of curators are drawn as the curators have them."""

import matplotlib.pyplot as plt
import numpy as np

from skdistill import GalaxyZooCurator
from skdistill.inspection import TreeDisplay

TREE = {
    "shape": {
        "smooth": "elliptical",
        "disc": {"arms": {"yes": "spiral", "no": "lenticular"}},
        "star": None,
    }
}
CLASSES = ["elliptical", "spiral", "lenticular"]


def test_curator_of_another_survey_is_drawn():
    X = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    curator = GalaxyZooCurator(tree=TREE)
    display = TreeDisplay.from_data(X, CLASSES, tree=curator)
    texts = {text.get_text().replace("\n", " ") for text in display.texts_}
    assert set(CLASSES) <= texts
    assert len(display.images_) == 3
    plt.close(display.figure_)
