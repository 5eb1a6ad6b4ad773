"""A callback that keeps the images of a distiller along its fit."""

from typing import Any

import numpy as np


class ImageRecorder:
    """Record the synthetic images of a distiller during its fit.

    A callback of scikit-learn 1.9 or newer: ``distiller.set_callbacks(recorder).fit(X,
    y)``.  Memory is bounded: if there are more than ``max_frames`` frames, every second
    one is dropped, and only half as many are recorded from then on.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    max_frames : int, default=50
        Maximum number of frames, at least 2, in addition to the last.

    Attributes
    ----------
    images_ : ndarray of shape (n_frames, n_images, height, width, channels)
        The images, in the pixel space of the distillation; each frame is the set that
        the fit would return if it ended there.
    iterations_ : ndarray of shape (n_frames,)
        The number of iterations before each frame.
    y_ : ndarray of shape (n_images,)
        The labels of the images.

    See Also
    --------
    EvolutionDisplay : The frames as a strip or an animation.

    Examples
    --------
    >>> from skdistill import STMDistiller, TrajectoryBuffer, make_galaxies
    >>> from skdistill.inspection import ImageRecorder
    >>> X, y = make_galaxies(18, size=8, random_state=0)
    >>> teachers = TrajectoryBuffer(n_teachers=1, n_epochs=2, width=4)
    >>> distiller = STMDistiller(buffer=teachers, n_steps=2, max_total_iter=3)
    >>> recorder = ImageRecorder()
    >>> _ = distiller.set_callbacks(recorder).fit(X, y)
    >>> recorder.images_.shape
    (3, 9, 8, 8, 3)
    """

    def __init__(self, max_frames: int = 50) -> None:
        self.max_frames = max_frames

    def setup(self, estimator: Any, context: Any) -> None:
        """Delete the frames of an earlier fit.

        Parameters
        ----------
        estimator : estimator instance
            The distiller.
        context : CallbackContext
            The fit.
        """
        if self.max_frames < 2:
            raise ValueError(f"`max_frames` must be at least 2; got {self.max_frames}")
        self._every = 1
        self._frames: list[np.ndarray] = []
        self._iterations: list[int] = []

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing.

        Parameters
        ----------
        estimator : estimator instance
            The distiller.
        context : CallbackContext
            The fit.
        """

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing.

        Parameters
        ----------
        estimator : estimator instance
            The distiller.
        context : CallbackContext
            The iteration, or the fit.
        """

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> bool:
        """Record the images of an iteration.

        Parameters
        ----------
        estimator : estimator instance
            The distiller.
        context : CallbackContext
            The iteration, or the fit.
        fitted_estimator : estimator instance, default=None
            The distiller as if its fit ended here.

        Returns
        -------
        stop : bool
            False: a recorder never stops a fit.
        """
        synthetic = getattr(fitted_estimator, "synthetic_", None)
        if synthetic is None:
            return False
        # Also of those before it was resumed, which the number of the task is not.
        iteration = getattr(fitted_estimator, "n_iter_", None)
        is_iteration = context.task_name == "iteration"
        # A run that was read again at its end has no other frame than its last.
        if iteration is not None and (is_iteration or not self._frames):
            # The first, and then at regular intervals.
            due = (iteration - 1) % self._every == 0
            self._last = synthetic.X
            self._last_iteration = iteration
            if due:
                self._keep(iteration, synthetic.X)
        self.y_ = synthetic.y
        return False

    def _keep(self, iteration: int, images: np.ndarray) -> None:
        self._frames.append(images)
        self._iterations.append(iteration)
        if len(self._frames) > self.max_frames:
            del self._frames[1::2], self._iterations[1::2]
            self._every *= 2

    @property
    def images_(self) -> np.ndarray:
        """The images of all frames, the last one always among them."""
        frames, _ = self._all()
        return np.stack(frames)

    @property
    def iterations_(self) -> np.ndarray:
        """The number of iterations before each frame."""
        return np.asarray(self._all()[1])

    def _all(self) -> tuple[list[np.ndarray], list[int]]:
        if not getattr(self, "_frames", None):
            raise AttributeError(
                "this ImageRecorder has not recorded a fit of iterations: call "
                "distiller.set_callbacks(recorder).fit(X, y) first; baselines such as "
                "RandomSubset have no iterations"
            )
        if self._iterations[-1] == self._last_iteration:
            return self._frames, self._iterations
        return (
            [*self._frames, self._last],
            [*self._iterations, self._last_iteration],
        )
