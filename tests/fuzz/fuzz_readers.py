"""Fuzz the readers of files, guided by what code an input reaches.

    python tests/fuzz/fuzz_readers.py                  # every reader
    python tests/fuzz/fuzz_readers.py image --runs 5000

It needs ``pip install -e ".[fuzz]"``, Linux and Python 3.11 or 3.12, and is no part of
the tests: ``tests/test_hostile_files.py`` has what it found.  Each reader runs in a
process of its own, until it has seen so many inputs.  Found are all errors but those
that readers promise, errors that do not name the file, memory beyond a bound, inputs
that take long, and files outside of the folder that is written to.
"""

import argparse
import collections
import io
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["skdistill", "zipfile", "json", "PIL", "astropy.io.fits"],
    enable_loader_override=False,
):
    import astropy.io.fits as fits
    import numpy as np
    import pandas as pd
    import torch
    from PIL import Image
    from safetensors.torch import save as safetensors_bytes
    from sklearn.pipeline import make_pipeline

    from skdistill import (
        ChannelScaler,
        SyntheticSet,
        TrajectoryBuffer,
        ZCAWhitener,
        load_image_folder,
    )
    from skdistill.curation._array_file import ArrayFile
    from skdistill.curation._job import Job, Settings
    from skdistill.curation._sources import Sources
    from skdistill.datasets._cifar import _from_table
    from skdistill.datasets._download import _read_json
    from skdistill.datasets._images import extract_images, image_paths
    from skdistill.datasets._tables import read_table
    from skdistill.metrics import load_ddranking
    from skdistill.trajectory import list_teachers, merge_buffers
    from skdistill.trajectory._store import (
        Identity,
        TeacherFile,
        TeacherRun,
        _digest,
        binding,
        teacher_path,
        write_teacher,
    )
    from skdistill.utils._checkpoint import load_checkpoint, save_checkpoint

# Most of the inputs go where they are fastest.
RUNS = {
    "synthetic": 200_000,
    "teacher": 150_000,
    "manifest": 150_000,
    "checkpoint": 150_000,
    "image": 250_000,
    "zip": 100_000,
    "notes": 60_000,
    "ddranking": 40_000,
    "published": 60_000,
    "image-folder": 60_000,
    "image-table": 20_000,
    "csv": 30_000,
    "cifar": 30_000,
    "parquet": 20_000,
    "fits-image": 20_000,
    "fits-table": 15_000,
}
OUTCOMES = ("read", "refused", "unnamed", "other error")
CONTENT = ("classes", "step_size", "metadata")
MAX_MB, MAX_SECONDS = 3000, 30


def safetensors(metadata, tensors=None):
    """Bytes of a file with such entries."""
    return safetensors_bytes(tensors or {}, metadata=metadata)


def with_header(header, data=b"\0" * 4096):
    """Bytes of a file whose header is any text."""
    return struct.pack("<Q", len(header)) + header + data


class Reader:
    """What is read, with inputs to start from."""

    suffix = ""
    words = ()

    def __init__(self, folder):
        self.folder = folder
        self.inside = folder / "inside"
        self.inside.mkdir()
        self.path = self.inside / f"file{self.suffix}"
        self.prepare()

    def prepare(self):
        """Make what all inputs have in common."""

    def read(self, content):
        """Read an input."""
        self.path.write_bytes(content)
        self.load()


