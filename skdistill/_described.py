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
    """The part of :class:`~skdistill.SyntheticSet` that people read."""

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
        """Return the set with what nobody but you knows of its data.

        What a distiller knows, its parameters, seed and teachers, the number of real
        images of each class, date, command and versions, is in ``metadata`` already.

        Parameters
        ----------
        data : str, default=None
            The name of the data that were distilled, such as "Galaxy Zoo 2".
        license : str, default=None
            Their license, such as "CC BY 4.0".  It holds for what is made of them, too.
        url : str, default=None
            Where they are from.
        citation : str, default=None
            How they are cited: a sentence, or BibTeX.
        notes : str, default=None
            Anything else that a reader should know.

        Returns
        -------
        synthetic : SyntheticSet
            A copy; entries of ``metadata`` that are not given stay as they are.

        See Also
        --------
        SyntheticSet.card : Write all that is known of the set.

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
        """Write a folder that tells all of the set: a card, its pictures, the set.

        The card is Markdown with the front matter of Hugging Face: pictures of each
        class, how the set was made, scores, how to load it and how to cite it.  It
        needs nothing but what the set itself tells, and no local folder is named in
        it.  The folder can be sent, or be uploaded as a repository.

        Parameters
        ----------
        path : path-like
            The folder, in which ``README.md`` becomes the card; or the card itself, a
            file that ends in ``.md``.  Beside it are ``card_images`` and
            ``synthetic_set.safetensors``, which :meth:`SyntheticSet.load` reads.  An
            earlier card is replaced, other files stay.
        name : str, default=None
            The heading; None makes one of the name of the data.
        scores : result of evaluate_synthetic, dict or DataFrame, default=None
            What :func:`~skdistill.metrics.evaluate_synthetic` returned, with
            ``baseline="random"`` to have random images beside it, or the score of each
            network; or such or numbers by name, ``{"this set": score, "random images":
            other}``; or a table.
        data, license : str, default=None
            As of :meth:`SyntheticSet.described`; None takes what ``metadata`` say.
        class_names : sequence of str or dict, default=None
            Names of the sorted labels; None takes the labels.
        preprocessing, value_range, composite, band_names
            As of :meth:`SyntheticSet.to_images`.

        Raises
        ------
        FileExistsError
            If a file of the card's name is there that is no card of skdistill's.

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
