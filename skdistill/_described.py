"""What a set tells of itself: where its data are from, and its card."""

from dataclasses import replace
from typing import Any

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
