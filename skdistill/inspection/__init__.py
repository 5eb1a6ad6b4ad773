"""Plots and measurements of distilled images."""

from skdistill.inspection._comparison import compare_classes
from skdistill.inspection._confidence import ConfidenceDisplay
from skdistill.inspection._confusion import TreeConfusionDisplay
from skdistill.inspection._difference import DifferenceDisplay
from skdistill.inspection._distiller_comparison_display import (
    DistillerComparisonDisplay,
)
from skdistill.inspection._evolution import EvolutionDisplay
from skdistill.inspection._images import SyntheticSetDisplay
from skdistill.inspection._label_errors import find_label_errors
from skdistill.inspection._matching import MatchingDisplay
from skdistill.inspection._measures import MorphologyMeasures
from skdistill.inspection._measures_display import MeasuresDisplay
from skdistill.inspection._neighbors_display import NeighborsDisplay
from skdistill.inspection._occlusion import occlusion_maps
from skdistill.inspection._occlusion_display import OcclusionDisplay
from skdistill.inspection._placement import place_distilled
from skdistill.inspection._profiles import ProfileDisplay
from skdistill.inspection._recorder import ImageRecorder
from skdistill.inspection._report import report
from skdistill.inspection._tree import TreeDisplay

__all__ = [
    "ConfidenceDisplay",
    "DifferenceDisplay",
    "DistillerComparisonDisplay",
    "EvolutionDisplay",
    "ImageRecorder",
    "MatchingDisplay",
    "MeasuresDisplay",
    "MorphologyMeasures",
    "NeighborsDisplay",
    "OcclusionDisplay",
    "ProfileDisplay",
    "SyntheticSetDisplay",
    "TreeConfusionDisplay",
    "TreeDisplay",
    "compare_classes",
    "find_label_errors",
    "occlusion_maps",
    "place_distilled",
    "report",
]
