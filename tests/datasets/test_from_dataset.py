"""Data sets of PyTorch and of Hugging Face, and lists of pictures."""

import io
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    Subset,
    TensorDataset,
)

from skdistill import (
    RandomSubset,
    from_huggingface,
    from_pil_images,
    from_torch_dataset,
    load_image_folder,
)

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 5, 8, 3), dtype=np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]
NAMES = ["edge-on", "smooth", "spiral"]


class Pairs(torch.utils.data.Dataset):
    def __init__(self, images, labels=LABELS, classes=None):
        self.images, self.labels = images, labels
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


PICTURES = [Image.fromarray(image) for image in PIXELS]
TENSORS = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    "images",
    [PICTURES, TENSORS, PIXELS, list(TENSORS.requires_grad_(False)), PIXELS.tolist()],
    ids=["PIL", "tensors", "arrays", "list", "nested lists"],
)
def test_images_of_any_kind(images):
    found = from_torch_dataset(Pairs(images, classes=NAMES), verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS)
    assert found.target.tolist() == [NAMES[label] for label in LABELS]
    assert found.target_names == NAMES
    X, y = from_torch_dataset(Pairs(images), return_X_y=True, verbose=0)
    assert y.tolist() == LABELS
    assert y.dtype == np.int64
    assert len(RandomSubset(random_state=0).fit(X, y).synthetic_.X) == 3


def test_map(tmp_path):
    out = tmp_path / "X.npy"
    found = from_torch_dataset(Pairs(PICTURES), out=out, verbose=0)
    assert isinstance(found.data, np.memmap)
    np.testing.assert_array_equal(np.load(out), PIXELS)
    # Not resumed, as nothing tells whether another data set is the same.
    from_torch_dataset(Pairs(PICTURES[::-1]), out=out, verbose=0)
    np.testing.assert_array_equal(np.load(out), PIXELS[::-1])


def test_floats_and_other_types():
    scaled = TENSORS.float() / 255
    X = from_torch_dataset(TensorDataset(scaled, torch.tensor(LABELS)), verbose=0).data
    assert X.dtype == np.float32
    np.testing.assert_allclose(X, PIXELS / 255, rtol=1e-6)
    X = from_torch_dataset(Pairs(scaled.bfloat16()), verbose=0).data
    assert X.dtype == np.float32
    X = from_torch_dataset(Pairs(TENSORS[:, 0]), verbose=0).data
    np.testing.assert_array_equal(X, PIXELS[..., :1])


def test_random_items_are_asked_for_once():
    asked = []

    class Counting(Pairs):
        def __getitem__(self, i):
            asked.append(i)
            return super().__getitem__(i)

    from_torch_dataset(Counting(PICTURES), verbose=0)
    assert sorted(asked) == list(range(6))


def test_axes_against_the_rule_are_told():
    with pytest.warns(UserWarning, match="6 of 6 images are tensors whose last axis"):
        X = from_torch_dataset(Pairs(torch.from_numpy(PIXELS)), verbose=0).data
    np.testing.assert_array_equal(X, PIXELS)
    with pytest.warns(UserWarning, match="6 of 6 images are arrays whose first axis"):
        X = from_torch_dataset(Pairs(TENSORS.numpy()), verbose=0).data
    np.testing.assert_array_equal(X, PIXELS)


def test_names_of_parts(tmp_path):
    whole = Pairs(PICTURES, classes=NAMES)
    part = Subset(Subset(whole, [0, 1, 3, 5]), [1, 3])
    assert from_torch_dataset(part, verbose=0).target.tolist() == ["smooth", "spiral"]
    both = ConcatDataset([whole, whole])
    assert from_torch_dataset(both, verbose=0).target_names == NAMES
    other = Pairs(PICTURES, classes=NAMES[::-1])
    with pytest.raises(ValueError, match="parts with different classes"):
        from_torch_dataset(ConcatDataset([whole, other]), verbose=0)
    unnamed = ConcatDataset([whole, Pairs(PICTURES)])
    assert from_torch_dataset(unnamed, verbose=0).target_names == [0, 1, 2]
    numbers = Pairs(PICTURES)
    numbers.class_to_idx = {"b": 1, "a": 0, "c": 2}
    assert from_torch_dataset(numbers, verbose=0).target_names == ["a", "b", "c"]
    # Numbers tell the order, whatever the order of the names.
    numbers.classes = ["c", "b", "a"]
    assert from_torch_dataset(numbers, verbose=0).target.tolist() == list("abcabc")
    synonyms = Pairs(PICTURES, classes=[("tench", "Tinca"), ("crane",), ("x",)])
    assert from_torch_dataset(synonyms, verbose=0).target[0] == "tench, Tinca"
    with pytest.warns(UserWarning, match="found the label 2. The numbers are kept"):
        found = from_torch_dataset(Pairs(PICTURES, classes=NAMES[:2]), verbose=0)
    assert found.target.tolist() == LABELS


