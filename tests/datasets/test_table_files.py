"""Tables as programs and servers write them: what is read, and what is refused."""

import gzip
import io

import numpy as np
import pandas as pd
import polars
import pytest

from skdistill.datasets import load_galaxy_zoo2

ID = 587722981736120347
HEADER, ROW = "objid,t01_fraction\n", f"{ID},0.5\n"
PLAIN = pd.DataFrame({"objid": [ID], "t01_fraction": [0.5]})


def write(path, text, encoding="utf-8"):
    content = text if isinstance(text, bytes) else text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (HEADER + ROW, "utf-8"),
        (HEADER + ROW[:-1], "utf-8"),
        (HEADER + ROW, "utf-8-sig"),
        (HEADER + ROW, "utf-16"),
        ("#Table1\n" + HEADER + ROW, "utf-8"),
        ("#Table1\n" + HEADER + ROW, "utf-8-sig"),
        ("#Table1\n" + HEADER + ROW, "utf-16"),
        ("\n# a, query\r\n\r\n" + HEADER + ROW, "utf-8"),
        ("sep=,\n" + HEADER + ROW, "utf-8"),
        ((HEADER + ROW).replace("\n", "\r\n"), "utf-8"),
        ((HEADER + ROW).replace("\n", ",\n"), "utf-8"),
        (HEADER.replace(",", ", ") + ROW.replace(",", ", "), "utf-8"),
        (HEADER + ROW + "\n\n", "utf-8"),
        (f'"objid","t01_fraction"\n"{ID}","0.5"\n', "utf-8"),
    ],
)
def test_what_is_read(tmp_path, ending, text, encoding):
    path = write(tmp_path / f"votes.{ending}", text, encoding)
    pd.testing.assert_frame_equal(load_galaxy_zoo2(path), PLAIN)


PAGE = b"\n<!DOCTYPE html>\n<html><body>Not found</body></html>"


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ((HEADER + ROW).replace(",", ";"), r"separated by semicolons.*sep=';'"),
        ("objid;t01_fraction\n1;0,5\n", r"separated by semicolons.*decimal=','"),
        ((HEADER + ROW).replace(",", "\t"), r"separated by tabs, .*sep='\\t'"),
        ((HEADER + ROW).replace(",", "|"), r"separated by bars"),
        ((HEADER + ROW).replace(",", " "), r"separated by ' '.*sep='\\\\s\+'"),
        ("sep=;\n" + HEADER + ROW, "separated by semicolons"),
        ("#" + HEADER + ROW, "its header begins with '#', '#objid,t01_fraction'"),
        (ROW * 2, "it has no header: its first line has only numbers"),
        ("# names are elsewhere\n" + ROW * 2, "no header but a comment, '# names are"),
        ("", "no header"),
        ("#Table1\n", "no header"),
        (
            HEADER + ROW[:-1] + ",\n",
            "2 columns, but a row has 3: its rows end in a com",
        ),
        (
            "objid,a,b\n1,2,3\n4,5\n6,7,8\n",
            "line 3 has 2 fields, but the header has 3: '4,5'",
        ),
        ("#Table1\nobjid,a,b\n1,2,3\n4", "line 4 has 1 fields, but the header has 3"),
        (
            "objid,a,b\n1,2,3\n#Table2\n",
            "line 3 has 1 fields, but the header has 3: '#Table2'",
        ),
        ("objid,a,b\n1,2,3\n1,2,3,4\n", "cannot be read"),
        ("name,a\nx,2\nname,a\ny,3\n", "row 1 repeats the header"),
        ("objid,a\n1,2\nobjid,a\n3,4\n", "row 1 repeats the header"),
        ("objid,a,objid\n1,2,3\n", "the column 'objid' 2 times"),
        ('objid,t01\n"587,722,981,736",0.5\n', "Numbers with commas"),
        ("objid,t01\n5.87723E+17,0.5\n", "rounded by a spreadsheet"),
        ("OBJID,t01\n5.87723E+17,0.5\n", "rounded by a spreadsheet"),
        (f"objid,t01\n{ID}.0,0.5\n", "integers in column 'objid'"),
        (PAGE, "it is a web page, .*<!DOCTYPE html>"),
        (b'\xef\xbb\xbf{"error": "no such table"}', "it is JSON, .*no such table"),
        (b'<?xml version="1.0"?><VOTABLE>', "it is a VOTable: .*astropy.table"),
        (b'<?xml version="1.0"?><Error>', "it is XML: .*Error"),
        (b"PK\x03\x04 and so on", r"it is a zip archive \(\.zip, \.npz, \.xlsx"),
        (b"PAR1 and so on", "it is a Parquet file"),
        (b"version https://git-lfs.github.com/spec/v1", "`git lfs pull`"),
        (b"\x93NUMPY\x01\x00", r"it is a NumPy array \(\.npy\)"),
        ((HEADER + ROW).encode("utf-16-le"), "zero bytes"),
        (HEADER.encode() + b"1,\xe9\n", "not encoded in UTF-8 .*encoding='latin-1'"),
    ],
)
def test_what_is_refused(tmp_path, ending, text, reason):
    path = write(tmp_path / f"votes.{ending}", text)
    with pytest.raises(ValueError, match=rf"(?s)`votes` .*votes\.{ending}.*{reason}"):
        load_galaxy_zoo2(path)