class SyntheticReader(Reader):
    suffix = ".safetensors"
    words = (
        "classes",
        "metadata",
        "step_size",
        "pixel_size",
        "version",
        "F32",
        "BF16",
        "I64",
        "1e999",
    )

    def seeds(self):
        rng = np.random.default_rng(0)
        for y in (["a", "b"], [0, 1], [True, False], [0.5, 1.5]):
            SyntheticSet(
                rng.random((2, 3, 3, 1)),
                y,
                step_size=0.1,
                metadata={"a": "b"},
                probabilities=np.eye(2),
                pixel_space=[[0.0], [1.0], [0.5]],
            ).save(self.path)
            content = self.path.read_bytes()
            yield b"\0" + content
            length = struct.unpack("<Q", content[:8])[0]
            yield b"\1" + content[8 : 8 + length]
        X = np.ones((2, 4, 2, 1))
        for more in ({"pixel_size": 2}, {"targets": -np.eye(2)}):
            SyntheticSet(X, [0, 1], **more).save(self.path)
            yield b"\0" + self.path.read_bytes()
        X = rng.random((4, 2, 2, 1))
        pipeline = make_pipeline(ChannelScaler(), ZCAWhitener()).fit(X)
        SyntheticSet(X[:2], [0, 1], preprocessing=pipeline).save(self.path)
        content = self.path.read_bytes()
        yield b"\0" + content
        length = struct.unpack("<Q", content[:8])[0]
        yield b"\1" + content[8 : 8 + length]
        yield b'\2["a", "b"]\0 0.5\0{"a": "b"}'
        yield b"\2[1, 2]\0null\0{}"

    def read(self, content):
        kind, content = content[:1], content[1:]
        if kind == b"\1":
            content = with_header(content)
        elif kind == b"\2":
            texts = content.decode("utf-8", "replace").split("\0")
            content = safetensors(
                {
                    "format": "skdistill-synthetic-set",
                    "version": "1",
                    **dict(
                        zip(("classes", "step_size", "metadata"), texts, strict=False)
                    ),
                },
                {"X": torch.zeros(2, 3, 3, 1), "y": torch.tensor([0, 1])},
            )
        super().read(content)

    def load(self):
        synthetic = SyntheticSet.load(self.path)
        synthetic.save(self.inside / "again")
        again = SyntheticSet.load(self.inside / "again")
        assert np.array_equal(again.X, synthetic.X)


def make_run(n_epochs=3, n_parameters=7):
    rng = torch.Generator().manual_seed(0)
    return TeacherRun(
        torch.randn(n_epochs + 1, n_parameters, generator=rng),
        torch.rand(n_epochs, dtype=torch.float64, generator=rng),
        torch.rand(n_epochs, dtype=torch.float64, generator=rng),
        torch.randn(n_parameters, generator=rng),
        torch.randn(n_parameters, generator=rng),
    )


class TeacherReader(Reader):
    words = (
        "digests",
        "snapshots",
        "checksum",
        "parameters",
        "velocity",
        "last",
        "F16",
    )

    def prepare(self):
        self.path = teacher_path(self.inside, 0)

    def seeds(self):
        for storage in ("float32", "float16", "bfloat16"):
            write_teacher(self.inside, make_run(), Identity(0, "b", 5), storage)
            content = self.path.read_bytes()
            yield b"\0" + content
            length = struct.unpack("<Q", content[:8])[0]
            header = content[8 : 8 + length]
            yield b"\1" + header
            yield b"\2" + json.loads(header)["__metadata__"]["skdistill"].encode()

    def read(self, content):
        kind, content = content[:1], content[1:]
        if kind == b"\1":
            content = with_header(content, b"\0" * 200)
        elif kind == b"\2":
            # With the right checksum: who alters a file can make one.
            try:
                found = json.loads(content)
                found.pop("checksum", None)
                found["checksum"] = _digest(found)
                content = json.dumps(found).encode()
            except Exception:
                pass
            run = make_run()
            content = safetensors(
                {"skdistill": content.decode("utf-8", "replace")},
                {
                    "parameters": run.parameters,
                    "loss": run.loss,
                    "accuracy": run.accuracy,
                    "velocity": run.velocity,
                    "last": run.last,
                },
            )
        super().read(content)

    def load(self):
        with TeacherFile(self.inside, 0, "b") as file:
            run = file.run()
            assert len(run.parameters) == file.n_snapshots
            file.snapshot(0)


