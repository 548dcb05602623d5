"""Reads CUHK-SYSU's protocol files as a stream. SciPy decodes only the distinct entries.

``TestG4000.mat`` is a struct array of 2,900 rows, each with a struct array of 4,000 gallery entries. ``scipy.io.loadmat``
makes three arrays of every entry, which takes two minutes and 12 GiB. But most of the 11.6 million entries are equal, byte
for byte: they only name one of the 6,978 test images. So this module reads the file row by row, compares entries by their
bytes, and passes each distinct entry to SciPy once, in a small MATLAB file.

The format is MATLAB's version 5 (https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf). A file consists of a
header and tagged elements, which may be compressed. A struct array is an element that holds flags, shape, name and field
names, followed by the fields of every row, each an element.
"""

import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO

import numpy as np
from scipy.io import loadmat
from tqdm import tqdm

from .annotations import damaged, read_mat, require_file
from .mat_elements import check_elements

HEADER_BYTES, TAG_BYTES = 128, 8
LITTLE_ENDIAN_5 = b'\0\1IM'
INT8, INT32, MATRIX, COMPRESSED = 1, 5, 14, 15  # element types
STRUCT = 2  # matrix class
CHUNK_BYTES = 1 << 20  # number of bytes inflated at once
DELAY = 2.0  # seconds of reading before a progress bar is shown

_tag = Struct('<II')  # type, size; in the short form the type's upper half is the size and the data follows directly
_size_at = Struct('<4xI').unpack_from
_shape = Struct('<ii')

NOTHING = _tag.pack(MATRIX, 0)  # an empty matrix


@dataclass(frozen=True)
class NestedRows:
    """A struct array whose rows each hold a struct array of records: R rows, E records in total, U distinct ones.

    Attributes:
        rows (R,): As :func:`scipy.io.loadmat` returns them, but without the records.
        records (U,): The distinct records, as :func:`scipy.io.loadmat` returns them.
        indices (E,): Index into ``records`` for every record, row after row.
        offsets (R + 1,): Row r has ``indices[offsets[r]:offsets[r + 1]]``.
    """

    rows: np.ndarray
    records: np.ndarray
    indices: np.ndarray
    offsets: np.ndarray


def read_nested(path: Path, key: str, field: str) -> NestedRows:
    """Reads the struct array ``key`` of a MATLAB file, whose ``field`` holds each row's records.

    Rows, records and their order are the same as with :func:`scipy.io.loadmat`. A file that cannot be streamed is read by
    it: one in which ``key`` is not the first variable, or has another layout than MATLAB and SciPy write.

    Raises:
        FileNotFoundError: No such file.
        AnnotationError: A damaged or truncated file, or one without ``key``.
        IndexError, TypeError, ValueError: ``key`` is not nested like this. The caller turns it into a clear message.
    """
    require_file(path, f'a MATLAB file with the key {key}')
    try:
        with open(path, 'rb') as file:
            return _stream(file, key, field, path.name)
    except _OtherLayout:
        return _load(path, key, field)
    except Exception as error:  # a damaged file may raise many types, as with SciPy's reader
        raise damaged(path, error) from error


class _OtherLayout(Exception):
    """Raised for a file that SciPy has to read."""


def _load(path: Path, key: str, field: str) -> NestedRows:
    rows = read_mat(path, key).ravel()
    records = [row[field].ravel() for row in rows]
    offsets = np.cumsum([0, *map(len, records)])
    return NestedRows(rows, np.concatenate(records), np.arange(offsets[-1]), offsets)