class Around(torch.utils.data.Dataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        image, label = self.dataset[i]
        return image, int(label == 2)


def test_names_are_not_given_to_labels_that_were_changed():
    whole = Pairs(PICTURES, classes=NAMES)
    changed = Around(whole)
    transformed = Pairs(PICTURES, [1, 0, 0] * 2, classes=NAMES)
    transformed.target_transform = lambda label: 2 - label
    for dataset, why in (
        (changed, r"the Around around a Pairs may have.* attribute `classes`"),
        (Subset(changed, range(6)), "the Around around a Pairs may have"),
        (ConcatDataset([whole, changed]), "the Around around a Pairs may have"),
        (transformed, "the `target_transform` of the Pairs may have"),
        (Around(transformed), "the `target_transform` of the Pairs may have"),
    ):
        with pytest.warns(UserWarning, match=f"numbers, without the names.*{why}"):
            X, y = from_torch_dataset(dataset, return_X_y=True, verbose=0)
        assert y.tolist() == [dataset[i][1] for i in range(len(X))]
    # Names of its own, or labels that are names already, are not in doubt.
    changed.classes = ["other", "spiral"]
    found = from_torch_dataset(changed, verbose=0)
    assert found.target.tolist() == ["other", "other", "spiral"] * 2
    texts = Around(Pairs(PICTURES, classes=NAMES))
    texts.__class__ = type("Texts", (Around,), {"__getitem__": lambda s, i: TEXTS[i]})
    assert from_torch_dataset(texts, verbose=0).target_names == ["a", "b"]


TEXTS = list(zip(PICTURES, "ababab", strict=True))


@pytest.mark.parametrize(
    ("shape", "is_tensor"), [((5, 9, 9), False), ((9, 9, 5), True)]
)
def test_axes_that_may_be_others_are_told(shape, is_tensor):
    images = np.zeros((6, *shape))
    with pytest.warns(UserWarning, match="axis is treated as the channels, although"):
        from_torch_dataset(
            Pairs(torch.from_numpy(images) if is_tensor else images), verbose=0
        )
    # In the usual order, or of sides that tell nothing.
    for usual in (np.zeros((6, *shape[::-1])), np.zeros((6, 7, 7, 7))):
        given = torch.from_numpy(usual) if is_tensor else usual
        from_torch_dataset(Pairs(given), verbose=0)


def test_torchvision_agrees_with_load_image_folder(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    for i, label in enumerate(LABELS):
        (tmp_path / NAMES[label]).mkdir(exist_ok=True)
        PICTURES[i].save(tmp_path / NAMES[label] / f"{i}.png")
    theirs = from_torch_dataset(
        torchvision.datasets.ImageFolder(tmp_path), verbose=0, return_X_y=True
    )
    ours = load_image_folder(tmp_path, verbose=0, return_X_y=True)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(one, other)


# Labels.


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (torch.tensor(LABELS), LABELS),
        (torch.tensor(LABELS)[:, None], LABELS),
        (np.array(LABELS, dtype=float), LABELS),
        (torch.tensor(LABELS).bfloat16(), LABELS),
        ([NAMES[i] for i in LABELS], [NAMES[i] for i in LABELS]),
        ([True, False] * 3, [True, False] * 3),
    ],
)
def test_labels(labels, expected):
    assert from_torch_dataset(Pairs(PICTURES, labels), verbose=0).target.tolist() == (
        expected
    )


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "must be a string or an integer; got None"),
        ("", "the label is missing: it is ''"),
        (np.ma.masked, "the label is masked"),
        (0.5, "got 0.5"),
        (float("nan"), "got nan"),
        (torch.eye(3)[0], r"shape \(3,\)\. Convert one-hot"),
        ({"boxes": []}, "got {'boxes'"),
    ],
)
def test_label_that_is_none(label, message):
    labels = [*LABELS[:4], label, 0]
    with pytest.raises(ValueError, match=rf"dataset\[4\] cannot be read: .*{message}"):
        from_torch_dataset(Pairs(PICTURES, labels), verbose=0)
    with pytest.raises(ValueError, match=rf"labels\[4\]: .*{message}"):
        from_pil_images(PICTURES, labels, verbose=0)


