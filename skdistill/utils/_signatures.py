"""What a file is by its first bytes, where it is not what its name says."""

# Binary formats, by how they begin.
_BEGINNINGS = {
    b"\x93NUMPY": "a NumPy array (.npy), which needs no reader: use np.load(path)",
    b"PAR1": "a Parquet file",
    b"SIMPLE  =": "a FITS file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"PK\x03\x04": "a zip archive (.zip, .npz, .xlsx, .pt)",
    b"\xd0\xcf\x11\xe0": "an old Excel file (.xls)",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"version https://git-lfs": "a Git LFS pointer: run `git lfs pull` to get the file",
}
_PAGE = "a web page, which some servers send instead of a file that is not available"


def name_content(start: bytes) -> str | None:
    """Say what a file is that is neither an image that is known nor a table of text.

    Parameters
    ----------
    start : bytes
        The first bytes of the file, some hundred.

    Returns
    -------
    name : str or None
        What it is, to follow "it is"; None if nobody knows.
    """
    for beginning, name in _BEGINNINGS.items():
        if start.startswith(beginning):
            return name
    text = start[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<?xml", b"<votable")) and b"<votable" in text:
        return "a VOTable: read it by astropy.table.Table.read(path).to_pandas()"
    if text.startswith((b"<?xml", b"<error")):
        return f"XML: {_excerpt(start)!r}"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<!--", b"<div")):
        return f"{_PAGE}: {_excerpt(start)!r}"
    if text.startswith((b"{", b"[{", b"[[")):
        return f"JSON, not the requested file: {_excerpt(start)!r}"
    return None


def _excerpt(start: bytes) -> str:
    text = start[:200].decode("utf-8", "replace").strip()
    return text if len(text) <= 60 else f"{text[:57]}..."