def _stream(file: BinaryIO, key: str, field: str, name: str) -> NestedRows:
    header = _exactly(file, HEADER_BYTES)
    if not header.endswith(LITTLE_ENDIAN_5):
        raise _OtherLayout
    compressed = _tag.unpack(_exactly(file, TAG_BYTES))[0] == COMPRESSED
    if compressed:
        file = io.BufferedReader(_Inflated(file), CHUNK_BYTES)
    else:
        file.seek(HEADER_BYTES)
    outer, inner = _read_head(file), None  # the first row's head of the records
    if outer.name != key or field not in outer.fields:
        raise _OtherLayout
    rows, indices, offsets = [], [], [0]
    index_of: dict[bytes, int] = {}  # maps a record's bytes to its index among the distinct records
    for _ in tqdm(range(outer.length), desc=name, unit=' rows', delay=DELAY, mininterval=1, leave=False):
        elements = {column: _read_element(file) for column in outer.fields}
        nested = io.BytesIO(elements[field])
        head = _read_head(nested)
        inner = inner or head
        if head.fields != inner.fields or not head.fields:  # without fields it could claim any number of records
            raise _OtherLayout
        indices.append(_index_records(elements[field], nested.tell(), head, index_of))
        offsets.append(offsets[-1] + head.length)
        rows.append(b''.join({**elements, field: NOTHING}.values()))
    if inner is None:  # no rows
        raise _OtherLayout
    if compressed and file.read(1):  # reading to the end also verifies the checksum
        raise ValueError('data after the rows of the struct array')
    return NestedRows(
        _decode(header, outer, rows), _decode(header, inner, list(index_of)), np.concatenate(indices), np.array(offsets)
    )


def _index_records(nested: bytes, start: int, head: '_Head', index_of: dict[bytes, int]) -> np.ndarray:
    """Returns the index (n,) of each record of an element. Records begin at ``start``; ``index_of`` gains the new ones."""
    indices, fields = [], range(len(head.fields))
    for _ in range(head.length):  # runs eleven million times for TestG4000, so it only finds the record's end
        end = start
        for _ in fields:
            end += TAG_BYTES + _size_at(nested, end)[0]
        indices.append(index_of.setdefault(nested[start:end], len(index_of)))
        start = end
    if start != len(nested):
        raise ValueError('the lengths of the records and of their struct array differ')
    return np.array(indices, dtype=np.int32)


@dataclass(frozen=True)
class _Head:
    """The head of a struct array. ``flags`` and ``names`` (of the fields) are raw elements."""

    length: int
    name: str
    fields: tuple[str, ...]
    flags: bytes
    names: bytes


def _read_head(file: BinaryIO) -> _Head:
    kind, size = _tag.unpack(_exactly(file, TAG_BYTES))
    if kind != MATRIX or not size:
        raise _OtherLayout
    flags, shape, name = _read_element(file), _content(_read_element(file)), _content(_read_element(file))
    if _content(flags)[0] != STRUCT or len(shape) != _shape.size:
        raise _OtherLayout
    width, names = _read_element(file), _read_element(file)
    step, fields = int.from_bytes(_content(width), 'little'), _content(names)
    return _Head(
        math.prod(_shape.unpack(shape)),
        _text(name),
        tuple(_text(fields[start : start + step]) for start in range(0, len(fields), step)),
        flags,
        width + names,
    )


def _read_element(file: BinaryIO) -> bytes:
    """Reads the next element with its tag and padding."""
    tag = _exactly(file, TAG_BYTES)
    kind, size = _tag.unpack(tag)
    return tag if kind >> 16 else tag + _exactly(file, size + -size % 8)


def _content(element: bytes) -> bytes:
    kind, size = _tag.unpack_from(element)
    return element[4 : 4 + (kind >> 16)] if kind >> 16 else element[TAG_BYTES : TAG_BYTES + size]


def _text(name: bytes) -> str:
    return name.partition(b'\0')[0].decode('ascii')


def _decode(header: bytes, head: _Head, records: list[bytes]) -> np.ndarray:
    """Lets SciPy decode records (n,) from a MATLAB file that holds only them."""
    shape = _tag.pack(INT32, _shape.size) + _shape.pack(1, len(records))
    name = _tag.pack(INT8, 1) + b'x'.ljust(8, b'\0')
    array = b''.join([head.flags, shape, name, head.names, *records])
    content = header + _tag.pack(MATRIX, len(array)) + array
    check_elements(content)
    return loadmat(io.BytesIO(content))['x'].ravel()


class _Inflated(io.RawIOBase):
    """Inflates a compressed element, from after its tag to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's type needs Python 3.12
        content = b''
        while not content and not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._file.read(CHUNK_BYTES)
            content = self._inflater.decompress(packed, len(buffer))
            if not content and not packed:
                raise EOFError('the file ends early')
        buffer[: len(content)] = content
        return len(content)


def _exactly(file: BinaryIO, size: int) -> bytes:
    """Reads exactly ``size`` bytes."""
    content = file.read(size)
    if len(content) < size:
        raise EOFError('the file ends early')
    return content