# What is wrong is named.


def test_wrong_item_is_named():
    small = [*PICTURES[:3], PICTURES[3].resize((4, 4)), *PICTURES[4:]]
    with pytest.raises(
        ValueError, match=r"dataset\[3\] is an image of shape \(4, 4, 3"
    ):
        from_torch_dataset(Pairs(small), verbose=0)
    assert from_torch_dataset(Pairs(small), size=4, verbose=0).data.shape[1:3] == (4, 4)
    types = [*TENSORS[:5], TENSORS[5].float()]
    with pytest.raises(
        ValueError, match=r"dataset\[5\] .* float32; the first .* uint8"
    ):
        from_torch_dataset(Pairs(types), verbose=0)

    class Broken(Pairs):
        def __getitem__(self, i):
            if i == 2:
                raise OSError("disk is gone")
            return super().__getitem__(i)

    with pytest.raises(ValueError, match=r"dataset\[2\] cannot be read: disk is gone"):
        from_torch_dataset(Broken(PICTURES), verbose=0)
    for image, message in (
        (None, "None"),
        ("a.png", "use load_image_folder"),
        (np.zeros(5), r"its shape is \(5,\)"),
        (object(), "Pillow image, a tensor or an array"),
    ):
        with pytest.raises(
            ValueError, match=rf"dataset\[0\] cannot be read: .*{message}"
        ):
            from_torch_dataset(Pairs([image] * 6), verbose=0)


def test_modes_in_a_data_set():
    mixed = [PICTURES[0], PICTURES[1].convert("L"), *PICTURES[2:]]
    with pytest.warns(UserWarning, match=r"1 of 6 images are gray.*dataset\[1\]"):
        X = from_torch_dataset(Pairs(mixed), verbose=0).data
    assert X.shape[-1] == 3
    gray_first = [mixed[1], *mixed[2:], mixed[0]]
    with pytest.raises(ValueError, match=r"dataset\[1\] .* `mode='RGB'` or `mode='L'`"):
        from_torch_dataset(Pairs(gray_first), verbose=0)
    X = from_torch_dataset(Pairs(gray_first), mode="RGB", verbose=0).data
    assert X.shape[-1] == 3
    with pytest.raises(ValueError, match="is for Pillow images"):
        from_torch_dataset(Pairs(TENSORS), mode="L", verbose=0)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(PICTURES, LABELS, strict=True))


class SizedStream(Stream):
    def __len__(self):
        return len(PICTURES)


@pytest.mark.parametrize(
    ("thing", "error", "message"),
    [
        (DataLoader(Pairs(TENSORS)), TypeError, "pass its `.dataset`"),
        (Stream(), TypeError, r"pass list\(dataset\)"),
        (SizedStream(), TypeError, r"got SizedStream.*pass list\(dataset\)"),
        ((TENSORS, torch.tensor(LABELS)), ValueError, r"list\(zip\(images, labels"),
        (iter(PICTURES), TypeError, r"pass list\(dataset\)"),
        (Pairs, TypeError, "got the class Pairs"),
        ("data", TypeError, "must have a length and support indexing"),
        (pd.DataFrame({"image": [1]}), TypeError, "or use load_image_folder"),
        (pl.DataFrame({"image": [1]}), TypeError, "or use load_image_folder"),
        ({"train": Pairs(PICTURES)}, TypeError, r"with \['train'\]: pass one"),
        ([], ValueError, "it is empty"),
        (PICTURES, ValueError, r"dataset\[0\] .* pair \(image, label\); it is a Image"),
        (TensorDataset(TENSORS, *2 * [torch.tensor(LABELS)]), ValueError, "of 3 elem"),
        ([{"a": 1, "b": 2}], ValueError, r"one image; it is a dict with \['a', 'b'\]"),
    ],
)
def test_no_data_set(thing, error, message):
    with pytest.raises(error, match=message):
        from_torch_dataset(thing, verbose=0)