class ManifestReader(Reader):
    words = (
        "n_teachers",
        "n_epochs",
        "class_weight",
        "snapshots_per_epoch",
        "average",
        "storage",
        "image_shape",
        "dropped",
        "seed",
        "NaN",
        "1e999",
        "width",
        "families",
    )

    def prepare(self):
        self.path = self.inside / "manifest.json"
        rng = np.random.default_rng(0)
        X, y = rng.random((8, 4, 4, 1)), np.arange(8) % 2
        source = self.folder / "source"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TrajectoryBuffer(
                n_teachers=1, n_epochs=2, width=2, depth=1, path=source, random_state=0
            ).fit(X, y)
        self.manifest = json.loads((source / "manifest.json").read_text())
        with TeacherFile(source, 0, binding(self.manifest)) as file:
            self.run_ = file.run()
        self.stored = [*source.iterdir()]
        for path in self.stored:
            shutil.copy(path, self.inside)
        self.written = binding(self.manifest)

    def seeds(self):
        changes = (
            {},
            {"settings": {**self.manifest["settings"], "class_weight": [1.0, 2.0]}},
            {"settings": {**self.manifest["settings"], "snapshots_per_epoch": [1, 1]}},
            {"parameters": {**self.manifest["parameters"], "class_weight": [[0, 1.0]]}},
            {"dropped": [1, 3], "classes": ["a", "b"]},
        )
        for change in changes:
            content = json.dumps({**self.manifest, **change}).encode()
            yield b"\0" + content
            yield b"\1" + content

    def read(self, content):
        kind, content = content[:1], content[1:]
        if kind == b"\1":
            try:
                found = json.loads(content)
                found.pop("checksum", None)
                buffer = binding(found)
                found["checksum"] = _digest(found)
                content = json.dumps(found).encode()
            except Exception:
                pass
            else:
                if buffer != self.written:
                    write_teacher(self.inside, self.run_, Identity(0, buffer, 5))
                    self.written = buffer
        super().read(content)

    def load(self):
        buffer = TrajectoryBuffer.load(self.inside)
        buffer.snapshot(0, 0)
        buffer.settings_.build_structure()
        assert len(buffer.history_) == buffer.n_epochs_ * buffer.n_teachers_
        list_teachers(self.inside)
        target = self.folder / "merged"
        shutil.rmtree(target, ignore_errors=True)
        merge_buffers([self.inside, self.inside], target)
        shutil.rmtree(target)


class CheckpointReader(Reader):
    suffix = ".safetensors"
    words = (
        "format",
        "version",
        "content",
        "F32",
        "data_offsets",
        "[[[[",
    )

    def seeds(self):
        save_checkpoint(
            self.path, {"a": torch.zeros(2), "b/c": torch.zeros(())}, {"a": [1, 0.5]}
        )
        content = self.path.read_bytes()
        yield b"\0" + content
        length = struct.unpack("<Q", content[:8])[0]
        yield b"\1" + content[8 : 8 + length]

    def read(self, content):
        kind, content = content[:1], content[1:]
        super().read(with_header(content, b"\0" * 12) if kind == b"\1" else content)

    def load(self):
        tensors, content = load_checkpoint(self.path)
        assert isinstance(content, dict)
        save_checkpoint(self.inside / "again", tensors, content)


