"""The images of a distiller along its fit, as a strip and as an animation."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw
from sklearn.utils._param_validation import Interval

from skdistill.inspection._grid import MAX_ROWS, choose, draw_grid, join_notes
from skdistill.inspection._plotting import (
    check_matplotlib,
    check_names,
    class_rows,
    find_look,
    to_pixels,
)
from skdistill.inspection._public import public
from skdistill.inspection._recorder import ImageRecorder
from skdistill.utils._files import as_path, atomic_path
from skdistill.utils._image_input import unmasked
from skdistill.utils._labels import labels_of_images

_FRAME_WIDTH = 420  # pixels, about
_MAX_FRAME = 2048  # pixels a side
_CAPTION = 18  # pixels
_LAST_SECONDS = 2.0  # how long the end is shown


class EvolutionDisplay:
    """The images of each class during a distillation.

    Created by :meth:`from_recorder` or :meth:`from_data`; the parameters of the
    constructor are stored as they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    frames : ndarray of shape (n_frames, n_images, height, width, 3), uint8
        The images of each frame.
    iterations : ndarray of shape (n_frames,)
        The number of iterations before each frame.
    names : list of str
        The name of each image.
    rows : sequence of int, default=None
        Indices of the images in the strip, from the top; None uses the first 40.  An
        animation has all.
    title, note : str, default=""
        The title, and a note below the figure.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the strip.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of list of matplotlib AxesImage
        The drawn frames, by image.
    note_ : matplotlib Annotation or None
        The note: the values of black and white, and the number of omitted images.

    See Also
    --------
    ImageRecorder : The callback that records the images.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skdistill.inspection import EvolutionDisplay
    >>> frames = np.random.default_rng(0).random((20, 2, 8, 8, 3))
    >>> display = EvolutionDisplay.from_data(frames, np.arange(20), ["a", "b"])
    >>> len(display.images_[0])
    8
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        frames: np.ndarray,
        iterations: np.ndarray,
        names: list[str],
        *,
        rows: Sequence[int] | None = None,
        title: str = "",
        note: str = "",
    ) -> None:
        self.frames = frames
        self.iterations = iterations
        self.names = names
        self.rows = rows
        self.title = title
        self.note = note

    @classmethod
    @public(
        recorder=[ImageRecorder],
        n_images=[Interval(Integral, 1, None, closed="left"), None],
    )
    def from_recorder(
        cls,
        recorder: ImageRecorder,
        *,
        preprocessing: Any = None,
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
        n_columns: int = 8,
        n_images: int | None = None,
        title: str = "",
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "EvolutionDisplay":
        """Show the images of a recorder.

        Parameters
        ----------
        recorder : ImageRecorder
            A recorder that was the callback of a fit.
        preprocessing : transformer, default=None
            The fitted transformer that was applied to the real images, with
            ``inverse_transform``.
        classes : array-like, default=None
            The labels to show, from the top; None shows all, sorted.
        class_names : sequence of str, default=None
            Names of the classes; None uses the labels.
        value_range : tuple (low, high), default=None
            The pixel values that are shown as black and white; None chooses them from
            the images, as in :meth:`~skdistill.SyntheticSet.to_images`, and states them
            in the note below the figure.
        composite : array-like of shape (3,) or (3, channels), default=None
            The conversion of channels to red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        band_names : sequence of str, default=None
            Names of the channels, such as ``"ugriz"``, which determine their order from
            red to blue in a composite.
        n_columns : int, default=8
            Maximum number of frames in the strip, evenly spaced.
        n_images : int, default=None
            Number of images of each class, starting with the first; 1 gives one row per
            class.  None shows all, but at most 40 rows in the strip; the note below
            states how many are omitted.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : EvolutionDisplay
            The drawn display.
        """
        return cls.from_data(
            recorder.images_,
            recorder.iterations_,
            recorder.y_,
            preprocessing=preprocessing,
            classes=classes,
            class_names=class_names,
            value_range=value_range,
            composite=composite,
            band_names=band_names,
            n_columns=n_columns,
            n_images=n_images,
            title=title,
            ax=ax,
            **imshow_kw,
        )

    @classmethod
    @public(n_images=[Interval(Integral, 1, None, closed="left"), None])
    def from_data(
        cls,
        frames: Any,
        iterations: Any,
        y: Any,
        *,
        preprocessing: Any = None,
        classes: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
        n_columns: int = 8,
        n_images: int | None = None,
        title: str = "",
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "EvolutionDisplay":
        """Show any series of labeled images.

        Parameters
        ----------
        frames : array-like of shape (n_frames, n_images, height, width, channels)
            The images of each frame.
        iterations : array-like of shape (n_frames,)
            The number of iterations before each frame.
        y : array-like of shape (n_images,)
            The labels of the images.
        preprocessing : transformer, default=None
            A fitted transformer whose ``inverse_transform`` converts images to pixel
            values.
        classes : array-like, default=None
            The labels to show, from the top; None shows all, sorted.
        class_names : sequence of str, default=None
            Names of the classes; None uses the labels.
        value_range : tuple (low, high), default=None
            The pixel values that are shown as black and white; None chooses them from
            the images, as in :meth:`~skdistill.SyntheticSet.to_images`, and states them
            in the note below the figure.
        composite : array-like of shape (3,) or (3, channels), default=None
            The conversion of channels to red, green and blue, as in
            :meth:`~skdistill.SyntheticSet.to_images`.
        band_names : sequence of str, default=None
            Names of the channels, such as ``"ugriz"``, which determine their order from
            red to blue in a composite.
        n_columns : int, default=8
            Maximum number of frames in the strip, evenly spaced.
        n_images : int, default=None
            Number of images of each class, starting with the first; 1 gives one row per
            class.  None shows all, but at most 40 rows in the strip; the note below
            states how many are omitted.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : EvolutionDisplay
            The drawn display.
        """
        frames, iterations = unmasked(frames, "frames"), np.asarray(iterations)
        frames = np.asarray(frames)
        if frames.ndim != 5 or not len(frames) or len(frames) != len(iterations):
            raise ValueError(
                "`frames` must be 5-D (n_frames, n_images, height, width, channels), "
                "with one entry of `iterations` for each frame; got shape "
                f"{frames.shape} and {len(iterations)} iterations"
            )
        y = labels_of_images(y, frames.shape[1])
        shown, positions = class_rows(y, classes)
        positions = [members[:n_images] for members in positions]
        names = [
            name if len(members) == 1 else f"{name}, {number}"
            for name, members in zip(
                check_names(class_names, shown), positions, strict=True
            )
            for number in range(1, len(members) + 1)
        ]
        ends = np.cumsum([len(members) for members in positions])
        blocks = np.split(np.arange(ends[-1]), ends[:-1])
        rows, left_out = choose(blocks, MAX_ROWS)
        frames = frames[:, np.concatenate(positions)]
        flat = frames.reshape(-1, *frames.shape[2:])
        look = find_look(
            flat,
            preprocessing,
            value_range=value_range,
            composite=composite,
            band_names=band_names,
        )
        pixels = look(to_pixels(flat, preprocessing, "frames[i]"))
        display = cls(
            pixels.reshape(*frames.shape[:4], 3),
            iterations,
            names,
            rows=np.concatenate(rows).tolist(),
            title=title,
            note=join_notes(left_out, look.note),
        )
        return display.plot(n_columns=n_columns, ax=ax, **imshow_kw)

    @public()
    def plot(
        self, *, n_columns: int = 8, ax: Any = None, **imshow_kw: Any
    ) -> "EvolutionDisplay":
        """Draw a strip for each image, from the first frame to the last.

        Parameters
        ----------
        n_columns : int, default=8
            Maximum number of frames, evenly spaced.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : EvolutionDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        number = min(n_columns, len(self.frames))
        chosen = np.linspace(0, len(self.frames) - 1, number).round().astype(np.int64)
        rows = range(len(self.names)) if self.rows is None else self.rows
        rows = rows[:MAX_ROWS]
        ax, self.images_, self.note_ = draw_grid(
            ax,
            [self.frames[chosen, row] for row in rows],
            [self.names[row] for row in rows],
            [str(iteration) for iteration in self.iterations[chosen]],
            title=self.title,
            note=self.note,
            **imshow_kw,
        )
        ax.set_xlabel("iteration", fontsize=ax.get_xticklabels()[0].get_fontsize())
        ax.xaxis.set_label_position("top")
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        return self

    @public()
    def save(self, path: str | os.PathLike[str], *, fps: float = 8.0) -> None:
        """Write an animation of all frames, atomically.

        Parameters
        ----------
        path : path-like
            A file whose name ends in ``.gif``, or in ``.mp4``, which requires the
            program ffmpeg.  An existing file is replaced.
        fps : float, default=8.0
            Frames per second.  The last frame stays for two seconds.
        """
        path = as_path(path)
        if path.suffix.lower() not in (".gif", ".mp4"):
            raise ValueError(f"`path` must end in .gif or .mp4; got {path}")
        pictures = self._pictures()
        if path.suffix.lower() == ".gif":
            durations = [round(1000 / fps)] * len(pictures)
            durations[-1] = max(durations[-1], round(1000 * _LAST_SECONDS))
            # Dots of dithering would flicker, and take most of the file.
            few = [
                picture.quantize(128, dither=Image.Dither.NONE) for picture in pictures
            ]
            with atomic_path(path) as temporary:
                few[0].save(
                    temporary,
                    format="GIF",
                    save_all=True,
                    append_images=few[1:],
                    duration=durations,
                    loop=0,
                )
            return
        program = shutil.which("ffmpeg")
        if program is None:
            raise RuntimeError(
                f"writing {path} requires the program ffmpeg, which was not found; "
                "use a name that ends in .gif to write without it"
            )
        pictures += pictures[-1:] * round(_LAST_SECONDS * fps)
        width, height = pictures[0].size
        with atomic_path(path) as temporary:
            subprocess.run(
                [
                    *(program, "-y", "-loglevel", "error"),
                    *("-f", "rawvideo", "-pix_fmt", "rgb24"),
                    *("-s", f"{width}x{height}", "-r", str(fps), "-i", "-"),
                    *("-pix_fmt", "yuv420p", "-f", "mp4", str(temporary)),
                ],
                input=b"".join(picture.tobytes() for picture in pictures),
                check=True,
            )

    def _pictures(self) -> list[Image.Image]:
        """Return each frame as a picture: its images in a block, and a caption."""
        n_images, height, width = self.frames.shape[1:4]
        n_columns = int(np.ceil(np.sqrt(n_images * height / width)))
        n_rows = -(-n_images // n_columns)
        scale = max(1, round(_FRAME_WIDTH / (n_columns * (width + 1))))
        # If the film would be too large, use a subset of the pixels.
        every = -(-max(n_rows * height, n_columns * width) // _MAX_FRAME)
        small = self.frames[:, :, ::every, ::every]
        height, width = small.shape[2:4]
        large = small.repeat(scale, axis=2).repeat(scale, axis=3)
        high, wide = height * scale + 2, width * scale + 2
        pictures = []
        for frame, iteration in zip(large, self.iterations, strict=True):
            # Films need even sides.
            canvas = np.full(
                (n_rows * high + _CAPTION + n_rows * high % 2, n_columns * wide, 3),
                255,
                dtype=np.uint8,
            )
            canvas = canvas[:, : canvas.shape[1] // 2 * 2]
            for number, image in enumerate(frame):
                row, column = divmod(number, n_columns)
                y, x = row * high, column * wide
                canvas[y : y + high - 2, x : x + wide - 2] = image
            picture = Image.fromarray(canvas)
            ImageDraw.Draw(picture).text(
                (4, n_rows * high + 3), f"iteration {iteration}", fill=(0, 0, 0)
            )
            pictures.append(picture)
        return pictures