def test_lists_and_dicts():
    found = from_torch_dataset(list(Stream()), verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS)
    dicts = [{"image": i, "label": k, "id": 3} for i, k in Stream()]
    np.testing.assert_array_equal(from_torch_dataset(dicts, verbose=0).data, PIXELS)


# Hugging Face.


class Value:
    pass


class ClassLabel:
    names = NAMES


class FakeDataset:
    """What of datasets.Dataset is used."""

    def __init__(self, columns, features):
        self._columns, self.features = columns, features
        self.column_names = list(columns)

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __getitem__(self, i):
        return {name: values[i] for name, values in self._columns.items()}


def as_bytes(picture):
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=True)
    return {"bytes": file.getvalue(), "path": None}


def fake(images=PICTURES, labels=LABELS, label_feature=ClassLabel, **others):
    image_feature = type("Image", (), {})
    columns = {"img": images, "label": labels} | others
    features = {"img": image_feature(), "label": label_feature()}
    return FakeDataset(columns, features | dict.fromkeys(others, Value()))


@pytest.mark.parametrize("read", [from_huggingface, from_torch_dataset])
@pytest.mark.parametrize("images", [PICTURES, TENSORS, [as_bytes(p) for p in PICTURES]])
def test_huggingface(read, images):
    found = read(fake(images), verbose=0)
    np.testing.assert_array_equal(found.data, PIXELS)
    assert found.target.tolist() == [NAMES[label] for label in LABELS]


def test_columns_of_huggingface():
    with pytest.warns(UserWarning, match="'label' is used as the labels"):
        found = from_huggingface(fake(label_feature=Value), verbose=0)
    assert found.target.tolist() == LABELS
    other = fake(score=LABELS[::-1])
    found = from_huggingface(other, label_column="score", verbose=0)
    assert found.target.tolist() == LABELS[::-1]
    other.features["score"] = ClassLabel()
    with pytest.raises(ValueError, match=r"`label_column` must name.*'score'"):
        from_huggingface(other, verbose=0)
    with pytest.raises(ValueError, match=r"`image_column='x'` must be one of"):
        from_huggingface(other, image_column="x", verbose=0)
    with pytest.raises(
        ValueError, match=r"dataset\[1\] .* -1, which means that it is missing"
    ):
        from_huggingface(fake(labels=[0, -1, 0, 0, 0, 0]), verbose=0)
    with pytest.raises(TypeError, match=r"a single split; got a dict with \['train'\]"):
        from_huggingface({"train": fake()}, verbose=0)
    with pytest.raises(TypeError, match="got Pairs"):
        from_huggingface(Pairs(PICTURES), verbose=0)


def test_real_huggingface():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    )
    real = datasets.Dataset.from_dict(
        {"image": PICTURES, "label": LABELS}, features=features
    )
    for form in (None, "numpy", "torch"):
        found = from_huggingface(real.with_format(form), verbose=0)
        np.testing.assert_array_equal(found.data, PIXELS)
        assert found.target.tolist() == [NAMES[label] for label in LABELS]
    raw = real.cast_column("image", datasets.Image(decode=False))
    np.testing.assert_array_equal(from_huggingface(raw, verbose=0).data, PIXELS)
    with pytest.raises(TypeError, match="one data set; got a DatasetDict"):
        from_torch_dataset(datasets.DatasetDict(train=real), verbose=0)
    with pytest.raises(TypeError, match="must have a length and support indexing"):
        from_huggingface(real.to_iterable_dataset(), verbose=0)


# Lists of pictures.