class ImageFileReader(Reader):
    """Images as bytes in a table, the way that ImageReader reads them."""

    words = (
        "IHDR",
        "PLTE",
        "IDAT",
        "iCCP",
        "zTXt",
        "acTL",
        "fdAT",
        "eXIf",
        "MPF\\x00",
        "\\xff\\xda",
        "\\xff\\xc2",
        "\\xff\\xdd",
        "%!PS-Adobe-3.0 EPSF-3.0",
    )

    def seeds(self):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 255, (9, 10, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        for options in (
            {"format": "JPEG"},
            {"format": "JPEG", "progressive": True},
            {"format": "JPEG", "restart_marker_blocks": 1},
            {"format": "PNG"},
            {"format": "TIFF"},
            {"format": "TIFF", "compression": "tiff_lzw"},
            {"format": "GIF"},
            {"format": "BMP"},
            {"format": "PPM"},
            {"format": "WEBP", "lossless": True},
            {"format": "JPEG2000"},
            {"format": "EPS"},
            {"format": "MPO", "save_all": True, "append_images": [image]},
        ):
            file = io.BytesIO()
            image.save(file, **options)
            yield file.getvalue()
        for mode in ("1", "L", "P", "LA", "CMYK"):
            file = io.BytesIO()
            kind = "JPEG" if mode == "CMYK" else "PNG"
            image.convert(mode).save(file, format=kind)
            yield file.getvalue()

    def read(self, content):
        job = Job(
            settings=Settings(4, 0.5, None, None, 1.0, 0.0),
            files=Sources(""),
            sources=[(None, content)],
            missing={},
            angles=np.zeros(1),
            names=pd.Index(["file"]),
            skip=False,
        )
        job.find_form()


class FitsImageReader(ImageFileReader):
    words = (
        "NAXIS1  =",
        "NAXIS3  =",
        "ZNAXIS1 =",
        "ZTILE1  =",
        "ZCMPTYPE=",
        "BITPIX  =",
        "PCOUNT  =",
        "GZIP_1",
        "RICE_1",
        "PLIO_1",
        "HCOMPRESS_1",
        "TFORM1  =",
    )

    def seeds(self):
        flux = np.arange(48.0, dtype=np.float32).reshape(6, 8)
        for hdus in (
            [fits.PrimaryHDU(flux)],
            [fits.PrimaryHDU(), fits.ImageHDU(flux), fits.ImageHDU(flux)],
            *(
                [
                    fits.PrimaryHDU(),
                    fits.CompImageHDU(flux.astype(np.int16), compression_type=kind),
                ]
                for kind in ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1")
            ),
            [fits.PrimaryHDU(), fits.CompImageHDU(flux, compression_type="RICE_1")],
        ):
            file = io.BytesIO()
            fits.HDUList(hdus).writeto(file)
            yield file.getvalue()


class ZipReader(Reader):
    suffix = ".zip"
    words = (
        "PK\\x01\\x02",
        "PK\\x03\\x04",
        "PK\\x05\\x06",
        "PK\\x06\\x06",
        "../",
        "1.jpg",
        "C:",
        "\\x0c\\x00",
        "\\x5c",
    )

    def seeds(self):
        for names in (["1.jpg", "2.png"], ["images/3.jpg"], ["../4.jpg"], ["/5.jpg"]):
            for packing in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
                zipfile.ZIP_BZIP2,
            ):
                file = io.BytesIO()
                with zipfile.ZipFile(file, "w", packing) as archive:
                    for name in names:
                        archive.writestr(name, b"content" * 3)
                yield file.getvalue()

    def load(self):
        before = {*self.folder.iterdir(), *self.inside.iterdir()}
        target = self.inside / "extracted"
        try:
            self._read_members()
            extract_images(self.path, target)
            for path in target.rglob("*"):
                assert re.fullmatch(r"\d+\.(jpg|jpeg|png|fits|fit)", path.name.lower())
        finally:
            after = {*self.folder.iterdir(), *self.inside.iterdir()}
            new = {path.name for path in after - before}
            allowed = {
                "extracted",
                "extracted.part",
                "extracted.lock",
                ".extracted.lock",
            }
            assert new <= allowed, new
            for path in after - before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _read_members(self):
        image_paths(self.path)
        files = Sources(os.fspath(self.path))
        try:
            for asset in ("1", "2", "3", "4"):
                try:
                    source = files.locate(asset, True)
                except FileNotFoundError:
                    continue
                try:
                    files.read(source)
                except MemoryError:
                    raise
                except Exception:  # read_batch turns them into errors with the name
                    pass
        finally:
            files.close()


class CsvReader(Reader):
    words = (
        "objid",
        "dr7objid",
        "asset_id",
        "id_str",
        "1e999",
        "nan",
        '"',
        "\\x0d\\x0a",
        "9223372036854775808",
        "\\x1f\\x8b",
    )

    def prepare(self):
        self.paths = [self.inside / "file.csv", self.inside / "file.csv.gz"]

    def seeds(self):
        import gzip

        for text in (
            b"objid,a,b\n1,0.5,x\n2,,y\n",
            b"dr7objid,asset_id\n587722981736120347,1\n",
            b'id_str,"a b"\n"x\ny",True\n',
            b"objid\n1.5\n",
        ):
            yield b"\0" + text
            yield b"\1" + gzip.compress(text)

    def read(self, content):
        self.path = self.paths[content[:1] == b"\1"]
        super().read(content[1:])

    def load(self):
        frame = read_table(self.path, "votes")
        assert isinstance(frame.index, pd.RangeIndex), frame.index


