"""Writes MATLAB 5 files with the types that the data sets' annotations use: cells, structs, strings and numbers.

`scipy.io.savemat` is not used, for two reasons. It writes the time into the file, so that no two files are equal. And it
encodes every element anew, while CUHK-SYSU's protocols name the same few thousand images twenty million times. Here an
encoded element is a list of byte strings, so that an encoded image can be listed again as a reference.
"""

import itertools
import struct as binary
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

Element = list[bytes]

_INT8, _UINT8, _UINT16, _INT32, _UINT32, _DOUBLE, _MATRIX, _COMPRESSED, _UTF8 = 1, 2, 4, 5, 6, 9, 14, 15, 16
_CELL_CLASS, _STRUCT_CLASS, _CHAR_CLASS, _DOUBLE_CLASS = 1, 2, 4, 6
_BATCH = 1 << 16  # byte strings that are compressed together
_FIELD_LENGTH = 32  # bytes per field name, with its closing zero


def _data(kind: int, payload: bytes) -> bytes:
    """Returns tagged data, padded to eight bytes. Up to four bytes are stored within the eight bytes of the tag."""
    if 0 < len(payload) <= 4:
        return binary.pack('<HH', kind, len(payload)) + payload.ljust(4, b'\0')
    return binary.pack('<II', kind, len(payload)) + payload + b'\0' * (-len(payload) % 8)


def _matrix(kind: int, shape: Sequence[int], body: Element, name: str) -> Element:
    """Returns a matrix element: flags, shape and name, followed by `body`."""
    head = _data(_UINT32, binary.pack('<II', kind, 0)) + _data(_INT32, binary.pack(f'<{len(shape)}i', *shape))
    head += _data(_INT8, name.encode('ascii'))
    return [binary.pack('<II', _MATRIX, len(head) + sum(map(len, body))) + head, *body]


def text(value: str, name: str = '') -> Element:
    """Encodes a string, 1 x length."""
    return _matrix(_CHAR_CLASS, (1, len(value)), [_data(_UTF8, value.encode('ascii'))], name)


def numbers(value: ArrayLike, name: str = '') -> Element:
    """Encodes a matrix of doubles. Integers are stored in fewer bytes, as MATLAB does; scipy then reads integers.

    Args:
        value: (M, N).
        name: The variable's name, at the top level of a file.
    """
    value = np.atleast_2d(np.asarray(value))
    kind, dtype = _DOUBLE, '<f8'
    if np.issubdtype(value.dtype, np.integer):
        if value.size and (value.min() < 0 or value.max() > 0xFFFF):
            kind, dtype = _INT32, '<i4'
        elif value.size:
            kind, dtype = (_UINT8, 'u1') if value.max() <= 0xFF else (_UINT16, '<u2')
    return _matrix(_DOUBLE_CLASS, value.shape, [_data(kind, value.astype(dtype).tobytes('F'))], name)


def empty() -> Element:
    """Encodes a 1 x 0 matrix, which CUHK-SYSU has where a gallery image has no target."""
    return numbers(np.zeros((1, 0)))


def cell(elements: Sequence[Element], name: str = '') -> Element:
    """Encodes a cell array, count x 1."""
    return _matrix(_CELL_CLASS, (len(elements), 1), list(itertools.chain.from_iterable(elements)), name)


def record(*elements: Iterable[bytes]) -> bytes:
    """Joins the encoded fields of one entry of a struct array to one byte string, which can be used many times."""
    return b''.join(itertools.chain.from_iterable(elements))


def struct(fields: Sequence[str], records: Sequence[bytes | Element], name: str = '') -> Element:
    """Encodes a struct array, 1 x count.

    Args:
        fields: Names of the fields.
        records: Its entries. Each is a `record(...)`, or a list of the byte strings of all its fields if it is long.
        name: The variable's name, at the top level of a file.
    """
    names = b''.join(field.encode('ascii').ljust(_FIELD_LENGTH, b'\0') for field in fields)
    body = [_data(_INT32, binary.pack('<i', _FIELD_LENGTH)), _data(_INT8, names)]
    for entry in records:
        if isinstance(entry, bytes):
            body.append(entry)
        else:
            body.extend(entry)
    return _matrix(_STRUCT_CLASS, (1, len(records)), body, name)


def save(path: str | Path, variable: Element) -> None:
    """Writes one named variable. It is compressed in parts: the largest protocol has two gigabytes uncompressed."""
    header = b'MATLAB 5.0 MAT-file, written by mmps'.ljust(116) + bytes(8) + binary.pack('<H2s', 0x0100, b'IM')
    with open(path, 'wb') as file:
        file.write(header + binary.pack('<II', _COMPRESSED, 0))
        compressor, size = zlib.compressobj(3), 0
        for start in range(0, len(variable), _BATCH):
            size += file.write(compressor.compress(b''.join(variable[start : start + _BATCH])))
        size += file.write(compressor.flush())
        file.seek(len(header))
        file.write(binary.pack('<II', _COMPRESSED, size))