def test_pictures(tmp_path):
    X, y = from_pil_images(PICTURES, LABELS, return_X_y=True, verbose=0)
    np.testing.assert_array_equal(X, PIXELS)
    assert y.tolist() == LABELS
    found = from_pil_images(PICTURES, out=tmp_path / "X.npy", verbose=0)
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), PIXELS)
    assert "target" not in found
    mixed = [PICTURES[0].convert("L"), *PICTURES[1:]]
    with pytest.warns(UserWarning, match=r"1 of 6 .*gray, the first pictures\[0\]"):
        assert from_pil_images(mixed, verbose=0).data.shape[-1] == 3
    palettes = [p.convert("P") for p in PICTURES]
    np.testing.assert_array_equal(
        from_pil_images(palettes, verbose=0).data[0],
        np.asarray(palettes[0].convert("RGB")),
    )


@pytest.mark.parametrize(
    ("pictures", "error", "message"),
    [
        (PICTURES[0], TypeError, "pass a list"),
        ([], ValueError, "it is empty"),
        ([*PICTURES[:2], PIXELS[0]], TypeError, r"pictures\[2\] is a ndarray"),
        (
            [*PICTURES[:2], PICTURES[2].resize((3, 3))],
            ValueError,
            r"\[2\] has 3 x 3 pi",
        ),
        ([Image.new("I", (3, 3))], ValueError, r"pictures\[0\]: mode 'I' has more"),
        ([*PICTURES[:2], Image.new("F", (8, 5))], ValueError, r"\[2\] is gray of fl"),
    ],
)
def test_no_pictures(pictures, error, message):
    with pytest.raises(error, match=message):
        from_pil_images(pictures, verbose=0)
    with pytest.raises(ValueError, match="one label for each of the 6 pictures; got 2"):
        from_pil_images(PICTURES, [0, 1], verbose=0)


@pytest.mark.parametrize("column", [LABELS, [NAMES[i] for i in LABELS]])
def test_labels_of_pictures_in_a_table(column):
    for table in (pd.DataFrame({"class": column}), pl.DataFrame({"class": column})):
        assert from_pil_images(PICTURES, table, verbose=0).target.tolist() == column
    two = pd.DataFrame({"class": column, "other": column})
    with pytest.raises(ValueError, match=r"labels\[0\]: a label must be one class"):
        from_pil_images(PICTURES, two, verbose=0)


def test_masked_labels_of_pictures_are_refused():
    labels = np.ma.masked_array(LABELS, mask=np.arange(6) == 1)
    with pytest.raises(ValueError, match=r"labels is masked: 1 values in 1 of 6"):
        from_pil_images(PICTURES, labels, verbose=0)


@pytest.mark.parametrize("label", [2**63, 2**70, 1e300, -(2**63) - 1])
def test_numbers_of_more_than_64_bits_are_refused(label):
    labels = [*LABELS[:5], label]
    with pytest.raises(ValueError, match=r"from -2\*\*63 to 2\*\*63 - 1; got .* row 5"):
        from_pil_images(PICTURES, labels, verbose=0)
    # Beside a float a large integer keeps its last digits.
    kept = from_pil_images(PICTURES[:2], [2**62 + 1, 3.0], verbose=0).target
    assert kept.tolist() == [2**62 + 1, 3]


def test_orientation_is_told_in_every_mode():
    turned = Image.Exif()
    turned[274] = 6
    contents = []
    for deep in (False, True):
        gray = PIXELS[0, ..., 0]
        image = Image.fromarray(gray.astype(np.uint16) if deep else gray)
        file = io.BytesIO()
        image.save(file, "PNG", exif=turned)
        contents.append(file.getvalue())
    for content, mode in zip(
        [contents[0], contents[0], contents[0], contents[0], contents[1]],
        ["auto", "L", "RGB", "RGBA", "auto"],
        strict=True,
    ):
        with pytest.warns(UserWarning, match="2 of 2 images have an EXIF orientation"):
            from_torch_dataset([(content, 0), (content, 1)], mode=mode, verbose=0)


def test_labels_of_pictures_without_an_order_are_refused():
    with pytest.raises(TypeError, match=r"`?labels`? must hold a class label for each"):
        from_pil_images(PICTURES, dict(enumerate(LABELS)), verbose=0)
