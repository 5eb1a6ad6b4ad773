"""Sets of others: each layout as its makers' codes write it, and our own exports."""

import io
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skdistill import SyntheticSet, evaluate_synthetic
from skdistill.metrics import load_ddranking
from skdistill.neural_network import ConvNetClassifier
from skdistill.utils._torch_files import read_torch

SHARED = Path(__file__).parents[2] / "shared" / "data" / "published-sets"

rng = np.random.default_rng(0)
X = rng.normal(size=(6, 8, 8, 3)).astype(np.float32)
FIRST = torch.from_numpy(np.ascontiguousarray(X.transpose(0, 3, 1, 2)))
Y = torch.arange(3).repeat_interleave(2)
SOFT = torch.softmax(3 * torch.eye(3)[Y] + 0.1 * torch.arange(3), dim=1)
read = SyntheticSet.from_published


def save(value, path):
    torch.save(value, path)
    return path


# Layouts


def test_dc(tmp_path):
    accuracies = {"ConvNet": [np.float64(0.5), np.float64(0.7)], "MLP": []}
    path = save({"data": [[FIRST, Y]], "accs_all_exps": accuracies}, tmp_path / "r.pt")
    found = read(path)
    np.testing.assert_array_equal(found.X, X)
    assert found.y.tolist() == Y.tolist()
    assert found.metadata["labels"] == "hard"
    assert found.metadata["published_accuracy"] == {"ConvNet": 0.6}
    assert read(path, classes=["b", "a", "c"]).y.tolist() == list("bbaacc")
    with pytest.raises(ValueError, match="`classes` must name the 3 classes"):
        read(path, classes=["a"])
    with pytest.raises(ValueError, match="from 0 to 0"):
        read(path, experiment=1)


def test_several_experiments_in_one_file(tmp_path):
    scores = {"ConvNet": [0.1, 0.1, 0.3, 0.3]}
    path = save(
        {"data": [[FIRST, Y], [FIRST + 1, Y]], "accs_all_exps": scores},
        tmp_path / "res_DM.pt",
    )
    with pytest.warns(UserWarning, match="sets of 2 experiments.*`experiment`"):
        assert read(path).metadata["published_accuracy"] == {"ConvNet": 0.1}
    found = read(path, experiment=1)
    np.testing.assert_array_equal(found.X, X + 1)
    assert found.metadata["published_accuracy"] == {"ConvNet": 0.3}


@pytest.mark.parametrize("by_folder", [True, False])
def test_mtt(tmp_path, by_folder):
    save(torch.nn.Parameter(FIRST), tmp_path / "images_best.pt")
    save(FIRST, tmp_path / "images_zca_best.pt")
    save(FIRST + 1, tmp_path / "images_100.pt")
    save(Y + 0, tmp_path / "labels_100.pt")
    save(Y.flip(0), tmp_path / "labels_best.pt")
    save(torch.tensor(0.02), tmp_path / "lr_best.pt")
    found = read(tmp_path if by_folder else tmp_path / "images_best.pt")
    np.testing.assert_array_equal(found.X, X)
    assert found.y.tolist() == Y.flip(0).tolist()
    assert found.step_size == pytest.approx(0.02)
    earlier = read(tmp_path / "images_100.pt")
    assert earlier.y.tolist() == Y.tolist()
    assert earlier.step_size is None
    (tmp_path / "images_best.pt").unlink()
    save(FIRST, tmp_path / "images_200.pt")
    with pytest.raises(ValueError, match="several files that may hold the images"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"labels_best\.pt must hold images"):
        read(tmp_path / "labels_best.pt")
    (tmp_path / "other").mkdir()
    path = save(FIRST, tmp_path / "other" / "images_1.pt")
    with pytest.raises(FileNotFoundError, match="no file of labels"):
        read(path)


