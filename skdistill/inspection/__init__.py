"""Pictures and measurements of distilled images."""

from skdistill.inspection._images import SyntheticSetDisplay
from skdistill.inspection._tree import TreeDisplay

__all__ = ["SyntheticSetDisplay", "TreeDisplay"]
