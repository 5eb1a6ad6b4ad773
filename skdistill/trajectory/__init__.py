"""Teachers and the snapshots of their training."""

from skdistill.trajectory._buffer import TrajectoryBuffer
from skdistill.trajectory._manage import (
    drop_teachers,
    list_teachers,
    merge_buffers,
)
from skdistill.utils._cost import CostEstimate

__all__ = [
    "CostEstimate",
    "TrajectoryBuffer",
    "drop_teachers",
    "list_teachers",
    "merge_buffers",
]