def test_several_step_sizes(tmp_path):
    save(FIRST, tmp_path / "images_best.pt")
    save(Y, tmp_path / "labels_best.pt")
    save(torch.tensor([0.1, 0.2]), tmp_path / "lr_best.pt")
    with pytest.warns(UserWarning, match="2 step sizes"):
        assert read(tmp_path).step_size == pytest.approx(0.2)
    save(torch.tensor(-1.0), tmp_path / "lr_best.pt")
    with pytest.raises(ValueError, match="`step_size` must be positive"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (Y, "hard"),
        (Y[:, None].float(), "hard"),
        (torch.eye(3)[Y], "one-hot"),
        (SOFT, "probabilities"),
        (torch.eye(3)[Y] - 1 / 3, "targets"),
    ],
)
def test_kinds_of_labels(tmp_path, labels, kind):
    found = read(save((FIRST, labels), tmp_path / "data_best.pt"))
    assert found.y.tolist() == Y.tolist()
    assert found.metadata["labels"] == kind
    assert (found.probabilities is not None) == (kind == "probabilities")
    assert (found.targets is not None) == (kind == "targets")
    told = {"probabilities": "soft labels", "targets": "regression targets"}
    assert told.get(kind, "classes>") in repr(found)


def test_logits_and_targets_are_told_when_guessed(tmp_path):
    logits = 3 * torch.eye(3)[Y] + torch.arange(3)
    path = save([FIRST, logits], tmp_path / "1.pt")
    with pytest.warns(
        UserWarning, match="treated as logits.*Use `label_kind`='targets'"
    ):
        found = read(path)
    np.testing.assert_allclose(found.probabilities, logits.softmax(1), atol=1e-6)
    found = read(path, label_kind="targets")
    np.testing.assert_array_equal(found.targets, logits)
    assert read(path, label_kind="hard").probabilities is None
    np.savez(tmp_path / "1.npz", images=X, labels=logits.numpy())
    with pytest.warns(UserWarning, match="treated as targets"):
        found = read(tmp_path / "1.npz")
    np.testing.assert_array_equal(found.targets, logits)
    with pytest.raises(ValueError, match="sum to 1 with `label_kind`"):
        read(path, label_kind="probabilities")
    with pytest.raises(ValueError, match="`label_kind` must be one of"):
        read(path, label_kind="soft")


def test_labels_as_a_list_of_numbers(tmp_path):
    for value in ([FIRST, Y.tolist()], {"images": FIRST, "labels": Y.tolist()}):
        assert read(save(value, tmp_path / "1.pt")).y.tolist() == Y.tolist()


def test_columns_follow_the_names_of_classes(tmp_path):
    found = read(save([FIRST, SOFT], tmp_path / "1.pt"), classes=["z", "a", "m"])
    assert found.y.tolist() == list("zzaamm")
    np.testing.assert_array_equal(found.probabilities, SOFT[:, [1, 2, 0]])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (list("abcd"), "must name the 3 classes"),
        (list("aab"), "each class of .* differently"),
        (["a", "b", 3], "labels of the same type"),
        ([["a"], ["b"], ["c"]], "labels of the same type"),
    ],
)
@pytest.mark.parametrize("reader", [read, load_ddranking])
def test_names_of_classes_are_checked(tmp_path, classes, message, reader):
    SyntheticSet(X, Y.numpy(), probabilities=SOFT.numpy()).export(tmp_path)
    for name in ("images", "labels"):
        (tmp_path / f"{name}_best.pt").rename(tmp_path / f"{name}.pt")
    with pytest.raises(ValueError, match=message):
        reader(tmp_path, classes=classes)


def test_labels_that_no_reader_takes_are_exported_as_codes(tmp_path):
    large = np.where(Y == 0, 0, 2**62)
    with pytest.warns(UserWarning, match="the names of the classes"):
        SyntheticSet(X, large).export(tmp_path)
    assert read(tmp_path, classes=[0, 2**62]).y.tolist() == large.tolist()


@pytest.mark.parametrize("first", [True, False])
def test_npz_of_kernel_methods(tmp_path, first):
    images = X.transpose(0, 3, 1, 2) if first else X
    labels = np.eye(3)[Y] - 1 / 3
    np.savez(tmp_path / "1.npz", images=images, labels=labels, k=np.float32(2))
    found = read(tmp_path / "1.npz")
    np.testing.assert_array_equal(found.X, X)
    np.testing.assert_allclose(found.targets, labels, rtol=1e-6)
    assert found.metadata["k"] == 2
    np.savez_compressed(tmp_path / "2.npz", image=images, label=labels)
    np.testing.assert_array_equal(read(tmp_path / "2.npz").X, X)