@pytest.mark.parametrize("ending", ["parquet", "fits", "csv", "fits.gz", "csv.gz"])
def test_web_pages_are_no_tables(tmp_path, ending):
    pytest.importorskip("astropy")
    pytest.importorskip("pyarrow")
    path = tmp_path / f"votes.{ending}"
    for content in (PAGE, gzip.compress(PAGE)) if ending.endswith("gz") else (PAGE,):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"votes\.{ending}.* cannot be read"):
            load_galaxy_zoo2(path)
    with pytest.raises(ValueError, match="it is" if "gz" in ending else "a web page"):
        load_galaxy_zoo2(path)


def test_columns_of_one_name(tmp_path):
    path = write(tmp_path / "votes.csv", "objid,ra,ra\n1,2,3\n")
    with pytest.warns(
        UserWarning, match=r"columns of the same name, \['ra'\].*'ra\.1'"
    ):
        assert load_galaxy_zoo2(path).columns.tolist() == ["objid", "ra", "ra.1"]
    frame = pd.DataFrame([[1, 2]], columns=["objid", "objid"])
    with pytest.raises(ValueError, match="has the column 'objid' more than once"):
        load_galaxy_zoo2(frame)


def test_missing_values_at_the_end_of_rows_are_no_damage(tmp_path):
    path = write(tmp_path / "votes.csv", "objid,a,b\n1,2,\n3,,\n4,5,6\n")
    assert load_galaxy_zoo2(path)["b"].isna().tolist() == [True, True, False]
    # A column of one is not split, whatever it says.
    path = write(tmp_path / "votes.csv", "galaxy name\nM 31\nNGC 7 a\n")
    assert load_galaxy_zoo2(path)["galaxy name"].tolist() == ["M 31", "NGC 7 a"]


def test_ids_of_other_names_keep_their_digits(tmp_path):
    text = f"GalaxyID,iauname,id,source_id\n{ID},J1,007,\n{ID + 1},J2,008,{ID}\n"
    galaxies = load_galaxy_zoo2(write(tmp_path / "votes.csv", text))
    assert galaxies["GalaxyID"].tolist() == [ID, ID + 1]
    assert galaxies["iauname"].tolist() == ["J1", "J2"]
    assert galaxies["id"].tolist() == ["007", "008"]
    assert galaxies["source_id"].dtype == "Int64"
    assert galaxies["source_id"][1] == ID
    text = "objid,asset_id\n1.0, 7\n 2,8.0\n"
    galaxies = load_galaxy_zoo2(write(tmp_path / "votes.csv", text))
    assert galaxies.to_numpy().tolist() == [[1, 7], [2, 8]]


@pytest.mark.parametrize(
    ("index", "columns"),
    [
        ({"keys": "dr7objid"}, ["dr7objid", "votes", "part"]),
        ({"keys": "dr7objid", "drop": False}, ["dr7objid", "votes", "part"]),
        ({"keys": ["part", "dr7objid"]}, ["part", "dr7objid", "votes"]),
        (None, ["dr7objid", "votes", "part"]),
    ],
)
def test_an_index_in_a_parquet_file_is_kept(tmp_path, index, columns):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"dr7objid": [ID, ID + 1], "votes": [4, 5], "part": ["a"] * 2})
    stored = table.set_index(**index) if index else table[::-1].iloc[::-1]
    stored.to_parquet(tmp_path / "catalog.parquet")
    galaxies = load_galaxy_zoo2(tmp_path / "catalog.parquet")
    assert galaxies.columns.tolist() == columns
    assert isinstance(galaxies.index, pd.RangeIndex)
    pd.testing.assert_frame_equal(galaxies[table.columns], table)


def test_other_indices_of_parquet_files(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "catalog.parquet"
    table = pd.DataFrame({"votes": [4, 5]}, index=["a", "b"])
    table.to_parquet(path)
    assert load_galaxy_zoo2(path)["index"].tolist() == ["a", "b"]
    table = pd.DataFrame({"objid": [4, 5]}, index=pd.Index([5, 4], name="objid"))
    table.to_parquet(path)
    with pytest.raises(ValueError, match="index and a column are both called 'objid'"):
        load_galaxy_zoo2(path)


def test_integers_with_gaps_in_a_parquet_file(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "catalog.parquet"
    table = {"objid": [ID, ID + 1], "dr8objid": [ID + 2, None], "GalaxyID": [None, ID]}
    polars.DataFrame(table).write_parquet(path)
    galaxies = load_galaxy_zoo2(path)
    assert galaxies["dr8objid"][0] == ID + 2
    assert galaxies["GalaxyID"][1] == ID
    assert galaxies["dr8objid"].dtype == galaxies["GalaxyID"].dtype == "Int64"


def test_tables_that_are_no_tables():
    Table = pytest.importorskip("astropy.table").Table
    with pytest.raises(TypeError, match=r"got Table: pass its \.to_pandas\(\)"):
        load_galaxy_zoo2(Table({"objid": [1]}))
    for wrong in ({"objid": [1]}, np.zeros(3), 5, io.StringIO(HEADER)):
        with pytest.raises(TypeError, match=r"`votes` must be a .*; got"):
            load_galaxy_zoo2(wrong)
