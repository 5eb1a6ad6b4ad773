"""Untrusted files: each is read, or refused by an error that names it.

First what would be huge, then small changes to sound files of each kind, then what the
fuzzer in ``tests/fuzz`` found.
"""

import base64
import gzip
import io
import json
import os
import struct
import time
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from skdistill import ImageReader, STMDistiller, SyntheticSet, TrajectoryBuffer
from skdistill.curation._array_file import ArrayFile
from skdistill.datasets._images import extract_images, image_paths
from skdistill.datasets._tables import MAX_COLUMNS, read_table
from skdistill.metrics import load_ddranking
from skdistill.trajectory import list_teachers, merge_buffers
from skdistill.trajectory._store import (
    Identity,
    TeacherFile,
    _digest,
    binding,
    manifest_path,
    teacher_path,
    write_teacher,
)
from skdistill.utils import _untrusted
from skdistill.utils._checkpoint import load_checkpoint, save_checkpoint
from skdistill.utils._untrusted import parse_json

fits = pytest.importorskip("astropy.io.fits")

# What reading may take beyond what is there, in MiB; a sound file is a few KiB here.
MAX_MIB = 400
MAX_SECONDS = 30


def memory():
    """Resident memory and its peak, in MiB."""
    text = Path("/proc/self/status").read_text()
    return [
        int(text.split(f"{name}:")[1].split()[0]) // 1024 for name in ("VmRSS", "VmHWM")
    ]