def test_names_in_a_dict(tmp_path):
    names = {"image_syn": FIRST, "label_syn": Y, "syn_lr": 0.03, "iteration": 7}
    found = read(save(names, tmp_path / "1.pt"))
    assert found.step_size == 0.03
    assert found.metadata["iteration"] == 7
    with pytest.raises(ValueError, match="it holds a dict of 'a': array"):
        read(save({"a": FIRST, "b": FIRST, "y": Y}, tmp_path / "1.pt"))
    with pytest.raises(ValueError, match="one array of labels"):
        read(save({"images": FIRST}, tmp_path / "1.pt"))


def test_which_axis_has_the_channels(tmp_path):
    five = torch.zeros(6, 5, 8, 9)
    assert read(save([five, Y], tmp_path / "1.pt")).X.shape == (6, 8, 9, 5)
    small = torch.arange(6.0 * 27).reshape(6, 3, 3, 3)
    path = save([small, Y], tmp_path / "2.pt")
    with pytest.warns(UserWarning, match="Use `channels_first`"):
        found = read(path)
    np.testing.assert_array_equal(found.X, small.permute(0, 2, 3, 1))
    np.testing.assert_array_equal(read(path, channels_first=False).X, small)
    gray = save([torch.zeros(6, 8, 8), Y], tmp_path / "3.pt")
    assert read(gray).X.shape == (6, 8, 8, 1)


def test_types_of_tensors(tmp_path):
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.uint8):
        part = (10 * FIRST).abs().to(dtype)
        # A part of a larger tensor, with steps.
        path = save([part[::2], Y[::2].int()], tmp_path / "1.pt")
        found = read(path)
        np.testing.assert_array_equal(found.X, part[::2].float().permute(0, 2, 3, 1))
        assert found.y.tolist() == [0, 1, 2]


def test_pieces_are_enlarged_as_idc_does(tmp_path):
    for images in (FIRST, torch.rand(6, 3, 9, 7)):
        found = read(save([images, Y], tmp_path / "1.pt"), factor=2)
        sides = images.shape[2:]
        padded = torch.nn.functional.pad(
            images, (0, sides[1] % 2, 0, sides[0] % 2), value=0.5
        )
        rows, columns = (side // 2 for side in padded.shape[2:])
        pieces = [
            padded[:, :, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            for i in range(2)
            for j in range(2)
        ]
        expected = torch.nn.functional.interpolate(
            torch.stack(pieces, 1).flatten(0, 1), sides, mode="bilinear"
        )
        np.testing.assert_allclose(found.X, expected.permute(0, 2, 3, 1), atol=1e-6)
        assert found.y.tolist() == np.repeat(Y, 4).tolist()
    with pytest.raises(ValueError, match="factor == 0, must be >= 1"):
        read(tmp_path / "1.pt", factor=0)


def test_another_pixel_space_shows_in_scoring(tmp_path):
    found = read(save([FIRST, Y], tmp_path / "1.pt"))
    network = ConvNetClassifier(width=4, max_iter=1)
    test = 255 * rng.uniform(size=(6, 8, 8, 3))
    with pytest.warns(UserWarning, match="a different pixel space from the distilled"):
        evaluate_synthetic(found, test, Y.numpy(), estimator=network, n_repeats=1)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no published sets here")
def test_real_sets():
    for name, n in (("1ipc", 10), ("10ipc", 100)):
        found = read(SHARED / f"res_DC_CIFAR10_ConvNet_{name}.pt")
        assert found.X.shape == (n, 32, 32, 3)
        assert found.y.tolist() == np.arange(10).repeat(n // 10).tolist()
        assert 0.25 < found.metadata["published_accuracy"]["ConvNet"] < 0.43
    found = read(SHARED / "rfad_cifar10_ipc1.npz")
    assert found.X.shape == (10, 32, 32, 3)
    assert found.metadata["labels"] == "targets"


# Hostile files


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def with_pickle(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/data/0", bytes(64))
    return path


@pytest.mark.parametrize("key", ["data", "extra"])
def test_no_code_is_run(tmp_path, key):
    planted = {"data": [[FIRST, Y]], key: Planted(tmp_path / "ran")}
    with pytest.raises(ValueError, match=r"1\.pt cannot be read.*nothing was executed"):
        read(save(planted, tmp_path / "1.pt"))
    objects = np.empty(6, object)
    objects[0] = Planted(tmp_path / "ran")
    np.savez(tmp_path / "1.npz", images=X, labels=objects)
    with pytest.raises(ValueError, match=r"1\.npz cannot be read.*not numbers"):
        read(tmp_path / "1.npz")
    assert not (tmp_path / "ran").exists()


def tensor(offset, shape, strides):
    """A pickle of a tensor over 16 numbers, whatever it claims."""

    class Storage:
        pass

    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=2)
    pickler.persistent_id = lambda o: (
        ("storage", torch.FloatStorage, "0", "cpu", 16)
        if isinstance(o, Storage)
        else None
    )

    class Fake:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                *(Storage(), offset, shape, strides),
                *(False, {}),
            )

    pickler.dump(Fake())
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        tensor(0, (2**40, 4), (0, 0)),
        tensor(0, (4, 4), (5, 1)),
        tensor(-1, (4, 4), (4, 1)),
        tensor(0, (4, -4), (4, 1)),
        tensor(0, (True, 4), (4, 1)),
        tensor(0, (0, 2**62, 2**62), (1, 1, 1)),
        # A memo of many places, a list in itself, keys that take forever to hash.
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02K\x00" + b"q\x00h\x00\x86" * 60 + b"}q\x01h\x00K\x01s.",
        b"\x80\x02}" + b"\x85" * 200_000 + b"K\x01s.",
        b"\x80\x02" + b"]" * 1000 + b"a" * 999 + b".",
        b"\x80\x02]q\x00" + b"(h\x00h\x00h\x00h\x00lq\x00" * 60 + b".",
        b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",
        b"\x80\x02.",
        b"\x80\x02K\x01K\x02.",
        b"",
    ],
)
def test_claims_of_pickles(tmp_path, content):
    path = with_pickle(tmp_path / "1.pt", content)
    with pytest.raises(ValueError, match=r"1\.pt"):
        read(path)