class ParquetReader(Reader):
    suffix = ".parquet"
    words = (
        "PAR1",
        "pandas",
        "ARROW:schema",
        "index_columns",
    )

    def seeds(self):
        frame = pd.DataFrame(
            {"objid": [1, 2, 3], "a": [0.5, None, 1], "b": ["x", "y", "x"]}
        )
        for options in (
            {"compression": None},
            {"compression": "snappy"},
            {"compression": "zstd", "index": True},
            {"compression": "gzip", "store_schema": False},
        ):
            frame.to_parquet(self.path, **options)
            yield self.path.read_bytes()

    def load(self):
        frame = read_table(self.path, "votes")
        assert isinstance(frame.index, pd.RangeIndex)


class FitsTableReader(Reader):
    suffix = ".fits"
    words = (
        "NAXIS1  =",
        "NAXIS2  =",
        "TFORM1  =",
        "TDIM1   =",
        "TZERO1  =",
        "PCOUNT  =",
        "THEAP   =",
        "1PJ(9)",
        "9999999E",
        "TFIELDS =",
    )

    def seeds(self):
        columns = [
            fits.Column("objid", "K", array=np.array([1, 2])),
            fits.Column("v", "2E", array=np.ones((2, 2))),
            fits.Column("t", "A5", array=np.array(["a", "b"])),
        ]
        ragged = np.array([np.arange(3), np.arange(2)], dtype=object)
        for table in (
            fits.BinTableHDU.from_columns(columns),
            fits.BinTableHDU.from_columns(
                [*columns, fits.Column("w", "PJ()", array=ragged)]
            ),
            fits.TableHDU.from_columns(
                [fits.Column("a", "F5.2", array=np.array([1.5, 2.5]), ascii=True)]
            ),
        ):
            table.writeto(self.path, overwrite=True)
            yield self.path.read_bytes()

    def load(self):
        read_table(self.path, "votes")


class DdRankingReader(Reader):
    words = (
        "torch._utils _rebuild_tensor_v2",
        "ctorch\\x0aFloatStorage\\x0a",
        "storage",
        "data.pkl",
        "byteorder",
        "PK\\x01\\x02",
    )

    def prepare(self):
        self.path = self.inside / "images.pt"
        torch.save(torch.arange(2), self.inside / "labels.pt")

    def seeds(self):
        for value in (torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 2, 2).half(), 0.5):
            torch.save(value, self.path)
            yield b"\0" + self.path.read_bytes()
            with zipfile.ZipFile(self.path) as archive:
                yield b"\1" + archive.read("images/data.pkl")

    def read(self, content):
        kind, content = content[:1], content[1:]
        if kind == b"\1":
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("images/data.pkl", content)
                archive.writestr("images/byteorder", b"little")
                archive.writestr("images/data/0", b"\0" * 384)
                archive.writestr("images/version", b"3\n")
            content = file.getvalue()
        super().read(content)

    def load(self):
        load_ddranking(self.inside)


class PublishedReader(Reader):
    """Sets of others: torch's files, and NumPy's."""

    words = (
        *DdRankingReader.words,
        "data",
        "image_syn",
        "label_syn",
        "\\x93NUMPY",
        "'shape': (",
        "'descr': '",
        "images.npy",
        "labels.npy",
    )

    def seeds(self):
        images, labels = torch.zeros(4, 3, 4, 4), torch.arange(4)
        for value in (
            {"data": [[images, labels]], "accs_all_exps": {"ConvNet": [0.5]}},
            {"image_syn": images, "label_syn": labels, "syn_lr": 0.1},
        ):
            torch.save(value, self.inside / "seed.pt")
            content = (self.inside / "seed.pt").read_bytes()
            yield b"\0" + content
            with zipfile.ZipFile(self.inside / "seed.pt") as archive:
                yield b"\1" + archive.read("seed/data.pkl")
            (self.inside / "seed.pt").unlink()
        for save in (np.savez, np.savez_compressed):
            file = io.BytesIO()
            save(file, images=images.numpy(), labels=np.eye(4, dtype=np.float32))
            yield b"\2" + file.getvalue()

    def read(self, content):
        kind, content = content[:1], content[1:]
        if kind == b"\1":
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("file/data.pkl", content)
                archive.writestr("file/byteorder", b"little")
                archive.writestr("file/data/0", b"\0" * 768)
                archive.writestr("file/data/1", b"\0" * 32)
                archive.writestr("file/version", b"3\n")
            content = file.getvalue()
        self.path = self.inside / ("file.npz" if kind == b"\2" else "file.pt")
        super().read(content)

    def load(self):
        try:
            SyntheticSet.from_published(self.path)
        finally:
            self.path.unlink()


