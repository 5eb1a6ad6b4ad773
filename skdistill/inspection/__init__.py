"""Pictures and measurements of distilled images."""

from skdistill.inspection._images import SyntheticSetDisplay
from skdistill.inspection._measures import MorphologyMeasures
from skdistill.inspection._measures_display import MeasuresDisplay
from skdistill.inspection._placement import compare_classes, place_distilled
from skdistill.inspection._tree import TreeDisplay

__all__ = [
    "MeasuresDisplay",
    "MorphologyMeasures",
    "SyntheticSetDisplay",
    "TreeDisplay",
    "compare_classes",
    "place_distilled",
]
