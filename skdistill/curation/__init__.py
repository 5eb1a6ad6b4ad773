"""Labeled images from a catalog of votes."""

from skdistill.curation._curator import GalaxyZooCurator
from skdistill.curation._questions import GZ2_QUESTIONS, vote_tree
from skdistill.curation._reader import ImageReader
from skdistill.curation._rotation import RotationAugmenter

__all__ = [
    "GZ2_QUESTIONS",
    "GalaxyZooCurator",
    "ImageReader",
    "RotationAugmenter",
    "vote_tree",
]
