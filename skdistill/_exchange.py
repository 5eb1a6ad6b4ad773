"""Conversion of distilled sets: published files, export, indexing and concatenation."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from joblib import hash as joblib_hash
from sklearn.utils.validation import check_scalar

from skdistill.preprocessing._carried import is_same
from skdistill.utils._card import OWN_FILE
from skdistill.utils._class_rows import name_classes
from skdistill.utils._files import as_path
from skdistill.utils._inverse import names_of
from skdistill.utils._layouts import LAYOUTS, write_layout, write_pictures
from skdistill.utils._pixel_space_checks import differences
from skdistill.utils._plain import told
from skdistill.utils._published import (
    LABEL_KINDS,
    channels_last,
    enlarge_pieces,
    find_parts,
    understand_labels,
)
from skdistill.utils._untrusted import errors_as_value_errors
from skdistill.utils._warnings import warn

# Pieces of an image are enlarged: what they become is not in the file.
_MAX_FACTOR = 8


class Exchange:
    """The part of :class:`~skdistill.SyntheticSet` for conversions."""

    X: np.ndarray
    y: np.ndarray
    step_size: float | None
    metadata: dict[str, Any]
    probabilities: np.ndarray | None
    pixel_space: Any
    pixel_size: int
    targets: np.ndarray | None
    preprocessing: Any

    @classmethod
    def from_published(
        cls: Any,
        path: str | os.PathLike[str],
        *,
        classes: Any = None,
        label_kind: str = "auto",
        experiment: int | None = None,
        channels_first: bool | None = None,
        factor: int = 1,
    ) -> Any:
        """Read a distilled set of another implementation.

        The layout is detected from the contents of the files:

        - a dict with ``"data"``, ``res_*.pt`` of DC, DSA, DM and many after them;
        - images, labels and step size in separate files: ``images_best.pt``,
          ``labels_best.pt`` and ``lr_best.pt`` of MTT, TESLA, DATM or STM,
          ``images.pt``, ``labels.pt`` and ``lr.pt`` of DD-Ranking, or the same as
          ``.npy``;
        - a pair of images and labels in one file, as of IDC, DREAM or NCFM;
        - arrays by name, ``.npz`` of KIP, FRePo or RFAD, or a dict of tensors;
        - the files written by :meth:`export`.

        No code in a file is run, files are not unpickled, and memory is proportional to
        their size.

        Parameters
        ----------
        path : path-like
            The file (that of the images if labels are in another file), or a folder
            that contains one set.
        classes : array-like of shape (n_classes,), default=None
            The class labels, in the order of the codes in the file; None takes the
            codes.
        label_kind : {"auto", "hard", "probabilities", "logits", "targets"}, \
                default="auto"
            The kind of labels.  "hard" uses the largest value of a row.  Logits are
            converted to probabilities by softmax.  "auto" interprets one-hot rows as
            hard labels, nonnegative rows that sum to 1 as probabilities, one-hot rows
            minus their mean as regression targets, and other rows as logits in PyTorch
            files and as targets in NumPy files, with a warning.
        experiment : int, default=None
            Index of the set in a file of several experiments; None uses the first, with
            a warning if there are more.
        channels_first : bool, default=None
            Whether images are (n_images, channels, height, width) in the file.  None
            assumes that the channels are the shortest axis, with a warning if this is
            ambiguous.
        factor : int, default=1
            Number of pieces per side into which each image is split; the pieces are
            enlarged bilinearly, as required for sets of IDC, DREAM and NCFM (usually
            2).  It cannot be detected from the files.

        Returns
        -------
        synthetic : SyntheticSet
            The set.  Its metadata contain the layout, the kind of labels and, if
            available, the accuracies measured by the authors.  It has no
            ``pixel_space``: in evaluations real images are compared with its pixels.

        Raises
        ------
        FileNotFoundError
            If the file or its labels do not exist.
        ValueError
            If a file is damaged or not a distilled set; the message names the file and
            its contents.

        Warns
        -----
        UserWarning
            If something had to be guessed; the message names the parameter to override
            it.

        See Also
        --------
        SyntheticSet.export : Write such files.
        SyntheticSet.load : Read what :meth:`SyntheticSet.save` wrote.

        Examples
        --------
        >>> import tempfile
        >>> import torch
        >>> from skdistill import SyntheticSet
        >>> path = tempfile.mkdtemp() + "/res_DC.pt"
        >>> torch.save({"data": [[torch.zeros(2, 3, 8, 8), torch.arange(2)]]}, path)
        >>> SyntheticSet.from_published(path, classes=["cat", "dog"])
        <SyntheticSet: 2 images of 8x8x3, 2 classes>
        """
        if label_kind not in LABEL_KINDS:
            raise ValueError(
                f"`label_kind` must be one of {', '.join(LABEL_KINDS)}; got "
                f"{label_kind!r}"
            )
        if experiment is not None:
            check_scalar(experiment, "experiment", Integral, min_val=0)
        check_scalar(factor, "factor", Integral, min_val=1, max_val=_MAX_FACTOR)
        path = as_path(path)
        if (path / OWN_FILE).is_file():
            return cls.load(path / OWN_FILE)
        parts = find_parts(path, experiment)
        images = channels_last(parts.images, channels_first, parts.from_torch, path)
        labels = understand_labels(
            parts.labels, len(images), label_kind, parts.from_torch, path
        )
        rows = labels.rows
        y = labels.codes
        if classes is not None:
            y, rows = name_classes(classes, y, rows, labels.n_classes, path)
        if factor > 1:
            images = enlarge_pieces(images, factor)
            y = y.repeat(factor**2)
            rows = None if rows is None else rows.repeat(factor**2, axis=0)
        metadata = {
            "source": parts.layout,
            "labels": labels.kind,
            **({"factor": int(factor)} if factor > 1 else {}),
            **parts.numbers,
        }
        step_size = None
        if parts.step_sizes is not None:
            step_sizes = parts.step_sizes.ravel()
            if step_sizes.size:
                step_size = float(step_sizes[-1])
            if step_sizes.size > 1:
                warn(
                    f"{path} has {step_sizes.size} step sizes, but a set holds "
                    f"only one: the last one, {step_size:.3g}, is used"
                )
        name = "targets" if labels.kind == "targets" else "probabilities"
        with errors_as_value_errors(f"{path} does not hold a usable set: {{error}}"):
            return cls(
                np.array(images, np.float32), y, step_size, metadata, **{name: rows}
            )

    def export(
        self, path: str | os.PathLike[str], layout: str = "mtt", **card: Any
    ) -> None:
        """Write the set in the file format of other implementations.

        Parameters
        ----------
        path : path-like
            The folder, or the file for "dc" and "npz".  Existing files are replaced.
        layout : {"mtt", "dc", "npz", "huggingface"}, default="mtt"
            - "mtt": a folder with ``images_best.pt``, float32 of shape (n_images,
              channels, height, width), ``labels_best.pt``, class codes or rows of
              probabilities or targets, and ``lr_best.pt``, the step size, if there is
              one;
            - "dc": one file of ``torch.save``, a dict with ``"data"``: images as above
              and class codes;
            - "npz": one file of NumPy with ``images`` of shape (n_images, height,
              width, channels), ``labels``, and ``step_size``;
            - "huggingface": a folder that ``datasets.load_dataset`` reads, with
              8-bit pictures, the original pixels, labels, and the output of
              :meth:`SyntheticSet.card`: a card (``README.md``) and the whole set.  It
              needs pyarrow.
        **card : str
            With "huggingface" the parameters ``name``, ``data`` and ``license`` of
            :meth:`SyntheticSet.card`.

        Warns
        -----
        UserWarning
            If the layout cannot store a part of the set, such as the names of its
            classes.

        See Also
        --------
        skdistill.metrics.export_ddranking : The layout of DD-Ranking.
        SyntheticSet.to_image_folder : Pictures in a folder per class.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from skdistill import SyntheticSet
        >>> folder = tempfile.mkdtemp()
        >>> SyntheticSet(np.zeros((2, 8, 8, 3)), [0, 1], 0.02).export(folder)
        >>> SyntheticSet.from_published(folder)
        <SyntheticSet: 2 images of 8x8x3, 2 classes, step size 0.02>
        """
        if layout not in LAYOUTS:
            raise ValueError(
                f"`layout` must be one of {', '.join(LAYOUTS)}; got {layout!r}.  "
                "For DD-Ranking, use skdistill.metrics.export_ddranking"
            )
        # What was changed in a set since it was made is checked, too.
        synthetic: Any = self
        write_layout(replace(synthetic), as_path(path), layout, card)

    def to_torch(self, *, soft: bool = True) -> Any:
        """Return the set as a PyTorch data set.

        Parameters
        ----------
        soft : bool, default=True
            Whether labels are the probabilities or regression targets where the set
            has them, float32 of shape (n_images, n_classes), rather than the codes of
            the classes.  Both fit :class:`torch.nn.CrossEntropyLoss`; targets fit
            :class:`torch.nn.MSELoss`.

        Returns
        -------
        dataset : torch.utils.data.TensorDataset
            Of images, float32 of shape (n_images, channels, height, width), and
            labels; code i stands for the class ``np.unique(y)[i]``, in sorted order.
            The labels of a data set whose classes are not sorted, such as
            FashionMNIST, are other numbers: ``class_to_idx`` of torchvision has them.

        Examples
        --------
        >>> import numpy as np
        >>> from skdistill import SyntheticSet
        >>> synthetic = SyntheticSet(np.zeros((2, 8, 8, 3)), ["spiral", "smooth"])
        >>> images, labels = synthetic.to_torch().tensors
        >>> images.shape, labels
        (torch.Size([2, 3, 8, 8]), tensor([1, 0]))
        """
        import torch
        from torch.utils.data import TensorDataset

        from skdistill.utils._tensors import to_tensor

        # What was changed in a set since it was made is checked, too.
        whole: Any = self
        checked = replace(whole, preprocessing=None)
        rows = checked.probabilities if checked.targets is None else checked.targets
        if rows is None or not soft:
            rows = np.unique(checked.y, return_inverse=True)[1].astype(np.int64)
        cpu = torch.device("cpu")
        # A copy: images of one channel are in PyTorch's order as they are.
        images = to_tensor(checked.X.copy(), cpu)
        return TensorDataset(images, torch.from_numpy(rows.copy()))

    def to_image_folder(
        self,
        path: str | os.PathLike[str],
        preprocessing: Any = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Write the images as PNG pictures, in one folder per class.

        Parameters
        ----------
        path : path-like
            The folder; it must be new or empty.
        preprocessing, value_range
            As in :meth:`SyntheticSet.to_images`: None uses the preprocessing of the
            set.

        Raises
        ------
        FileExistsError
            If the folder is not empty.

        Warns
        -----
        UserWarning
            Since 8-bit pictures differ from the distilled images and lack the soft
            labels, targets and step size of the set.
        """
        path = as_path(path)
        whole: Any = self
        # What was changed in a set since it was made is checked, too.
        synthetic = replace(whole)
        pixels = synthetic.to_images(preprocessing, value_range)
        write_pictures(synthetic, pixels, path)

    def of_class(self, label: Any) -> Any:
        """Return the images of one class as a set.

        Parameters
        ----------
        label : str, int, float or bool
            The class label, as in ``y``.

        Returns
        -------
        part : SyntheticSet
            In the order of the set.

        Raises
        ------
        KeyError
            If the set has no such class; the message lists its classes.
        TypeError
            If there are several labels.
        """
        if np.ndim(label):
            raise TypeError(
                f"`label` must be a single class label; got {label!r:.100}.  Use "
                "synthetic[np.isin(synthetic.y, labels)] to select several classes"
            )
        return self._rows(np.flatnonzero(self._is_class([label])))

    def __getitem__(self, key: Any) -> Any:
        """Return some of the images as a set: by class name or by place."""
        if isinstance(key, str):
            return self.of_class(key)
        if isinstance(key, (bool, np.bool_)) or key is None or isinstance(key, tuple):
            raise TypeError(
                "a set can be indexed by a class name, an integer, a slice, or an "
                f"array of class names, integers or booleans; got {key!r}.  Use "
                "`of_class` for other class labels"
            )
        if not isinstance(key, slice):
            key = np.asarray(key)
            is_text = key.dtype.kind in "UT" or (key.dtype == object and key.size)
            if is_text and key.ndim == 1:
                return self._rows(np.flatnonzero(self._is_class(key.tolist())))
            key = key.astype(np.int64) if not key.size else key
            if key.dtype.kind not in "biu" or key.ndim > 1:
                raise TypeError(
                    "a set can be indexed by class names, integers or booleans; "
                    f"got an array of {key.dtype} with {key.ndim} dimensions.  Use "
                    "`of_class` for other class labels"
                )
        return self._rows(np.atleast_1d(np.arange(len(self.X))[key]))

    def _is_class(self, labels: Sequence[Any]) -> np.ndarray:
        # It may have been replaced by a list.
        y = np.asarray(self.y)
        is_one = np.zeros(len(y), dtype=bool)
        for label in labels:
            same = np.asarray(y == label)
            if same.shape != is_one.shape or not same.any():
                known = np.unique(y).tolist()
                raise KeyError(
                    f"the set has no class {told(label)}; it has "
                    f"{', '.join(map(repr, known[:20]))}"
                    + (", ..." if len(known) > 20 else "")
                )
            is_one |= same
        return is_one

    def _rows(self, rows: np.ndarray) -> Any:
        whole: Any = self
        # What was changed in a set since it was made is checked, too.
        checked = replace(whole, preprocessing=None)
        y = checked.y[rows]
        soft: dict[str, Any] = {}
        for name in ("probabilities", "targets"):
            values = getattr(checked, name)
            if values is not None and len(np.unique(y)) < values.shape[1]:
                warn(
                    f"`{name}` are dropped, since the selection has only "
                    f"{len(np.unique(y))} of the {values.shape[1]} classes of the "
                    "set"
                )
                values = None
            soft[name] = None if values is None else values[rows]
        return replace(
            whole, X=checked.X[rows], y=y, metadata=dict(checked.metadata), **soft
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the images."""
        return np.array(self.X, dtype=dtype, copy=copy)

    @classmethod
    def concat(cls: Any, sets: Sequence[Any]) -> Any:
        """Concatenate several sets.

        Parameters
        ----------
        sets : sequence of SyntheticSet
            The sets, with images of the same shape.  If some have probabilities, the
            hard labels of the others are converted to probabilities; a class that is
            missing in a set has probability 0 there.

        Returns
        -------
        synthetic : SyntheticSet
            All images, in the order given.  It has the step size and those metadata
            on which all sets agree.

        Raises
        ------
        ValueError
            If images or labels are of different kinds; the message names the set.

        Warns
        -----
        UserWarning
            If the sets have different step sizes, are in different pixel spaces or have
            different preprocessing: the result then has none.

        Examples
        --------
        >>> import numpy as np
        >>> from skdistill import SyntheticSet
        >>> one = SyntheticSet(np.zeros((1, 8, 8, 3)), ["spiral"])
        >>> two = SyntheticSet(np.ones((1, 8, 8, 3)), ["smooth"])
        >>> SyntheticSet.concat([one, two]).y.tolist()
        ['spiral', 'smooth']
        """
        sets = [sets] if isinstance(sets, cls) else list(sets)
        for place, part in enumerate(sets):
            if not isinstance(part, cls):
                raise TypeError(
                    f"`sets` must be SyntheticSets; number {place} is a "
                    f"{type(part).__name__}"
                )
        # What was changed in a set since it was made is checked, too.
        sets = [replace(part) for part in sets]
        for place, part in enumerate(sets):
            for what, value, wanted in (
                ("images of shape", part.X.shape[1:], sets[0].X.shape[1:]),
                ("labels that are", _kind_of(part.y), _kind_of(sets[0].y)),
                (
                    "regression targets",
                    part.targets is not None,
                    sets[0].targets is not None,
                ),
            ):
                if value != wanted:
                    raise ValueError(
                        f"`sets` must be of the same kind: for set number {place} "
                        f"{what}: {value}, for set number 0: {wanted}"
                    )
        if not sets:
            raise ValueError("`sets` must hold at least one set; got none")
        first = sets[0]
        y = np.concatenate([part.y for part in sets])
        classes = np.unique(y)
        soft: dict[str, Any] = {}
        if first.targets is not None:
            for place, part in enumerate(sets):
                if not np.array_equal(np.unique(part.y), classes):
                    raise ValueError(
                        "`sets` with regression targets must have the same classes; "
                        f"number {place} has {np.unique(part.y).tolist()} of "
                        f"{classes.tolist()}"
                    )
            soft["targets"] = np.concatenate([part.targets for part in sets])
        elif any(part.probabilities is not None for part in sets):
            soft["probabilities"] = np.concatenate(
                [_probabilities(part, classes) for part in sets]
            )
        step_size = first.step_size
        if any(part.step_size != step_size for part in sets):
            warn(
                "the sets have different step sizes, "
                f"{[part.step_size for part in sets]}: the result has none"
            )
            step_size = None
        return cls(
            np.concatenate([part.X for part in sets]),
            y,
            step_size,
            {
                name: value
                for name, value in first.metadata.items()
                if all(_are_equal(part.metadata.get(name), value) for part in sets)
            },
            pixel_space=_common_space(sets),
            pixel_size=math.gcd(*(part.pixel_size for part in sets)),
            preprocessing=_common_preprocessing(sets),
            **soft,
        )


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except ValueError:  # arrays
        return joblib_hash(one) == joblib_hash(other)


def _kind_of(labels: np.ndarray) -> str:
    """Say what labels are; True is 1 to NumPy."""
    return {"b": "booleans", "U": "text", "T": "text", "O": "text"}.get(
        labels.dtype.kind, "numbers"
    )


def _probabilities(part: Any, classes: np.ndarray) -> np.ndarray:
    """Return the probabilities of a set in the columns of more classes."""
    rows = np.zeros((len(part.y), len(classes)), np.float32)
    if part.probabilities is None:
        rows[np.arange(len(part.y)), np.searchsorted(classes, part.y)] = 1
    else:
        rows[:, np.searchsorted(classes, np.unique(part.y))] = part.probabilities
    return rows


def _common_space(sets: Sequence[Any]) -> Any:
    """Return the pixel space of all sets, None if they have not one."""
    spaces = [part.pixel_space for part in sets]
    if any(space is None for space in spaces):
        return None
    for place, space in enumerate(spaces):
        found = differences(spaces[0], space)
        if found:
            warn(
                f"set number {place} is in a different pixel space from "
                "number 0: " + "; ".join(found)
            )
            return None
    return spaces[0]


def _common_preprocessing(sets: Sequence[Any]) -> Any:
    """Return the preprocessing that all sets carry, None if they have not one."""
    first = sets[0].preprocessing
    for place, part in enumerate(sets):
        if not is_same(first, part.preprocessing):
            one, other = (
                names_of(which) or "none" for which in (first, part.preprocessing)
            )
            numbers = ", fitted on different images" if one == other else ""
            warn(
                f"set number {place} has a different preprocessing, "
                f"{other}{numbers}, from number 0, {one}: the result has none.  "
                "Set it by `with_preprocessing(...)`"
            )
            return None
    return first
