"""Description of a set: the origin of its data, and its card."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from skdistill.utils._files import as_path
from skdistill.utils._layouts import write_card
from skdistill.utils._metadata import check_words


class Described:
    """Description and card of :class:`~skdistill.SyntheticSet`."""

    metadata: dict[str, Any]

    def described(
        self,
        *,
        data: str | None = None,
        license: str | None = None,
        url: str | None = None,
        citation: str | None = None,
        notes: str | None = None,
    ) -> Any:
        """Return the set with a description of its data.

        The information of the distiller is already in ``metadata``: its parameters,
        seed and teachers, the number of real images of each class, date, command and
        versions.

        Parameters
        ----------
        data : str, default=None
            The name of the data that were distilled, such as "Galaxy Zoo 2".
        license : str, default=None
            Their license, such as "CC BY 4.0".  It also applies to the distilled
            images.
        url : str, default=None
            The origin of the data.
        citation : str, default=None
            The reference to cite: a sentence, or BibTeX.
        notes : str, default=None
            Further information for readers.

        Returns
        -------
        synthetic : SyntheticSet
            A set of the same images, whose arrays are not copied; entries of
            ``metadata`` that are not given are unchanged.

        See Also
        --------
        SyntheticSet.card : Write a card with this description.

        Examples
        --------
        >>> from skdistill import RandomSubset, make_galaxies
        >>> X, y = make_galaxies(90, size=16, random_state=0)
        >>> synthetic = RandomSubset(random_state=0).fit(X, y).synthetic_
        >>> synthetic = synthetic.described(data="Simulated galaxies", license="CC0")
        >>> synthetic.metadata["data"], synthetic.metadata["n_real_images"]["0"]
        ('Simulated galaxies', 10)
        """
        words = check_words(
            data=data, license=license, url=url, citation=citation, notes=notes
        )
        whole: Any = self
        return replace(whole, metadata={**self.metadata, **words})

    def card(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        scores: Any = None,
        data: str | None = None,
        license: str | None = None,
        class_names: Sequence[str] | Mapping[Any, str] | None = None,
        preprocessing: Any = None,
        value_range: tuple[float, float] | None = None,
        composite: ArrayLike | None = None,
        band_names: Sequence[str] | None = None,
    ) -> None:
        """Write a folder with a card, its pictures and the set.

        The card is Markdown with the front matter of Hugging Face: pictures of each
        class, how the set was made, scores, how to load it and how to cite it.  It is
        created from the set alone and contains no local paths.  The folder can be
        shared, or uploaded as a repository.

        Parameters
        ----------
        path : path-like
            The folder, in which ``README.md`` is the card; or the card itself, a file
            that ends in ``.md``.  The folder also gets ``card_images`` and
            ``synthetic_set.safetensors``, which :meth:`SyntheticSet.load` reads.  An
            earlier card is replaced, other files are unchanged.
        name : str, default=None
            The heading; None uses the name of the data.
        scores : result of evaluate_synthetic, dict or DataFrame, default=None
            The result of :func:`~skdistill.metrics.evaluate_synthetic`, with
            ``baseline="random"`` for a comparison with random images, or the score of
            each network; or a dict of these or of numbers by name, ``{"this set":
            score, "random images": other}``; or a table.
        data, license : str, default=None
            As in :meth:`SyntheticSet.described`; None uses the entries of ``metadata``.
        class_names : sequence of str or dict, default=None
            Names of the sorted labels; None uses the labels.
        preprocessing, value_range, composite, band_names
            As in :meth:`SyntheticSet.to_images`.

        Raises
        ------
        FileExistsError
            If the file of the card exists and was not written by skdistill.

        See Also
        --------
        SyntheticSet.export : With "huggingface", the same with a table of the images.
        skdistill.inspection.report : A page with many more pictures.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from skdistill import RandomSubset, make_galaxies
        >>> X, y = make_galaxies(90, size=16, random_state=0)
        >>> synthetic = RandomSubset(random_state=0).fit(X, y).synthetic_
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     synthetic.card(folder, data="Simulated galaxies", license="CC0")
        ...     sorted(file.name for file in Path(folder).iterdir())
        ['README.md', 'card_images', 'synthetic_set.safetensors']
        """
        synthetic = self.described(data=data, license=license)
        pictures = synthetic.to_images(
            preprocessing, value_range, composite, band_names
        )
        write_card(
            synthetic,
            as_path(path),
            pictures,
            name=name,
            scores=scores,
            class_names=class_names,
        )