def test_what_is_there_once_is_no_more_when_named_often(tmp_path):
    one = b"\x80\x02X\x00\x00\x40\x00" + b"a" * 2**22 + b"q\x00"
    encode = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    path = with_pickle(tmp_path / "1.pt", one + b"(" + encode * 1000 + b"t.")
    with pytest.raises(ValueError, match=r"1\.pt.*arrays are larger than"):
        read(path)
    # A list of lists that are the same one.
    lists = [0.5] * 100
    for _ in range(5):
        lists = [lists] * 100
    scores = {"data": [[FIRST, Y]], "accs_all_exps": {"ConvNet": lists}}
    assert "published_accuracy" not in read(save(scores, path)).metadata
    with pytest.raises(ValueError, match="step size; got a list of list"):
        read(save([FIRST, Y, lists], path))


def test_members_one_over_the_other(tmp_path):
    path = save([FIRST, FIRST + 1, FIRST + 2, Y], tmp_path / "1.pt")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if "/data/" in n]
        # Each claims to go on to the end.
        for name in names[:3]:
            info = archive.getinfo(name)
            entry = content.rindex(name.encode())
            size = (len(content) - info.header_offset - 200).to_bytes(4, "little")
            content[entry - 26 : entry - 18] = size * 2
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"1\.pt cannot be read"):
        read(path)


def test_claims_of_arrays(tmp_path):
    for shape in ("(999999999999, 8, 8, 3)", "(-1, 8, 8, 3)", "(4294967296,) * 2"):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        (tmp_path / "1.npy").write_bytes(start + header.encode() + bytes(64))
        with pytest.raises(ValueError, match=r"1\.npy cannot be read"):
            read(tmp_path / "1.npy")


def test_other_files(tmp_path):
    path = tmp_path / "1.pt"
    for content in (b"", b"abc", pickle.dumps({"data": 1})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"1\.pt cannot be read"):
            read(path)
    torch.save(FIRST, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"PyTorch before 1\.6"):
        read(path)
    SyntheticSet(X, Y.numpy()).save(tmp_path / "1.safetensors")
    with pytest.raises(ValueError, match=r"SyntheticSet\.load"):
        read(tmp_path / "1.safetensors")
    with pytest.raises(
        FileNotFoundError,
        match="does not exist",
    ):
        read(tmp_path / "2.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no file of a distilled set"):
        read(tmp_path / "empty")
    for value in ([], {}, {"data": []}, 3, [[FIRST, Y]], {"data": [3]}):
        with pytest.raises(ValueError, match=r"1\.pt"):
            read(save(value, path))
    with pytest.raises(ValueError, match=r"1\.pt does not hold a usable set.*finite"):
        read(save([FIRST / 0, Y], path))
    with pytest.raises(ValueError, match="integers"):
        read(save([FIRST, Y + 0.5], path))
    with pytest.raises(ValueError, match="each of the 6 images"):
        read(save([FIRST, Y[:5]], path))


