"""Teachers and the snapshots of their training."""

from skdistill.trajectory._buffer import TrajectoryBuffer

__all__ = ["TrajectoryBuffer"]
