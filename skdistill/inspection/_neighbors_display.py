"""NeighborsDisplay: distilled images beside the real ones that are nearest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from skdistill.inspection._grid import MAX_ROWS, choose, draw_grid, join_notes
from skdistill.inspection._neighbors import (
    as_distilled,
    check_extractor,
    find_neighbors,
)
from skdistill.inspection._plotting import (
    check_fitted_columns,
    check_matplotlib,
    check_names,
    class_rows,
    find_look,
    real_labels,
    to_pixels,
)
from skdistill.inspection._public import public
from skdistill.utils._pixel_space_checks import warn_of_other_pixels
from skdistill.utils._validation import image_array

_OTHER = "tab:red"  # captions of images of another class


class NeighborsDisplay:
    """Distilled images, each next to the nearest real images.

    Distances are between the features of a trained network, the inputs of its last
    layer.  Created by :meth:`from_set`; the parameters of the constructor are stored as
    they are.

    Read more in the :ref:`User Guide <inspection>`.

    Parameters
    ----------
    images : ndarray of shape (n_rows, height, width, 3), uint8
        The distilled images.
    neighbors : list of ndarray of shape (n_neighbors, height, width, 3), uint8
        The real images beside each, nearest first.
    captions : list of list of str
        The captions below these images.
    table : DataFrame
        A row for each real image, in the order in which they are shown: ``class`` and
        ``image``, the label of the distilled image and its number among those of its
        class; ``rank``, 1 for the nearest; ``neighbor``, the position of the real
        image in X; ``name``, its name, or its position if no names were given;
        ``neighbor_class``, its label; and ``distance``, in the unit of the features.
    row_names : list of str
        The names of the rows.
    title, note : str, default=""
        The title, and a note below the figure.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the grid.
    figure_ : matplotlib Figure
        Its figure.
    images_ : list of list of matplotlib AxesImage
        The drawn images, by row.
    note_ : matplotlib Annotation or None
        The note: the distance, the values of black and white, and the number of omitted
        images.

    See Also
    --------
    place_distilled : Position of distilled images among real ones by their measures.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skdistill import ConvNetClassifier, RandomSubset, make_galaxies
    >>> from skdistill.inspection import NeighborsDisplay
    >>> X, y = make_galaxies(45, size=16, random_state=0)
    >>> synthetic = RandomSubset(random_state=0).fit(X, y).synthetic_
    >>> network = ConvNetClassifier(width=8, max_iter=2, random_state=0).fit(X, y)
    >>> display = NeighborsDisplay.from_set(
    ...     synthetic, X, y, estimator=network, n_neighbors=3)
    >>> display.table.shape
    (27, 7)

    A random real image is its own nearest neighbor:

    >>> float(display.table["distance"].iloc[0])
    0.0
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        images: np.ndarray,
        neighbors: list[np.ndarray],
        *,
        captions: list[list[str]],
        table: pd.DataFrame,
        row_names: list[str],
        title: str = "",
        note: str = "",
    ) -> None:
        self.images = images
        self.neighbors = neighbors
        self.captions = captions
        self.table = table
        self.row_names = row_names
        self.title = title
        self.note = note

    @classmethod
    @public()
    def from_set(
        cls,
        synthetic: Any,
        X: Any,
        y: Any,
        *,
        estimator: Any,
        n_neighbors: int = 5,
        metric: str = "euclidean",
        same_class: bool = False,
        names: Any = None,
        preprocessing: Any = None,
        classes: ArrayLike | None = None,
        class_names: Any = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
        max_images: int = 12,
        title: str = "",
        ax: Any = None,
        **imshow_kw: Any,
    ) -> "NeighborsDisplay":
        """Show the real images that are nearest to those of a distilled set.

        Parameters
        ----------
        synthetic : SyntheticSet or tuple (X, y)
            The distilled images and their labels.
        X : array-like of shape (n_samples, height, width, channels) or \
                (n_samples, height * width * channels)
            Real images in the same pixel space.
        y : array-like of shape (n_samples,)
            Their labels.  Images of classes that the set does not have may also be
            neighbors.
        estimator : estimator instance
            The model that computes features of images in this pixel space: a fitted
            network with ``extract_features``, such as
            :class:`~skdistill.neural_network.ConvNetClassifier` or a teacher,
            ``buffer.classifier(teacher=0)``; a
            :class:`~skdistill.distillation.DistilledClassifier`, whose network is used;
            or a fitted transformer, such as scikit-learn's ``PCA``, which gets rows of
            pixels.
        n_neighbors : int, default=5
            Number of real images next to each distilled one.
        metric : {"euclidean", "cosine", "manhattan"}, default="euclidean"
            The distance of two rows of features.
        same_class : bool, default=False
            Whether only real images of the class of the distilled image are considered,
            or those of all classes.
        names : array-like of shape (n_samples,), default=None
            Names of the real images, such as the ids of a catalog, for ``table``.
        preprocessing : transformer, default=None
            A fitted transformer whose ``inverse_transform`` converts the images to
            pixel values.  None uses the preprocessing of the set.
        classes : array-like, default=None
            The classes of the set to show, from the top; None shows all, sorted.
        class_names : sequence of str or mapping of label to str, default=None
            Names of the classes that are shown; None uses the labels.
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
        max_images : int, default=12
            Maximum number of distilled images to show, at most 40: if there are more,
            the first of each class are shown, and the note below states this.
        title : str, default=""
            The title.
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : NeighborsDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If ``estimator`` does not compute features.
        ValueError
            If images, labels and names are inconsistent with each other or with the
            set, or if there is no real image of a class and ``same_class`` is True.
        """
        check_matplotlib(f"{cls.__name__}.from_set")
        synthetic = as_distilled(synthetic)
        extractor = check_extractor(estimator)
        check_fitted_columns(extractor, X)
        X = image_array(X, shape=synthetic.X.shape[1:])
        y = real_labels(y, len(X), synthetic)
        if names is not None:
            names = np.asarray(names)
            if names.shape != (len(X),):
                raise ValueError(
                    f"`names` must hold one name for each of the {len(X)} images of "
                    f"X; got shape {names.shape}"
                )
        shown, positions = class_rows(synthetic.y, classes)
        warn_of_other_pixels(synthetic, X)
        if preprocessing is None:
            preprocessing = synthetic.preprocessing
        look = find_look(
            synthetic.X,
            preprocessing,
            value_range=value_range,
            composite=composite,
            band_names=band_names,
        )
        labels = check_names(class_names, shown)
        chosen, left_out = choose(positions, min(max_images, MAX_ROWS))
        prototypes = [
            (label, number, int(position))
            for label, place in zip(shown, chosen, strict=False)
            for number, position in enumerate(place)
        ]
        table = find_neighbors(
            prototypes,
            synthetic,
            X,
            y,
            names,
            estimator=extractor,
            n_neighbors=int(n_neighbors),
            metric=metric,
            same_class=bool(same_class),
        )
        known = dict(zip(shown, labels, strict=True))
        if isinstance(class_names, Mapping):
            # Of classes too that the set does not have.
            known = {**class_names, **known}
        groups = [some for _, some in table.groupby((table["rank"] == 1).cumsum())]
        captions = [
            [
                f"{known.get(label, label)}\n{distance:.3g}"
                for label, distance in zip(
                    some["neighbor_class"], some["distance"], strict=True
                )
            ]
            for some in groups
        ]
        fewer = ""
        if min(map(len, captions)) < n_neighbors:
            fewer = f"some classes have fewer than {n_neighbors} real images"
            if not same_class:
                fewer = f"there are {len(X)} real images"
        measured = (
            f"below: class and {metric} distance in the feature space of "
            f"{type(extractor).__name__}, red for images of another class"
        )
        display = cls(
            look(to_pixels(synthetic.X[[p for *_, p in prototypes]], preprocessing)),
            [
                look(to_pixels(X[some["neighbor"].to_numpy()], preprocessing))
                for some in groups
            ],
            captions=captions,
            table=table,
            row_names=[known[label] for label, *_ in prototypes],
            title=title,
            note=join_notes(measured, fewer, left_out, look.note),
        )
        return display.plot(ax=ax, **imshow_kw)

    @public()
    def plot(self, *, ax: Any = None, **imshow_kw: Any) -> "NeighborsDisplay":
        """Draw a row for each distilled image.

        Captions of real images whose class differs from that of the distilled one are
        red.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None creates a new figure.
        **imshow_kw : dict
            Further parameters of :meth:`matplotlib.axes.Axes.imshow`, such as
            ``interpolation``.

        Returns
        -------
        display : NeighborsDisplay
            The display itself.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        other = iter((self.table["class"] != self.table["neighbor_class"]).tolist())
        captions = [
            [("", "black"), *((text, _OTHER if next(other) else "0.2") for text in row)]
            for row in self.captions
        ]
        n_columns = max(map(len, self.neighbors))
        ax, self.images_, self.note_ = draw_grid(
            ax,
            [
                [one, *rest]
                for one, rest in zip(self.images, self.neighbors, strict=True)
            ],
            self.row_names,
            ["distilled", "nearest", *[""] * (n_columns - 1)],
            n_apart=1,
            captions=captions,
            title=self.title,
            note=self.note,
            **imshow_kw,
        )
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        return self