@pytest.mark.parametrize("name", ["1.pt", "1.npz"])
def test_changed_files_are_read_or_refused(tmp_path, name):
    path = tmp_path / name
    if name == "1.pt":
        scores = {"ConvNet": [np.float64(0.5)]}
        save({"data": [[FIRST[:2], Y[:4:2]]], "accs_all_exps": scores}, path)
    else:
        np.savez(path, images=X, labels=SOFT.numpy())
    content = path.read_bytes()

    @settings(max_examples=60, database=None, derandomize=True)
    @given(
        st.lists(
            st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)),
            min_size=1,
            max_size=4,
        ),
        st.none() | st.integers(0, len(content)),
    )
    def check(changes, end):
        changed = bytearray(content)
        for place, value in changes:
            changed[place] = value
        path.write_bytes(changed[:end])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            message = name
            try:
                read(path)
            except ValueError as error:
                message = str(error)
            assert name in message

    check()


@settings(max_examples=150, database=None, derandomize=True)
@given(st.binary(max_size=60), st.booleans())
def test_any_operations(tmp_path_factory, operations, in_front):
    whole = tensor(0, (4, 4), (4, 1))
    changed = operations + b"." if in_front else whole[:-1] + operations + b"."
    path = with_pickle(tmp_path_factory.mktemp("set") / "1.pt", changed)
    message = path.name
    try:
        read_torch(path)
    except ValueError as error:
        message = str(error)
    assert path.name in message


# Ours, out


def sets():
    y = Y.numpy()
    soft = SOFT.numpy()
    return {
        "hard": SyntheticSet(X, y),
        "step size": SyntheticSet(X, y, 0.02),
        "soft": SyntheticSet(X, y, 0.02, probabilities=soft),
        "targets": SyntheticSet(X, y, targets=3 * soft - 1.5),
        "names": SyntheticSet(X, np.array(list("abc")).repeat(2), 0.5),
        "gaps": SyntheticSet(X, 2 * y + 3),
    }


def same(found, wanted, without=()):
    np.testing.assert_array_equal(found.X, wanted.X)
    np.testing.assert_array_equal(found.y, wanted.y)
    for name in ("step_size", "probabilities", "targets"):
        one, two = getattr(found, name), getattr(wanted, name)
        if name in without:
            two = None
        assert (one is None) == (two is None), name
        if one is not None:
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", sets())
@pytest.mark.parametrize("layout", ["mtt", "dc", "npz"])
def test_round_trips(tmp_path, kind, layout):
    given_set = sets()[kind]
    path = tmp_path / ("set" if layout == "mtt" else f"set.{layout}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given_set.export(path, layout)
    told = " ".join(str(warning.message) for warning in caught)
    options = {}
    if kind == "names":
        assert "read it with `classes`=['a', 'b', 'c']" in told
        options["classes"] = ["a", "b", "c"]
    lost = {"probabilities", "targets", "step_size"} if layout == "dc" else set()
    for name in lost:
        assert (f"`{name}`" in told) == (getattr(given_set, name) is not None)
    if kind == "targets" and layout != "dc":
        assert ("`label_kind`='targets'" in told) == (layout == "mtt")
        options["label_kind"] = "targets"
    same(read(path, **options), given_set, lost)


@pytest.mark.parametrize("kind", sets())
def test_hugging_face(tmp_path, kind):
    pq = pytest.importorskip("pyarrow.parquet")
    given_set = sets()[kind]
    given_set.export(tmp_path, "huggingface", license="cc-by-4.0", data="CIFAR: 10")
    same(read(tmp_path), given_set)
    table = pq.read_table(tmp_path / "data" / "train.parquet")
    pixels = np.array(table["pixels"].to_pylist(), np.float32)
    np.testing.assert_array_equal(pixels.reshape(X.shape), X)
    assert table["label"].to_pylist() == Y.tolist()
    picture = Image.open(io.BytesIO(table["image"][0]["bytes"].as_py()))
    assert picture.size == (8, 8)
    assert b"ClassLabel" in table.schema.metadata[b"huggingface"]
    card = (tmp_path / "README.md").read_text()
    assert card.startswith('---\nlicense: "cc-by-4.0"\n')
    assert "| data | CIFAR: 10 |" in card
    assert '"path": "data/train.parquet"' in card
    assert (tmp_path / "card_images" / "class_0.png").exists()
    given_set.export(tmp_path, "huggingface")
    with pytest.raises(TypeError, match="no entry 'licence'"):
        given_set.export(tmp_path, "huggingface", licence="x")
    with pytest.raises(ValueError, match="a single line of text"):
        given_set.export(tmp_path, "huggingface", license="x\ntags: y")


def test_what_export_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"one of mtt, dc.*export_ddranking"):
        sets()["hard"].export(tmp_path, "tesla")
    with pytest.raises(TypeError, match="`license` requires"):
        sets()["hard"].export(tmp_path, license="x")
    sets()["step size"].export(tmp_path)
    sets()["hard"].export(tmp_path)
    assert read(tmp_path).step_size is None


