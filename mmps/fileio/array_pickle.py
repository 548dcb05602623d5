"""Reads the arrays of a pickle, or of a file of ``torch.save``, without letting the file run code and without torch.

A pickle names the functions that rebuild its objects, and a malicious one names others. Here the few names that arrays
need stand for functions of this module, which only look at bytes; every other name is refused. Nor may a small file fill
the memory: what it holds, counted in every place where it holds it, must not be more numbers than the file has bytes.
"""

import io
import math
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np

ZIP_MAGIC = b'PK\x03\x04'
ALWAYS = 1 << 20  # numbers that even a smaller file may hold: one that names the same list in many places is smaller
DEPTH = 4  # of lists in lists; what a pickle holds in several places unfolds with every level
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # what a file of torch.save begins with, if it is not a zip (before torch 1.6)


def load_arrays(path: str | Path):
    """What a pickle holds: dicts, lists (tuples among them), text, numbers, and arrays (tensors among them).

    Accepts plain pickles of any protocol and both forms of ``torch.save``; tensors only in the newer one (zip).

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another file, or one that holds or calls something else.
    """
    with open(path, 'rb') as file:
        try:
            start, size = file.read(len(ZIP_MAGIC)), file.seek(0, io.SEEK_END)
            file.seek(0)
            if start == ZIP_MAGIC:
                value = _load_zip(zipfile.ZipFile(file), size)
            else:
                value = _Unpickler(file).load()
                if isinstance(value, int) and value == TORCH_MAGIC:  # version and machine come first, each a pickle
                    value = [_Unpickler(file).load() for _ in range(3)][-1]
            value = _plain(value, {})
            if _count(value, {}) > max(size, ALWAYS):
                raise pickle.UnpicklingError('it holds more numbers than its size allows')
            return value
        except Exception as error:  # a damaged pickle raises almost anything
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise ValueError(f'{path} cannot be read as a pickle of arrays: {reason}') from error


class _Array:
    """An array whose contents the pickle gives afterwards."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, contents = state
        self.array = _from_buffer(contents, dtype, shape, 'F' if is_fortran else 'C')


class _OrderedDict(dict):
    """Also takes what torch writes into the state of a module's weights, and drops it."""

    def __setstate__(self, state: object) -> None:
        pass


class _DType:
    """A type of numbers; another one is refused."""

    def __init__(self, name: str, *_) -> None:
        if not re.fullmatch(r'[<>=|]?[fiub][1248]', name):
            raise pickle.UnpicklingError(f'it has an array of type {name!r}, which are not numbers')
        self.numpy = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        self.numpy = self.numpy.newbyteorder(state[1])


def _new_array(*_) -> _Array:
    return _Array()


def _from_buffer(buffer: bytes, dtype: _DType, shape: tuple[int, ...], order: str, axes: tuple | None = None) -> np.ndarray:
    array = np.frombuffer(buffer, dtype.numpy)
    return array.reshape(shape).transpose(axes) if order == 'K' else array.reshape(shape, order=order)


def _scalar(dtype: _DType, contents: bytes) -> np.generic:
    return np.frombuffer(contents, dtype.numpy)[0]