@contextmanager
def little():
    """Nothing inside takes much memory, nor forever."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        yield  # no Linux
        return
    before, start = memory()[0], time.process_time()
    yield
    assert memory()[1] - before < MAX_MIB
    # A bound for what would have no end, not a measurement.
    assert time.process_time() - start < MAX_SECONDS


@contextmanager
def refused(path, match=None):
    """Everything inside is refused with an error that names a file, at little cost."""
    with little(), pytest.raises(ValueError, match=match) as caught:
        yield
    assert Path(path).name in str(caught.value)


def read_or_refuse(read, name, *names):
    """Read, or get an error that names the file."""
    try:
        return read()
    except (ValueError, OSError) as error:
        message = str(error)
    assert any(str(n) in message for n in (name, *names)), message
    return None


def png(width, height, packed):
    def chunk(kind, content):
        size, check = len(content), zlib.crc32(kind + content)
        return struct.pack(">I", size) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", packed)
        + chunk(b"IEND", b"")
    )


def picture(kind, **options):
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()


def fits_bytes(*hdus):
    file = io.BytesIO()
    fits.HDUList([*hdus]).writeto(file)
    return file.getvalue()


def card(name, value):
    return f"{name:8}= {value:>20}".encode()


def read_image(path):
    return ImageReader(size=4).transform([str(path)])


# What claims to be huge.


@pytest.mark.parametrize("side", [20_000, 60_000, 2**31 - 1])
def test_pictures_of_many_pixels(tmp_path, side):
    path = tmp_path / "1.png"
    path.write_bytes(png(side, side, zlib.compress(bytes(10**6))))
    with refused(path):
        read_image(path)


def test_jpeg_of_many_scans(tmp_path):
    path = tmp_path / "1.jpg"
    content = picture("JPEG", progressive=True)
    # The header alone says how many pixels there are.
    frame = content.index(b"\xff\xc2")
    content = bytearray(content)
    content[frame + 5 : frame + 9] = struct.pack(">HH", 9000, 9000)
    scan = content.index(b"\xff\xda")
    end = content.index(b"\xff", scan + 20)
    path.write_bytes(content[:end] + content[scan:end] * 60 + b"\xff\xd9")
    with refused(path, "would take too long"):
        read_image(path)


def test_jpeg_of_restart_markers_alone(tmp_path):
    path = tmp_path / "1.jpg"
    content = picture("JPEG", restart_marker_blocks=1)
    first = content.index(b"\xff\xd0")
    markers = b"".join(bytes([255, 0xD0 + i % 8]) for i in range(8)) * 200_000
    path.write_bytes(content[:first] + markers + b"\xff\xd9")
    with refused(path, "restart markers"):
        read_image(path)


def test_no_other_program_sees_a_picture(tmp_path):
    path = tmp_path / "1.jpg"
    path.write_bytes(picture("EPS"))
    with refused(path, "image format is unknown"):
        read_image(path)


@pytest.fixture
def small_bound(monkeypatch):
    """What is packed may become 1 MiB and a hundred times its size."""
    monkeypatch.setattr(_untrusted, "_ANY_BYTES", 2**20)


def gzip_of(start, piece, n_pieces):
    unit = zlib.compressobj(wbits=31)
    pieces = [unit.compress(start), *(unit.compress(piece) for _ in range(n_pieces))]
    return b"".join([*pieces, unit.flush()])


@pytest.mark.usefixtures("small_bound")
def test_fits_in_gzip(tmp_path):
    path = tmp_path / "1.fits.gz"
    path.write_bytes(gzip_of(b"SIMPLE  =", bytes(10**6), 30))
    with refused(path, "more than"):
        read_image(path)
    with refused(path, "more than"):
        read_table(path, "votes")


@pytest.mark.parametrize("value", ["400000", "-1", "99999999999"])
def test_fits_of_many_pixels(tmp_path, value):
    path = tmp_path / "1.fits"
    content = fits_bytes(fits.PrimaryHDU(np.zeros((4, 4), dtype=np.float32)))
    for name in ("NAXIS1", "NAXIS2"):
        content = content.replace(card(name, 4), card(name, value))
    path.write_bytes(content)
    with refused(path):
        read_image(path)


def packed_image(kind, shape=(8, 8)):
    image = fits.CompImageHDU(
        np.zeros(shape, dtype=np.int16), compression_type=kind, tile_shape=shape
    )
    return fits_bytes(fits.PrimaryHDU(), image)


def test_many_packed_fits_images(tmp_path, monkeypatch):
    path = tmp_path / "1.fits"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    image = fits.CompImageHDU(np.zeros((8, 8), dtype=np.int16))
    path.write_bytes(fits_bytes(fits.PrimaryHDU(), image, image.copy()))
    with refused(path, "more pixels"):
        read_image(path)


def with_tile(kind, tile):
    """A packed image with another tile in it."""
    with fits.open(
        io.BytesIO(packed_image(kind)), disable_image_compression=True
    ) as hdus:
        header = hdus[1].header
        cell = np.empty(1, dtype=object)
        cell[0] = np.frombuffer(tile, dtype=np.uint8)
        column = fits.Column("COMPRESSED_DATA", f"1PB({len(tile)})", array=cell)
        table = fits.BinTableHDU.from_columns([column])
        for name in header:
            if name.startswith("Z"):
                table.header[name] = header[name]
        return fits_bytes(fits.PrimaryHDU(), table)


@pytest.mark.parametrize(
    ("kind", "tile"),
    [
        ("GZIP_1", gzip.compress(bytes(10**7))),
        ("HCOMPRESS_1", struct.pack(">HiiI", 0xDD99, 30_000, 30_000, 0) + bytes(90)),
    ],
)
def test_tiles_larger_than_they_claim(tmp_path, kind, tile):
    path = tmp_path / "1.fits"
    path.write_bytes(with_tile(kind, tile))
    with refused(path, "larger than declared"):
        read_image(path)


@pytest.mark.usefixtures("small_bound")
def test_zip_members_that_grow(tmp_path):
    path = tmp_path / "1.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("1.png", "w") as file,
    ):
        for _ in range(30):
            file.write(bytes(10**6))
    with refused(path, "more than"):
        ImageReader(images_dir=path).transform(["1.png"])
    with refused(path, "declare"):
        extract_images(path, tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_zip_members_that_unpack_at_once(tmp_path):
    path = tmp_path / "1.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("1.png", bytes(10**6))
    with refused(path, "unsupported"):
        ImageReader(images_dir=path).transform(["1.png"])
    with refused(path, "unsupported"):
        extract_images(path, tmp_path / "images")


# Columns whose statistics are damaged: pyarrow 26 ends the process when it is asked
# what they say of themselves.
DAMAGED_PARQUET = (
    b"c-oCt%Wm676dlU8>bhPe0Vqg-7Xpz8F5o13SdJC62q;>VsMty**CNF}6plzql!ufeQkH1fn<C4ii+({j{e$)"
    b"|vgj8SSruIdT^1<NnV}w*B?Teunc=;6?m2Vr@Io*7N`hTy<LuL8Hpqf|0POz$_`hiQR{&lyAOO~Y{{+CRcMO"
    b"9UBQkg_VDGW__wbfG_&>OF0CpKK%#7~d1>+2#N@NoNL55iitU>^Qp+QrGS4;@(Zca?$P4My040@|Pfex(Q2k"
    b"d&}n=}XqokrWRG<Fjk9t6T0UDz>oz;59+qXBlC%<us?-oYE$_4|SF-Fn@$bz@XV#)X0E@p>JEf{~rbaSZI>o"
    b"M{le6B(yrw?o0upG@dqCiY!yb0@sHHa!3{UXf!hS~2Iy9u^0%0f2`)c>3b=U?c{D*hz4<#yE^dG2Swv_e|`M"
    b"K<tOW&P1H|&nByP&q9ISCDv6af%P%U_5=k|l<z~oFtOj(WB;t(tm{Gwtj0~M6G;|zyCKit8?m1^F!jX>FR%L"
    b"t1q!_hhJvxp(3?+iP&nArY+ZB0Z#S+upFpFF2A1t`PorOR3#7Pj_oAF1;kyhPc*WV8W#E-PKnO=PO#|umd7B"
    b"SZcfB4las%6JbajKn9(!Q*ys5)+`^0D&uBL0QhD}$TVdGfSZV~_4SK`A%?)rMhWS#;?FBf;4#msz*h-teA`<"
    b"xx+_U35#=6NFIB-eY<8I-mNqb-4GqOLa1Hh<Qc<F60Fz(p9i1O}hbXt*Dv=xu~$Wm{7GRpKomt`v_HO>^D82"
    b"?s8{I#<`EjD16MyM0<}WWv7I_ehqWr}g{YA<1)L^c}Nn6KnF|QT$PYyPlD`;Y>YB5FZF{^OedA`KjN&!asiY"
    b"m^>bz<9WW!`_FTp-{-R}UgY@}FSMvFo1OCy$()<{%SZnEBn$ORWX{r=1RXWVlqH^%p@3IUBnu7He05(*mM&n"
    b"S>O%X(d|_sxgfdM{PM@nvy9x8vq$-b^Ct{{4p|~Rn#STo45>QT0Vo<}A4kXdV`O<ADpOG8`T^>2d0&l7oLNH"
    b"%xLQ8bjQyiC1Ct!X^@(gQue@!Vh^#U4FpHNId3*r0~B$>k&&X<5nHm#&8=|-O9<;_N_;`zP=((@wTUujF7Zp"
    b"-kB2wJ5JHIL8aNhzGGTFuqm7eX=9tj_ViB=K^}F{hk_;ziBs^;AJ3ah4`m9aYQ>YH|XRSjozmnuX3OuAOZ|t"
    b"I}>HGI2x6j{Rt$AJyWkIAfjSrB2x-dO*1vugR6Rp3hBnYMu@W{~LHYbE$ShvAvpu>cFHp!?CMwqkwK|Yr%Y`"
    b"J>xmAAC7lm0qazl)5Y{-)gHbB=Sp%?U*4>l(yAH~Em1AClE<Z9kUm-q%1c<zK}lqKSO;W?8AnxA1jWOlk~pN"
    b"f8+j4mZSitt9Ts`@pj}Ru{5#;PSQorMUYp+8QARl>JjA$ODE4Z0HLfc3dwJ5N_L8T{VjQL<YLl!Hjw!Yq_PK"
    b"v=3ka`^7rICDCsn0*smYlEtzAb-9(VY`$!Re&&s{|gyVQfpeVXIM+aDcwa%R)-1bH${Vkh6fLxuuv8T6fg?}"
    b"a1WWDZG)K#f9~pZ1GsXtt>&C;ecAbgSwpm)J&HN&a%YpU={r&nNG>GasZipN}rH<`_TcH>IO9((0&bM1yKme"
    b"q$EYSSIIck(BwdT_7Hj_OTkD9r7n*gz|J>o6fCU`9w0nWbw5om#6(upz5@ynB`ggmmnPNY5ms&!+qH3^&ZkD"
    b"A00RGsNdcr<QL`i5B#(Rz)Sp_`+w*<7SR"
)


def test_parquet_with_damaged_statistics(tmp_path):
    pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "1.parquet"
    path.write_bytes(zlib.decompress(base64.b85decode(DAMAGED_PARQUET)))
    with little():
        read_or_refuse(lambda: read_table(path, "votes"), path.name)


def test_zip_directory_that_is_elsewhere(tmp_path):
    path = tmp_path / "1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.jpg", picture("JPEG"))
    content = bytearray(path.read_bytes())
    # Members are then sought before the start of the file.
    place = content.index(b"PK\5\6") + 16
    content[place : place + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    with refused(path):
        extract_images(path, tmp_path / "images")
    with refused(path):
        ImageReader(images_dir=path, size=4, on_error="raise").transform(
            pd.DataFrame({"asset_id": [1]})
        )


@pytest.mark.parametrize("name", ["../1.jpg", "/1.jpg", "a/../../1.jpg", "..\\1.jpg"])
def test_nothing_is_written_outside_of_the_folder(tmp_path, name):
    path = tmp_path / "inside" / "1.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"content")
    with refused(path, "outside"):
        extract_images(path, tmp_path / "inside" / "images")
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]


def test_a_number_of_thousands_of_digits_names_no_image(tmp_path):
    path = tmp_path / "1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("9" * 5000 + ".jpg", b"content")
        archive.writestr("7.jpg", b"content")
    assert image_paths(path)["7"] == [f"{path}!/7.jpg"]
    extract_images(path, tmp_path / "images")
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["7.jpg"]


@pytest.mark.parametrize(
    "text",
    [
        b",".join(b"a%d" % i for i in range(10**6)) + b"\n1\n",
        b"a" * 5_000_000,
        b'"' + b"a\n," * 10 + b'",' + b"b," * (MAX_COLUMNS + 1) + b"\n1\n",
        b"a,b\n" + b"1," * 10**6 + b"\n",
        b"a,b\n1,2\n3,4,5\n",
    ],
    ids=["header", "no end", "in quotes", "row", "a field too many"],
)
def test_csv_of_too_many_columns(tmp_path, text):
    path = tmp_path / "1.csv"
    path.write_bytes(text)
    with refused(path):
        read_table(path, "votes")


@pytest.mark.usefixtures("small_bound")
def test_csv_in_gzip(tmp_path):
    path = tmp_path / "1.csv.gz"
    path.write_bytes(gzip_of(b"a,b\n", b"1,2\n" * 10**5, 30))
    with refused(path, "more than"):
        read_table(path, "votes")


def test_parquet_of_many_rows(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    path = tmp_path / "1.parquet"
    rows = pyarrow.table({"a": pyarrow.nulls(10**6, pyarrow.int8())})
    with parquet.ParquetWriter(path, rows.schema) as file:
        for _ in range(40):
            file.write_table(rows)
    with refused(path, "declare a table"):
        read_table(path, "votes")


def table_bytes(*columns):
    return fits_bytes(fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns))


@pytest.mark.parametrize(
    "content",
    [
        table_bytes(fits.Column("a", "K", array=np.array([1, 2]))).replace(
            card("NAXIS2", 2), card("NAXIS2", 2 * 10**9)
        ),
        table_bytes(fits.Column("a", "K", array=np.array([1, 2])))
        .replace(card("NAXIS1", 8), card("NAXIS1", 0))
        .replace(card("NAXIS2", 2), card("NAXIS2", 2 * 10**9))
        .replace(b"'K  ", b"'0A "),
        table_bytes(fits.Column("a", "100000E", array=np.zeros((1, 100_000)))),
        b"BZh9" + bytes(100),
    ],
    ids=["rows", "rows of nothing", "columns", "packed"],
)
def test_fits_tables(tmp_path, content):
    path = tmp_path / "1.fits"
    path.write_bytes(content)
    with refused(path):
        read_table(path, "votes")


def test_fits_rows_that_share_an_array(tmp_path):
    path = tmp_path / "1.fits"
    cells = np.empty(2000, dtype=object)
    cells[:] = [np.zeros(0, dtype=np.int32) for _ in range(2000)]
    cells[0] = np.zeros(50_000, dtype=np.int32)
    content = table_bytes(fits.Column("a", "PJ(50000)", array=cells))
    first, rest = struct.pack(">ii", 50_000, 0), struct.pack(">ii", 0, 200_000)
    assert content.count(rest) == 1999
    path.write_bytes(content.replace(rest, first))
    with refused(path, "larger than the file"):
        read_table(path, "votes")


SET = {"format": "skdistill-synthetic-set", "version": "1", "classes": "[0, 1]"}
SET |= {"step_size": "null", "metadata": "{}"}


@pytest.mark.parametrize(
    "change",
    [
        {"classes": json.dumps(["a" * 10**6, *"b" * 1000])},
        {"classes": "[" * 10**6},
        {"classes": "[" * 500 + "]" * 500},
        {"classes": "[[0], [1]]"},
        {"classes": '[0, {"a": 1}]'},
        {"classes": "[0, 1" + "0" * 5000 + "]"},
        {"classes": "[0, 1" + "0" * 50 + "]"},
        {"classes": "[0, null]"},
        {"step_size": "1" + "0" * 400},
        {"step_size": '"0.1"'},
        {"step_size": "[1]"},
        {"metadata": "[]"},
        {"metadata": "{" * 10**6},
        {"version": "2", "pixel_size": "100000"},
        {"version": "2", "pixel_size": "1" + "0" * 400},
        {"version": "2", "pixel_size": "[2]"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_entries_of_synthetic_sets(tmp_path, change):
    path = tmp_path / "1.safetensors"
    tensors = {"X": torch.zeros(2, 3, 3, 1), "y": torch.tensor([0, 1])}
    path.write_bytes(save(tensors, SET | change))
    with refused(path):
        SyntheticSet.load(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.uint8, torch.float8_e4m3fn])
def test_other_types_in_synthetic_sets(tmp_path, dtype):
    path = tmp_path / "1.safetensors"
    tensors = {"X": torch.zeros(2, 3, 3, 1).to(dtype), "y": torch.tensor([0, 1])}
    path.write_bytes(save(tensors, SET))
    with refused(path):
        SyntheticSet.load(path)


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**6) + b"[" * 10**6,
        b"",
    ],
)
def test_headers_of_safetensors(tmp_path, header):
    path = teacher_path(tmp_path, 0)
    path.write_bytes(header)
    for read in (SyntheticSet.load, load_checkpoint):
        with refused(path):
            read(path)
    with refused(path), TeacherFile(tmp_path, 0, "b"):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
def test_a_pipe_is_no_file(tmp_path):
    path = teacher_path(tmp_path, 0)
    os.mkfifo(path)
    with refused(path), TeacherFile(tmp_path, 0, "b"):
        pass
    with refused(path):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        SyntheticSet.load(path)


@pytest.mark.parametrize("text", ["[" * 10**6, "[" * 100 + "]" * 100, '{"a":' * 10**5])
def test_deep_json(text):
    with little(), pytest.raises(ValueError, match="levels"):
        parse_json(text)
    assert parse_json("[" * 60 + "]" * 60)


# Who alters a buffer can give it the right checksums, too.


@pytest.fixture(scope="module")
def buffer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("buffer")
    rng = np.random.default_rng(0)
    X, y = rng.random((8, 4, 4, 1)), np.arange(8) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        TrajectoryBuffer(
            n_teachers=1, n_epochs=2, width=2, depth=1, path=folder, random_state=0
        ).fit(X, y)
    return folder


@pytest.fixture
def altered(buffer_folder, tmp_path):
    """Returns a function that writes the buffer with another manifest."""
    manifest = json.loads(manifest_path(buffer_folder).read_text())
    with TeacherFile(buffer_folder, 0, binding(manifest)) as file:
        run = file.run()

    def write(change):
        changed = json.loads(json.dumps(manifest))
        changed.pop("checksum")
        change(changed)
        changed["checksum"] = _digest(changed)
        manifest_path(tmp_path).write_text(json.dumps(changed))
        write_teacher(tmp_path, run, Identity(0, binding(changed), 5))
        return tmp_path

    return write


def put(*place):
    """Change one entry of a manifest."""
    *outer, name, value = place

    def change(manifest):
        for part in outer:
            manifest = manifest[part]
        manifest[name] = value

    return change


@pytest.mark.parametrize(
    "place",
    [
        ("parameters", "n_teachers", 10**12),
        ("parameters", "n_teachers", 0),
        ("parameters", "n_epochs", 0),
        ("parameters", "n_teachers", "1"),
        ("parameters", "n_epochs", None),
        ("parameters", "width", -1),
        ("parameters", "path", "elsewhere"),
        ("parameters", "other", 1),
        ("parameters", "class_weight", [1]),
        ("parameters", []),
        ("settings", "width", 10**9),
        ("settings", "width", 3),
        ("settings", "depth", 10**9),
        ("settings", "image_shape", [2**40, 2**40, 1]),
        ("settings", "image_shape", [4]),
        ("settings", "snapshots_per_epoch", 10**12),
        ("settings", "families", [["dsa"]]),
        ("settings", "average", 1),
        ("settings", "storage", []),
        ("settings", "scale", float("nan")),
        ("settings", "other", 1),
        ("settings", {}),
        ("classes", [0, [1]]),
        ("classes", [0, 1, 2]),
        ("classes", ["a" * 10**6, *"b" * 1000]),
        ("n_parameters", 1.5),
        ("n_parameters", 10**15),
        ("seed", "0"),
        ("dropped", [0.5]),
        ("dropped", [0]),
    ],
    ids=lambda place: str(place)[:60],
)
def test_manifests(altered, place):
    folder = altered(put(*place))
    with little(), pytest.raises(ValueError, match=str(folder)):
        TrajectoryBuffer.load(folder)


def test_the_manifest_that_is_altered_is_sound(altered):
    assert len(TrajectoryBuffer.load(altered(lambda _: None)).history_) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("buffer", None),
        ("seed", "5"),
        ("digests", []),
        ("digests", {"parameters": 1}),
        ("snapshots", 1),
        ("snapshots", ["a"]),
        ("snapshots", [1, 2, 3]),
    ],
)
def test_teachers_with_the_right_checksum(altered, name, value):
    folder = altered(lambda _: None)
    path = teacher_path(folder, 0)
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    entry = json.loads(header["__metadata__"]["skdistill"])
    entry.pop("checksum")
    entry[name] = value
    entry["checksum"] = _digest(entry)
    header["__metadata__"]["skdistill"] = json.dumps(entry)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with refused(path):
        TrajectoryBuffer.load(folder)
    assert path.name in list_teachers(folder)["problem"][0]
    with refused(path):
        merge_buffers([folder, folder], folder / "merged")


# A checkpoint that another run could have, but this one not.


@pytest.fixture(scope="module")
def checkpoint(buffer_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    rng = np.random.default_rng(0)
    X, y = rng.random((8, 4, 4, 1)), np.arange(8) % 2
    distiller = STMDistiller(
        buffer=buffer_folder, checkpoint=folder, max_total_iter=2, random_state=0
    )
    distiller.set_params(n_steps=2)

    def fit():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return distiller.fit(X, y)

    fit()
    path = folder / "state.safetensors"
    return path, path.read_bytes(), fit


def put_tensor(name, tensor):
    def change(tensors, content):
        tensors[name] = tensor

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, content: tensors.clear(),
        lambda tensors, content: content.pop("progress"),
        lambda tensors, content: content.pop("signature"),
        lambda tensors, content: content.update(signature=[]),
        lambda tensors, content: content.update(progress=[]),
        lambda tensors, content: content["progress"].update(losses=1),
        lambda tensors, content: content.update(history={}),
        lambda tensors, content: content["history"].update(stride=-1),
        lambda tensors, content: content["history"].update(n_pending=10**9),
        lambda tensors, content: content["progress"].update(n_epochs_matched=10**12),
        lambda tensors, content: content["progress"].update(rate="1"),
        put_tensor("now/images.value", torch.zeros(1)),
        put_tensor("now/images.value", torch.full((2, 1, 4, 4), torch.nan)),
        put_tensor("best/step_sizes.logarithms", torch.zeros(0, dtype=torch.float64)),
        put_tensor("history", torch.zeros(3, 2, dtype=torch.float64)),
        put_tensor("history", torch.zeros((), dtype=torch.float64)),
        put_tensor("objective/counts", torch.full((5,), 10**12)),
        put_tensor("objective/validations", torch.zeros(9, 2, dtype=torch.float64)),
        put_tensor("objective/stages", torch.full((1, 6), torch.inf)),
    ],
)
def test_checkpoints(checkpoint, change):
    path, sound, fit = checkpoint
    path.write_bytes(sound)
    assert fit().n_iter_ == 2
    tensors, content = load_checkpoint(path)
    change(tensors, content)
    save_checkpoint(path, tensors, content)
    with little(), pytest.raises(ValueError, match=str(path.parent)):
        fit()


# Tensors in torch's own format.


def ddranking(folder, images):
    torch.save(torch.arange(2), folder / "labels.pt")
    torch.save(images, folder / "images.pt")
    return folder / "images.pt"


def rewritten(path, change, packing=zipfile.ZIP_STORED):
    """Write the members of an archive anew."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