def test_to_torch():
    for kind, given_set in sets().items():
        images, labels = given_set.to_torch().tensors
        np.testing.assert_array_equal(images.permute(0, 2, 3, 1), X)
        if kind in ("soft", "targets"):
            rows = given_set.probabilities if kind == "soft" else given_set.targets
            np.testing.assert_array_equal(labels, rows)
            labels = given_set.to_torch(soft=False).tensors[1]
        assert labels.tolist() == Y.tolist()
        labels += 1
        images += 1
    np.testing.assert_array_equal(sets()["hard"].X, X)
    gray = SyntheticSet(X[..., :1].copy(), Y.numpy())
    gray.to_torch().tensors[0][:] = 7
    np.testing.assert_array_equal(gray.X, X[..., :1])


def test_image_folder(tmp_path):
    pixels = np.round(255 * rng.uniform(size=(3, 4, 5, 3)))
    given_set = SyntheticSet(pixels, ["a/b", "c", "c"], 0.1)
    with pytest.warns(UserWarning, match=r"\['a_b'\]; nor `step_size`"):
        given_set.to_image_folder(tmp_path / "set", value_range=(0, 255))
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert names == ["set/a_b/0000.png", "set/c/0000.png", "set/c/0001.png"]
    picture = np.asarray(Image.open(tmp_path / "set" / "c" / "0001.png"))
    np.testing.assert_array_equal(picture, pixels[2])
    with pytest.raises(FileExistsError, match="new or empty folder"):
        given_set.to_image_folder(tmp_path / "set")
    with pytest.raises(ValueError, match="cannot be used as names of folders"):
        SyntheticSet(X[:2], ["a/b", "a_b"]).to_image_folder(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    names = ["a" + "\N{GREEK SMALL LETTER ALPHA}" * 300, "b" * 250]
    with pytest.warns(UserWarning, match="the names of classes but as"):
        SyntheticSet(X[:2], names).to_image_folder(tmp_path / "long")
    found = sorted(path.name for path in (tmp_path / "long").iterdir())
    assert found == [names[0][:100], names[1][:200]]
    with pytest.raises(ValueError, match="cannot be used as names of folders"):
        SyntheticSet(X[:2], ["b" * 300, "b" * 301]).to_image_folder(tmp_path / "same")


# A small collection


def test_parts_of_a_set():
    given_set = sets()["names"]
    same(given_set["b"], SyntheticSet(X[2:4], ["b", "b"], 0.5))
    same(given_set.of_class("c"), given_set[[4, 5]])
    same(given_set[["a", "c"]], given_set[given_set.y != "b"])
    same(given_set[1:3], given_set[[1, 2]])
    same(given_set[-1], SyntheticSet(X[5:], ["c"], 0.5))
    same(given_set[np.array([], int)], given_set[:0])
    assert len(given_set[[]]) == 0
    assert sets()["gaps"].of_class(5).y.tolist() == [5, 5]
    images, labels = given_set
    assert images is given_set.X
    assert labels is given_set.y
    np.testing.assert_array_equal(np.asarray(given_set), X)
    assert np.asarray(given_set, dtype=np.float64).dtype == np.float64
    for key, error in (("d", KeyError), (["a", "d"], KeyError), (9, IndexError)):
        with pytest.raises(error):
            given_set[key]
    for key in (True, None, 1.5, (0, 1), [[0]], [["a"]], ..., {0: 1}):
        with pytest.raises(TypeError, match="can be indexed by"):
            given_set[key]
    with pytest.raises(KeyError, match=r"no class 'd'; it has 'a', 'b', 'c'"):
        given_set.of_class("d")
    # As many labels as images would be compared one by one.
    for labels in (["a", "b"], given_set.y):
        with pytest.raises(TypeError, match=r"`label` must be a single.*np\.isin"):
            given_set.of_class(labels)


def test_soft_labels_of_parts():
    given_set = sets()["soft"]
    part = given_set[::-1]
    np.testing.assert_array_equal(part.probabilities, given_set.probabilities[::-1])
    with pytest.warns(UserWarning, match="`probabilities` are dropped.*1 of the 3"):
        assert given_set.of_class(1).probabilities is None


def test_concat():
    one = SyntheticSet(X[:2], ["a", "b"], 0.1, {"by": "me", "n": "1"})
    two = SyntheticSet(X[2:4], ["b", "c"], 0.1, {"by": "me", "n": "2"})
    whole = SyntheticSet.concat([one, two])
    same(whole, SyntheticSet(X[:4], list("abbc"), 0.1))
    assert whole.metadata == {"by": "me"}
    for part in (one, two):
        part.metadata = {"losses": np.zeros(3), "seeds": np.arange(len(part.metadata))}
    two.metadata["seeds"] = np.arange(3)
    assert list(SyntheticSet.concat([one, two]).metadata) == ["losses"]
    soft = SyntheticSet(X[4:], ["c", "b"], probabilities=[[0.25, 0.75], [0.5, 0.5]])
    with pytest.warns(UserWarning, match="different step sizes"):
        whole = SyntheticSet.concat([one, soft])
    assert whole.step_size is None
    np.testing.assert_array_equal(
        whole.probabilities, [[1, 0, 0], [0, 1, 0], [0, 0.25, 0.75], [0, 0.5, 0.5]]
    )
    targets = sets()["targets"]
    whole = SyntheticSet.concat([targets, targets])
    np.testing.assert_array_equal(whole.targets, np.tile(targets.targets, (2, 1)))
    large = [
        SyntheticSet(np.kron(np.eye(12 // n), np.ones((n, n)))[None, ..., None], [0])
        for n in (4, 6)
    ]
    for part, size in zip(large, (4, 6), strict=True):
        part.pixel_size = size
    assert SyntheticSet.concat(large).pixel_size == 2
    for other, message in (
        (SyntheticSet(X[:, :4], Y.numpy()), "images of shape"),
        (SyntheticSet(X[:2], [0, 1]), "labels that are"),
        (sets()["targets"], "labels that are|regression targets"),
    ):
        with pytest.raises(ValueError, match=message):
            SyntheticSet.concat([one, other])
    with pytest.raises(ValueError, match="got none"):
        SyntheticSet.concat([])
    with pytest.raises(TypeError, match="number 1 is a tuple"):
        SyntheticSet.concat([one, (X, Y)])


def test_true_is_not_the_class_1():
    sets = [SyntheticSet(X[:2], y) for y in ([0, 1], [False, True])]
    with pytest.raises(ValueError, match="labels that are: booleans, for set number 0"):
        SyntheticSet.concat(sets)


def test_concat_of_two_pixel_spaces():
    def of(scale):
        space = np.array([[0.0] * 3, [scale] * 3, [0.5] * 3])
        return SyntheticSet(X, Y.numpy(), pixel_space=space)

    whole = SyntheticSet.concat([of(1), of(1.1)])
    np.testing.assert_array_equal(whole.pixel_space.deviation, 1)
    with pytest.warns(UserWarning, match="number 1 is in a different pixel space"):
        assert SyntheticSet.concat([of(1), of(50)]).pixel_space is None


def test_views_with_the_other_sign(tmp_path):
    path = tmp_path / "set.pt"
    images = torch.view_as_complex(torch.randn(2, 3, 8, 8, 2)).conj().imag
    assert images.is_neg()
    torch.save((images, torch.arange(2)), path)
    expected = images.resolve_neg().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(read(path).X, expected)