def _encode(text: str, encoding: str) -> bytes:
    """How pickles before protocol 3 write bytes."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it has text in {encoding!r}')
    return text.encode('latin1')


def _no_bytes() -> bytes:
    return b''


def _tensor(storage: np.ndarray, start: int, shape: tuple[int, ...], strides: tuple[int, ...], *_) -> np.ndarray:
    last = start + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if min(start, *shape, *strides) < 0 or (math.prod(shape) and last >= len(storage)) or math.prod(shape) > len(storage):
        raise pickle.UnpicklingError('it has a tensor that is larger than its storage')
    strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[start:], shape, strides) if math.prod(shape) else np.zeros(shape)


STORAGES = {'HalfStorage': '<f2', 'FloatStorage': '<f4', 'DoubleStorage': '<f8', 'IntStorage': '<i4', 'LongStorage': '<i8'}
NAMES = {
    'numpy.ndarray': _Array,
    'numpy.dtype': _DType,
    **{
        f'numpy.{core}.{name}': function
        for core in ('core', '_core')
        for name, function in (
            ('multiarray._reconstruct', _new_array),
            ('multiarray.scalar', _scalar),
            ('numeric._frombuffer', _from_buffer),
        )
    },
    '_codecs.encode': _encode,
    'builtins.bytes': _no_bytes,
    '__builtin__.bytes': _no_bytes,
    'collections.OrderedDict': _OrderedDict,
    'torch._utils._rebuild_tensor_v2': _tensor,
    **{f'torch.{name}': dtype for name, dtype in STORAGES.items()},
}


class _Unpickler(pickle._Unpickler):
    """In Python: the one in C makes room for as many objects as the file says that it has, before it has read them."""

    def find_class(self, module: str, name: str):
        if f'{module}.{name}' not in NAMES:
            raise pickle.UnpicklingError(f'it names {module}.{name}, which no array needs; nothing was run')
        return NAMES[f'{module}.{name}']

    def persistent_load(self, pid):
        raise pickle.UnpicklingError('it has tensors, which can be read from a zip of torch.save only')

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], _Array | _DType | _OrderedDict):
            raise pickle.UnpicklingError(f'it changes what it names, a {type(self.stack[-2]).__name__}')
        super().load_build()

    def load_bytearray8(self) -> None:
        self.load_binbytes8()  # which takes no room before there are bytes

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8}


class _ZipUnpickler(_Unpickler):
    """Also takes the tensors' numbers, which lie in the zip as files of their own."""

    def __init__(self, archive: zipfile.ZipFile, pickled: str) -> None:
        super().__init__(io.BytesIO(archive.read(pickled)))
        self.archive = archive
        self.folder = pickled.removesuffix('data.pkl') + 'data/'
        self.storages: dict[str, bytes] = {}

    def persistent_load(self, pid: tuple) -> np.ndarray:
        _, dtype, key, *_ = pid
        if key not in self.storages:  # several tensors may share one
            self.storages[key] = self.archive.read(self.folder + key)
        return np.frombuffer(self.storages[key], dtype)


def _load_zip(archive: zipfile.ZipFile, size: int):
    pickled = [name for name in archive.namelist() if name.split('/')[-1] == 'data.pkl']
    if len(pickled) != 1:
        raise pickle.UnpicklingError('it is a zip, but not one of torch.save: it has no data.pkl')
    if sum(member.file_size for member in archive.infolist()) > size:
        raise pickle.UnpicklingError('it unpacks to more than its own size, as no file of torch.save does')
    return _ZipUnpickler(archive, pickled[0]).load()


def _plain(value, opened: dict[int, object], depth: int = 0):
    """``value`` with every ``_Array`` in it opened; what it holds in several places is opened once."""
    if isinstance(value, _Array):
        return value.array
    if not isinstance(value, dict | list | tuple):
        return value
    if depth > DEPTH:  # Python's own limit cannot be relied on: libraries raise it beyond what the stack holds
        raise pickle.UnpicklingError(f'it is nested more than {DEPTH} deep')
    if id(value) not in opened:
        if isinstance(value, dict):
            opened[id(value)] = {key: _plain(entry, opened, depth + 1) for key, entry in value.items()}
        else:
            opened[id(value)] = [_plain(entry, opened, depth + 1) for entry in value]
    return opened[id(value)]


def _count(value, counted: dict[int, int]) -> int:
    """The numbers in ``value``, those that it holds in several places once for each."""
    if isinstance(value, np.ndarray):
        return value.size
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in counted:
        counted[id(value)] = sum(_count(entry, counted) for entry in (value.values() if isinstance(value, dict) else value))
    return counted[id(value)]
