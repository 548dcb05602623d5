"""Reads the arrays in a pickle, or in a file of ``torch.save``. Nothing in the file is run, and torch is not needed.

A pickle names the functions that rebuild its objects; a malicious one names others. Here the few names that arrays need stand
for functions of this module, which only look at bytes. Every other name is refused. torch's own weights-only reader knows
neither plain pickles of Python 3 nor NumPy's big-endian types.

A small file must not fill the memory either. Its arrays and lists must not hold more numbers than the file has bytes, where
one that is in several places counts for each.
"""

import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ZIP_MAGIC = b'PK\x03\x04'
ALWAYS = 1 << 20  # numbers that even a smaller file may hold
DEPTH = 4  # of lists in lists
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # what a file of torch.save begins with, if it is not a zip (before torch 1.6)


def load_arrays(path: str | Path) -> Any:
    """Returns what a pickle holds: dicts, lists, tuples, text, numbers and NumPy arrays.

    Accepts plain pickles of any protocol and both forms of ``torch.save``.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is another file, or it holds or calls something else, tensors included. One line.
    """
    with open(path, 'rb') as file:
        try:
            start, size = file.read(len(ZIP_MAGIC)), file.seek(0, io.SEEK_END)
            file.seek(0)
            if start == ZIP_MAGIC:
                value = _Unpickler(io.BytesIO(_pickle_in_zip(zipfile.ZipFile(file), size))).load()
            else:
                value = _Unpickler(file).load()
                if isinstance(value, int) and value == TORCH_MAGIC:  # version and machine come first, each a pickle
                    value = [_Unpickler(file).load() for _ in range(3)][-1]
            if _count_numbers(value, {}) > max(size, ALWAYS):
                raise pickle.UnpicklingError('it holds more numbers than its size allows')
            return value
        except Exception as error:  # a damaged pickle raises almost anything
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise ValueError(f'{path} cannot be read as a pickle of arrays: {reason}') from error


def _pickle_in_zip(archive: zipfile.ZipFile, size: int) -> bytes:
    names = [name for name in archive.namelist() if name.split('/')[-1] == 'data.pkl']
    if len(names) != 1:
        raise pickle.UnpicklingError('it is a zip, but not one of torch.save: it has no data.pkl')
    if sum(member.file_size for member in archive.infolist()) > size:
        raise pickle.UnpicklingError('it unpacks to more than its own size, as no file of torch.save does')
    return archive.read(names[0])


def _count_numbers(value: Any, counted: dict[int, int], depth: int = 0) -> int:
    """How many numbers there are in ``value``; those that it holds in several places count once for each."""
    if isinstance(value, np.ndarray):
        return value.size
    if not isinstance(value, dict | list | tuple):
        return 1
    if depth > DEPTH:  # Python's own limit cannot be relied on: libraries raise it beyond what the stack holds
        raise pickle.UnpicklingError(f'it is nested more than {DEPTH} deep')
    if id(value) not in counted:
        entries = value.values() if isinstance(value, dict) else value
        counted[id(value)] = sum(_count_numbers(entry, counted, depth + 1) for entry in entries)
    return counted[id(value)]


class _DType:
    """Stands for ``numpy.dtype``, whose own objects a pickle can change; refuses types that are not numbers."""

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch(r'[<>=|]?[fiub][1248]', name):
            raise pickle.UnpicklingError(f'it has an array of type {name!r}, which are not numbers')
        self.numpy = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        self.numpy = self.numpy.newbyteorder(state[1])


class Array(np.ndarray):
    """An array whose contents the pickle gives afterwards."""

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, is_fortran, contents = state
        super().__setstate__((version, shape, dtype.numpy, is_fortran, contents))


def _new_array(*_: object) -> Array:
    return np.empty(0).view(Array)


def _from_buffer(
    buffer: bytes, dtype: _DType, shape: tuple[int, ...], order: Any, axes: tuple[int, ...] | None = None
) -> np.ndarray:
    if not isinstance(buffer, bytes | bytearray):  # the memory of another array may move when its contents come
        raise pickle.UnpicklingError(f'it has an array over a {type(buffer).__name__}')
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


NAMES: dict[str, Callable | None] = {
    'numpy.ndarray': None,  # only an argument of _reconstruct: a call of it would claim memory
    'numpy.dtype': _DType,
    '_codecs.encode': _encode,
    'builtins.bytes': _no_bytes,
    '__builtin__.bytes': _no_bytes,
}
for _core in ('numpy.core', 'numpy._core'):  # of NumPy 1 and 2
    NAMES |= {
        f'{_core}.multiarray._reconstruct': _new_array,
        f'{_core}.multiarray.scalar': _scalar,
        f'{_core}.numeric._frombuffer': _from_buffer,
    }


_Python: Any = pickle._Unpickler  # Any: typeshed lacks its stack and its load_ methods


class _Unpickler(_Python):
    """In Python: the one in C makes room for as many objects as the file says that it has, before it has read them."""

    def find_class(self, module: str, name: str) -> Callable | None:
        if f'{module}.{name}' not in NAMES:
            raise pickle.UnpicklingError(f'it names {module}.{name}, which no array needs; nothing was run')
        return NAMES[f'{module}.{name}']

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], Array | _DType):
            raise pickle.UnpicklingError(f'it changes what it names, a {type(self.stack[-2]).__name__}')
        super().load_build()

    def load_bytearray8(self) -> None:
        self.load_binbytes8()  # which takes no room before there are bytes

    dispatch = {**_Python.dispatch, pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8}
