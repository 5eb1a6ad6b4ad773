"""Files of ``torch.save`` as arrays, read without PyTorch and without unpickling.

An unpickler, even one that admits few names, does what a file says, however much
memory or time that takes.  Here the few operations that tensors, arrays, numbers and
containers of them are written with are carried out one by one, on values that cannot
be larger than the file.
"""

import pickletools
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skdistill.utils._untrusted import errors_as_value_errors

# Text of accuracies and names beside the tensors, whose values are elsewhere; some sets
# have arrays of NumPy in it.
_MAX_PICKLE_BYTES = 2**24
_MAX_OPERATIONS = 2**18
_MAX_AXES = 16

_STORAGES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": "bfloat16",
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# Operations that put what they carry onto the stack.
_VALUES = {
    *("BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BININT", "BININT1", "BININT2"),
    *("LONG1", "INT", "LONG", "BINFLOAT", "FLOAT", "BINBYTES", "SHORT_BINBYTES"),
    *("BINSTRING", "SHORT_BINSTRING"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name(NamedTuple):
    """Something that a file names, such as a function; nothing is imported."""

    text: str


class _Mark:
    """Where the parts of a container begin."""


class _Dtype:
    """A type of NumPy."""

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str) or len(text) > 8:
            raise ValueError(f"it has a type {text!r:.60}")
        self.dtype = np.dtype(text)
        if self.dtype.kind not in "biuf":
            raise ValueError(f"it has values of type {self.dtype}, not numbers")


class _Array:
    """An array of NumPy, as long as its content is not known, and then."""

    value: np.ndarray | None = None


def read_torch(path: Path) -> Any:
    """Read what ``torch.save`` wrote of tensors, arrays and numbers.

    Parameters
    ----------
    path : Path
        The file, in the format of PyTorch 1.6 and later.

    Returns
    -------
    value : object
        As it was saved, tensors and NumPy's scalars as arrays that cannot be written
        to, in lists, tuples and dicts.  Numbers of bfloat16 become float32.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds anything else; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with errors_as_value_errors(f"{path} cannot be read: {{error}}"):
        if not zipfile.is_zipfile(path):
            raise ValueError(
                "it is not a file of torch.save, or was written by PyTorch before "
                "1.6; if so, and if you trust it, load it and save it again"
            )
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            pickles = [m for m in members if _base(m.filename) == "data.pkl"]
            if any(m.compress_type != zipfile.ZIP_STORED for m in members):
                raise ValueError("it is compressed, which torch.save does not do")
            if len(pickles) != 1:
                raise ValueError("it is not a file of torch.save: it has no data.pkl")
            if pickles[0].file_size > _MAX_PICKLE_BYTES:
                raise ValueError(
                    f"its data.pkl has more than {_MAX_PICKLE_BYTES} bytes; tensors, "
                    "arrays and numbers have less"
                )
            prefix = pickles[0].filename.removesuffix("data.pkl")
            order = f"{prefix}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise ValueError("its numbers are big-endian")
            return _Reader(
                archive.read(pickles[0]),
                lambda key: archive.read(f"{prefix}data/{key}"),
            ).read()


def _base(name: str) -> str:
    return name.rpartition("/")[2]


class _Reader:
    """The operations of a pickle, of which few are admitted.

    Parameters
    ----------
    content : bytes
        The pickle.
    storage : callable of str to bytes
        What a tensor's numbers are in.
    """

    def __init__(self, content: bytes, storage: Callable[[str], bytes]) -> None:
        self._content = content
        self._read_storage = storage
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, np.ndarray] = {}
        self._n_encoded = 0

    def read(self) -> Any:
        for place, (operation, argument, _) in enumerate(
            pickletools.genops(self._content)
        ):
            if place > _MAX_OPERATIONS:
                raise ValueError("it has more parts than a distilled set can have")
            if operation.name == "STOP":
                break
            self._do(operation.name, argument)
        (value,) = self._stack
        return _finished(value)

    def _do(self, name: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        if name in ("PROTO", "FRAME"):
            return
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "MARK":
            stack.append(_Mark())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(argument)])
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name == "LIST":
            stack.append(self._since_mark())
        elif name in _TUPLES:
            parts = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(parts)))
        elif name in ("APPEND", "APPENDS"):
            parts = [stack.pop()] if name == "APPEND" else self._since_mark()
            _of(stack[-1], list).extend(parts)
        elif name in ("SETITEM", "SETITEMS"):
            parts = self._since_mark() if name == "SETITEMS" else self._pop(2)
            for key, value in zip(parts[::2], parts[1::2], strict=True):
                _of(stack[-1], dict)[_key(key)] = value
        elif name == "GLOBAL":
            stack.append(_Name(str(argument).replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            module, attribute = self._pop(2)
            stack.append(_Name(f"{_of(module, str)}.{_of(attribute, str)}"))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            called, arguments = self._pop(2)
            stack.append(_call(_of(called, _Name).text, _of(arguments, tuple)))
            if isinstance(stack[-1], bytes):
                # One text may be encoded many times.
                self._n_encoded += len(stack[-1])
                if self._n_encoded > _MAX_PICKLE_BYTES:
                    raise ValueError(
                        "its arrays are larger than the content of the file"
                    )
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        else:
            raise ValueError(
                f"it has {name}, which does not occur in tensors, arrays and numbers"
            )

    def _pop(self, n: int) -> list[Any]:
        parts = self._stack[-n:]
        del self._stack[-n:]
        return parts

    def _since_mark(self) -> list[Any]:
        parts = []
        while not isinstance(self._stack[-1], _Mark):
            parts.append(self._stack.pop())
        self._stack.pop()
        return parts[::-1]

    def _storage(self, what: Any) -> np.ndarray:
        kind, storage_type, key = _of(what, tuple)[:3]
        text = _base(_of(storage_type, _Name).text.replace(".", "/"))
        if kind != "storage" or text not in _STORAGES:
            raise ValueError(f"it has a tensor in {storage_type.text!r:.60}")
        key = _of(key, str)
        if key not in self._storages:
            dtype = _STORAGES[text]
            packed = np.uint16 if dtype == "bfloat16" else dtype
            values = np.frombuffer(self._read_storage(key), packed)
            if dtype == "bfloat16":
                values = (values.astype(np.uint32) << 16).view(np.float32)
            self._storages[key] = values
        return self._storages[key]


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(
            f"it has a {type(value).__name__} where a {kind.__name__} belongs"
        )
    return value


def _key(key: Any) -> Any:
    # Containers that hold each other many times would take forever to hash.
    if isinstance(key, (str, int, float)):
        return key
    raise ValueError(f"it has a {type(key).__name__} as the key of a dict")


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    """Do what a file wants called, if that makes a tensor, an array or a number."""
    if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        found = _tensor(*arguments[:4])
        # That of a view with the other sign, as the imaginary part of a conjugate is.
        details = arguments[6] if len(arguments) > 6 else None
        return -found if isinstance(details, dict) and details.get("neg") else found
    if name == "torch._utils._rebuild_parameter":
        return _of(arguments[0], np.ndarray)
    if name == "torch.Size":
        return tuple(_of(arguments[0], tuple))
    if name == "collections.OrderedDict" and not arguments:
        return {}
    if name == "numpy.dtype":
        return _Dtype(arguments[0])
    if name == "_codecs.encode":
        text, encoding = arguments
        if encoding != "latin1":
            raise ValueError(f"it has text in {encoding!r:.20}")
        return _of(text, str).encode("latin1")
    module, _, function = name.rpartition(".")
    if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        if function == "scalar":
            dtype, content = arguments
            return _from_bytes(_of(dtype, _Dtype).dtype, content, ())
        if function == "_reconstruct" and arguments[0] == _Name("numpy.ndarray"):
            return _Array()
    raise ValueError(
        f"it requests a call of {name!r:.80}, which no tensor, array or number needs; "
        "nothing was executed"
    )


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
    storage = _of(storage, np.ndarray)
    numbers = [offset, *_of(shape, tuple), *_of(strides, tuple)]
    if (
        not all(type(number) is int and number >= 0 for number in numbers)
        or len(shape) != len(strides)
        or len(shape) > _MAX_AXES
    ):
        raise ValueError("it has a tensor with an invalid shape")
    if prod(shape) > storage.size:
        raise ValueError("its tensor is larger than the content of the file")
    if prod(shape):
        last = offset + sum(
            (size - 1) * step for size, step in zip(shape, strides, strict=True)
        )
        if last >= storage.size:
            raise ValueError("its tensor extends beyond the content of the file")
    size = storage.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [step * size for step in strides], writeable=False
    )


def _build(value: Any, state: Any) -> None:
    """Give an array or a type the rest of what it is."""
    if isinstance(value, _Dtype):
        if _of(state, tuple)[1] not in ("<", "|", "="):
            raise ValueError("its numbers are big-endian")
    elif isinstance(value, _Array):
        _, shape, dtype, is_fortran, content = _of(state, tuple)
        value.value = _from_bytes(
            _of(dtype, _Dtype).dtype, content, _of(shape, tuple), is_fortran is True
        )
    elif not isinstance(value, dict):
        raise ValueError(f"it has a state of a {type(value).__name__}")


def _from_bytes(
    dtype: np.dtype, content: Any, shape: tuple[Any, ...], is_fortran: bool = False
) -> np.ndarray:
    values = np.frombuffer(_of(content, bytes), dtype)
    if not all(type(size) is int and size >= 0 for size in shape) or (
        len(shape) > _MAX_AXES or prod(shape) != values.size
    ):
        raise ValueError("it has an array whose size differs from its content")
    return values.reshape(shape, order="F" if is_fortran else "C")


def _finished(value: Any) -> Any:
    """Return a value with arrays in place of what they were made from.

    Each container is gone through once, and only a few levels deep: a file can have one
    in itself.
    """
    seen: dict[int, Any] = {}

    def finish(value: Any, depth: int) -> Any:
        if isinstance(value, _Array):
            if value.value is None:
                raise ValueError("it has an array without content")
            return value.value
        if isinstance(value, (_Name, _Mark, _Dtype)):
            raise ValueError(f"it has a {type(value).__name__.strip('_').lower()}")
        if not isinstance(value, (list, tuple, dict)):
            return value
        if depth > 8:
            raise ValueError("it is nested deeper than a distilled set can be")
        if id(value) not in seen:
            seen[id(value)] = (
                {name: finish(part, depth + 1) for name, part in value.items()}
                if isinstance(value, dict)
                else type(value)(finish(part, depth + 1) for part in value)
            )
        return seen[id(value)]

    return finish(value, 0)