class ImageFolderReader(ImageFileReader):
    """An image in a folder of classes, beside a sound one."""

    def prepare(self):
        self.classes = self.inside / "file"
        for name in ("a", "b"):
            (self.classes / name).mkdir(parents=True)
        Image.new("RGB", (10, 9)).save(self.classes / "b" / "sound.png")
        self.path = self.classes / "a" / "file.png"

    def read(self, content):
        self.path.write_bytes(content)
        load_image_folder(self.classes, verbose=0)


class ImageTableReader(Reader):
    """A table of images as bytes, as hubs publish them."""

    suffix = ".parquet"
    words = ("PAR1", "WEBPVP8L", "RIFF", "image", "bytes", "label")

    def seeds(self):
        rows = []
        for i in range(3):
            file = io.BytesIO()
            Image.new("RGB", (6, 5), (i, 9, 9)).save(file, format="WEBP", lossless=True)
            rows.append(file.getvalue())
        for images in (rows, [{"bytes": row, "path": None} for row in rows]):
            table = pd.DataFrame({"image": images, "label": [0, 1, 0]})
            for compression in ("snappy", None):
                table.to_parquet(self.path, compression=compression)
                yield self.path.read_bytes()

    def load(self):
        load_image_folder(self.path, verbose=0)


class CifarReader(Reader):
    """The cells of a table with images."""

    def seeds(self):
        image = Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8))
        for kind in ("PNG", "JPEG", "GIF", "EPS"):
            file = io.BytesIO()
            image.save(file, format=kind)
            yield file.getvalue()

    def read(self, content):
        table = pd.DataFrame({"image": [content], "label": [1]})
        try:
            _from_table(table, 10)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error


class NotesReader(Reader):
    """What is noted of unfinished files."""

    suffix = ".npy.part.json"
    words = (
        "header",
        "parts",
        "size",
        "sha256",
        "-1",
        "[[[[[[",
    )

    def prepare(self):
        self.out = self.inside / "file.npy"

    def seeds(self):
        with ArrayFile(self.out, (4, 2), "uint8", ["a", "b"]) as file:
            header = file._header.hex()
            file.complete(np.arange(4))
        yield json.dumps({"header": header, "parts": {"0": ["a", {}]}}).encode()
        yield json.dumps({"header": header, "parts": {"1": ["b", {"2": "x"}]}}).encode()
        yield b'{"size": 3, "sha256": "abc"}'

    def load(self):
        _read_json(self.path)
        with ArrayFile(self.out, (4, 2), "uint8", ["a", "b"]) as file:
            assert set(file.finished) <= {0, 1}
            for failed in file.finished.values():
                for place, reason in failed.items():
                    assert int(place) >= 0
                    assert isinstance(reason, str)
            file.complete(np.arange(4))


READERS = {
    "synthetic": SyntheticReader,
    "teacher": TeacherReader,
    "manifest": ManifestReader,
    "checkpoint": CheckpointReader,
    "image": ImageFileReader,
    "zip": ZipReader,
    "notes": NotesReader,
    "ddranking": DdRankingReader,
    "published": PublishedReader,
    "image-folder": ImageFolderReader,
    "image-table": ImageTableReader,
    "csv": CsvReader,
    "cifar": CifarReader,
    "parquet": ParquetReader,
    "fits-image": FitsImageReader,
    "fits-table": FitsTableReader,
}