def test_a_tensor_beyond_its_file(tmp_path):
    path = ddranking(tmp_path, torch.zeros(2, 1, 2, 2))

    def change(name, content):
        if not name.endswith("data.pkl"):
            return content
        assert content.count(b"K\x08tq\x05Q") == 1
        return content.replace(b"K\x08tq\x05Q", b"J\0\0\0\x10tq\x05Q").replace(
            b"(K\x02K\x01K\x02K\x02t", b"(K\x02K\x01M\0\x20M\0\x20t"
        )

    rewritten(path, change)
    with refused(path):
        load_ddranking(tmp_path)


def test_a_tensor_of_one_number_many_times(tmp_path):
    path = ddranking(tmp_path, torch.zeros(1).expand(2, 3, 20_000, 20_000))
    with refused(path, "larger than"):
        load_ddranking(tmp_path)


def test_other_objects_than_tensors(tmp_path):
    path = ddranking(tmp_path, torch.zeros(2, 1, 2, 2))
    # A bytearray of 8 GiB.
    claim = b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x02\x85R."
    rewritten(path, lambda n, c: claim if n.endswith("data.pkl") else c)
    with refused(path, "bytearray"):
        load_ddranking(tmp_path)


def test_packed_tensors(tmp_path):
    path = ddranking(tmp_path, torch.zeros(2, 1, 2, 2))
    rewritten(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    with refused(path, "is compressed"):
        load_ddranking(tmp_path)


# Notes of unfinished work are read, or it starts anew.


@pytest.mark.parametrize(
    "notes",
    [
        "[" * 10**6,
        "[]",
        "{}",
        '{"header": 1, "parts": 1}',
        '{"header": "%s", "parts": 1}',
        '{"header": "%s", "parts": {"-1": ["b", {}]}}',
        '{"header": "%s", "parts": {"9": ["b", {}]}}',
        '{"header": "%s", "parts": {"x": ["b", {}]}}',
        '{"header": "%s", "parts": {"0": 1}}',
    ],
    ids=lambda notes: notes[:45],
)
def test_notes_of_unfinished_arrays(tmp_path, notes):
    path = tmp_path / "1.npy"
    with ArrayFile(path, (4, 2), "uint8", ["a", "b"]) as file:
        header = file._header.hex()
    text = notes % header if "%s" in notes else notes
    path.with_name("1.npy.part.json").write_text(text)
    with little(), ArrayFile(path, (4, 2), "uint8", ["a", "b"]) as file:
        assert file.finished == {}


# Small changes to sound files.


def changed(content):
    """Contents that differ from one in a few places."""
    places = st.integers(0, len(content) - 1)
    pieces = st.sampled_from(
        [
            b"",
            b"\0",
            b"\xff" * 4,
            b"\x7f\xff\xff\xff",
            b"-1",
            b"9" * 20,
            b"[" * 200,
            b'"',
        ]
    ) | st.binary(max_size=8)

    def apply(changes):
        altered = bytearray(content)
        for place, length, piece in changes:
            altered[place : place + length] = piece
        return bytes(altered)

    change = st.tuples(places, st.integers(0, 8), pieces)
    return st.lists(change, min_size=1, max_size=4).map(apply)


def samples():
    """A name, sound contents, and what reads each kind."""

    def synthetic(path):
        SyntheticSet(np.zeros((2, 3, 3, 1)), ["a", "b"], 0.1, {"a": "b"}).save(path)

    def checkpoint(path):
        save_checkpoint(path, {"a": torch.zeros(2)}, {"a": [1, 0.5]})

    def archive(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("images/1.jpg", picture("JPEG"))

    def text(path):
        path.write_bytes(b"objid,asset_id,a\n587722981736120347,1,0.5\n2,,x\n")

    def parquet(path):
        pd.DataFrame({"objid": [1, 2], "a": [0.5, None]}).to_parquet(path)

    def table(path):
        columns = [
            fits.Column("objid", "K", array=np.array([1, 2])),
            fits.Column("v", "2E", array=np.ones((2, 2))),
        ]
        path.write_bytes(table_bytes(*columns))

    def tensors(path):
        torch.save(torch.zeros(2, 1, 2, 2), path)
        torch.save(torch.arange(2), path.with_name("labels.pt"))

    def members(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ImageReader(images_dir=path, size=4, on_error="raise").transform(
                pd.DataFrame({"asset_id": [1]})
            )

    def pictures(kind, **options):
        return lambda path: path.write_bytes(picture(kind, **options))

    def votes(path):
        return read_table(path, "votes")

    flux = np.arange(48, dtype=np.float32).reshape(6, 8)
    return {
        "1.safetensors": (synthetic, SyntheticSet.load),
        "2.safetensors": (checkpoint, load_checkpoint),
        "1.jpg": (pictures("JPEG"), read_image),
        "2.jpg": (pictures("JPEG", progressive=True), read_image),
        "1.png": (pictures("PNG"), read_image),
        "1.tiff": (pictures("TIFF"), read_image),
        "1.fits": (
            lambda path: path.write_bytes(fits_bytes(fits.PrimaryHDU(flux))),
            read_image,
        ),
        "2.fits": (lambda path: path.write_bytes(packed_image("RICE_1")), read_image),
        "1.zip": (archive, members),
        "1.csv": (text, votes),
        "1.parquet": (parquet, votes),
        "3.fits": (table, votes),
        "images.pt": (tensors, lambda path: load_ddranking(path.parent)),
    }


@pytest.mark.parametrize("name", samples())
def test_changed_files_are_read_or_refused(name, tmp_path):
    write, read = samples()[name]
    path = tmp_path / name
    write(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(path)
    before = sorted(tmp_path.parent.iterdir()), sorted(tmp_path.iterdir())

    @settings(deadline=None, max_examples=40, database=None, derandomize=True)
    @given(changed(path.read_bytes()))
    def check(content):
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_or_refuse(lambda: read(path), name, "images.pt", tmp_path)

    with little():
        check()
    assert (sorted(tmp_path.parent.iterdir()), sorted(tmp_path.iterdir())) == before


@pytest.mark.parametrize("name", ["manifest.json", "teacher-00000.safetensors"])
def test_changed_buffers_are_read_or_refused(buffer_folder, tmp_path, name):
    for path in (manifest_path(buffer_folder), teacher_path(buffer_folder, 0)):
        (tmp_path / path.name).write_bytes(path.read_bytes())

    @settings(deadline=None, max_examples=60, database=None, derandomize=True)
    @given(changed((buffer_folder / name).read_bytes()))
    def check(content):
        (tmp_path / name).write_bytes(content)
        read_or_refuse(lambda: TrajectoryBuffer.load(tmp_path).snapshot(0, 2), tmp_path)

    with little():
        check()