def fuzz(name, runs, folder, report):
    """Fuzz one reader; never returns."""
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = 2**20  # so that many images are refused, and none slow
    reader = READERS[name](folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(reader.seeds()):
        (corpus / f"seed-{i}").write_bytes(seed)
    words = folder / "words"
    words.write_text(
        "".join('"{}"\n'.format(word.replace('"', '\\"')) for word in reader.words)
    )
    outcomes = collections.Counter()
    found = {}

    def one(content):
        start = time.monotonic()
        try:
            reader.read(content)
            outcome = "read"
        except (ValueError, OSError) as error:
            outcome = "refused"
            if "file" not in str(error) and str(reader.folder) not in str(error):
                outcome = "unnamed"
                note(content, error)
        except BaseException as error:  # PanicException is not an Exception
            outcome = "other error"
            note(content, error)
        outcomes[outcome] += 1
        seconds = time.monotonic() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        outcomes["slowest (ms)"] = max(outcomes["slowest (ms)"], int(1000 * seconds))
        outcomes["memory (MB)"] = memory
        n_inputs = sum(
            outcomes[o] for o in ("read", "refused", "unnamed", "other error")
        )
        if n_inputs % 1000 == 0:
            save(n_inputs)
        if n_inputs == runs:
            save(n_inputs)
            # libFuzzer's alarm would meet an interpreter that is half gone.
            sys.stdout.flush()
            os._exit(0)

    def note(content, error):
        last = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{type(error).__name__} {Path(last.filename).name}:{last.lineno}"
        if key not in found or len(content) < len(found[key][1]):
            if key not in found:
                print(f"\n{name}: {key}: {str(error)[:200]}", file=sys.stderr)
            found[key] = (str(error)[:300], content)
            save(None)

    def save(n_inputs):
        if n_inputs is not None:
            outcomes["inputs"] = n_inputs
        report.write_text(
            json.dumps(
                {
                    "outcomes": outcomes,
                    "found": {k: [m, repr(c[:3000])] for k, (m, c) in found.items()},
                },
                indent=1,
            )
        )

    arguments = [
        sys.argv[0],
        str(corpus),
        *([f"-dict={words}"] if reader.words else []),
        f"-runs={runs}",
        f"-atheris_runs={runs}",
        f"-rss_limit_mb={MAX_MB}",
        f"-malloc_limit_mb={MAX_MB}",
        f"-timeout={MAX_SECONDS}",
        "-max_len=12000",
        "-len_control=20",
        "-verbosity=0",
        f"-artifact_prefix={report}.",
    ]
    os.chdir(folder)
    atheris.Setup(arguments, one)
    atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="reader", help=", ".join(READERS))
    parser.add_argument("--runs", type=int, help="inputs for each reader")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual inputs")
    parser.add_argument("--output", type=Path, default=Path("fuzz-output"))
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.readers) - set(READERS)
    if unknown:
        parser.error(f"readers are {', '.join(READERS)}; got {sorted(unknown)}")
    options.output.mkdir(parents=True, exist_ok=True)
    if options.inside:
        (name,) = options.readers
        fuzz(name, options.runs, options.inside, options.output.absolute() / name)
    memory = Path("/dev/shm")
    failed = []
    for name in options.readers or READERS:
        runs = options.runs or max(1, int(RUNS[name] * options.share))
        start = time.monotonic()
        with tempfile.TemporaryDirectory(
            dir=memory if memory.is_dir() else None
        ) as folder:
            command = [sys.executable, __file__, name, f"--runs={runs}"]
            command += [f"--output={options.output}", f"--inside={folder}"]
            with (options.output / f"{name}.log").open("w") as log:
                code = subprocess.run(command, stdout=log, stderr=log).returncode
        report = options.output / name
        result = json.loads(report.read_text()) if report.exists() else {}
        counts = result.get("outcomes", {})
        text = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        seconds = time.monotonic() - start
        ending = f", ended with {code}" if code else ""
        print(f"{name}: {text or 'no inputs'}, {seconds:.0f} s{ending}", flush=True)
        for key, (message, content) in result.get("found", {}).items():
            print(f"    {key}: {message}\n        {content[:500]}")
        if code or result.get("found") or counts.get("inputs", 0) < runs:
            failed.append(name)
    if failed:
        sys.exit(f"something was found, or ended early: {', '.join(failed)}")


if __name__ == "__main__":
    main()
