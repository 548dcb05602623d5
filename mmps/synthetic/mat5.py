"""Writes MATLAB 5 files: cells, structs, strings and numbers, which is what the data sets' annotations are made of.

`scipy.io.savemat` is not used because it stamps the time into the file, so that no two are alike, and because it
encodes every element on its own: CUHK-SYSU's protocols name the same few thousand images twenty million times. Here an
element is a list of byte strings, so that an encoded image can be listed again for the price of a reference.
"""

import itertools
import struct as binary
import zlib

import numpy as np

_INT8, _UINT8, _UINT16, _INT32, _UINT32, _DOUBLE, _MATRIX, _COMPRESSED, _UTF8 = 1, 2, 4, 5, 6, 9, 14, 15, 16
_CELL, _STRUCT, _CHAR, _DOUBLE_CLASS = 1, 2, 4, 6
_BATCH = 1 << 16
_FIELD = 32  # bytes a field name may take, with its closing zero


def _data(kind, payload):
    """A tagged piece of data, padded to eight bytes; up to four bytes share the tag's own eight."""
    if 0 < len(payload) <= 4:
        return binary.pack('<HH', kind, len(payload)) + payload.ljust(4, b'\0')
    return binary.pack('<II', kind, len(payload)) + payload + b'\0' * (-len(payload) % 8)


def _matrix(kind, shape, body, name):
    """A matrix element of which `body` (a list of bytes) follows flags, shape and name."""
    head = _data(_UINT32, binary.pack('<II', kind, 0)) + _data(_INT32, binary.pack(f'<{len(shape)}i', *shape))
    head += _data(_INT8, name.encode('ascii'))
    return [binary.pack('<II', _MATRIX, len(head) + sum(map(len, body))) + head, *body]


def text(value, name=''):
    """A string, 1 x length."""
    return _matrix(_CHAR, (1, len(value)), [_data(_UTF8, value.encode('ascii'))], name)


def numbers(value, name=''):
    """A matrix of doubles. Whole numbers are stored small, as MATLAB does, and scipy reads them as such.

    Args:
        value (array_like): (M, N).
        name (str): The variable's name at the top level of a file.
    """
    value = np.atleast_2d(np.asarray(value))
    kind, dtype = _DOUBLE, '<f8'
    if np.issubdtype(value.dtype, np.integer):
        if value.size and (value.min() < 0 or value.max() > 0xFFFF):
            kind, dtype = _INT32, '<i4'
        elif value.size:
            kind, dtype = (_UINT8, 'u1') if value.max() <= 0xFF else (_UINT16, '<u2')
    return _matrix(_DOUBLE_CLASS, value.shape, [_data(kind, value.astype(dtype).tobytes('F'))], name)


def empty(name=''):
    """A 1 x 0 matrix, which CUHK-SYSU has where there is no target."""
    return numbers(np.zeros((1, 0)), name)


def cell(elements, name=''):
    """A cell array, count x 1, of encoded elements."""
    return _matrix(_CELL, (len(elements), 1), list(itertools.chain.from_iterable(elements)), name)


def record(*elements):
    """One entry of a struct array: its encoded fields, joined to one byte string that can be used many times."""
    return b''.join(itertools.chain.from_iterable(elements))


def struct(fields, records, name=''):
    """A struct array, 1 x count.

    Args:
        fields (sequence[str]): Names of the fields.
        records (list): An entry each: `record(...)`, or a list of the chunks of all its fields where that is long.
        name (str): The variable's name at the top level of a file.
    """
    names = b''.join(field.encode('ascii').ljust(_FIELD, b'\0') for field in fields)
    body = [_data(_INT32, binary.pack('<i', _FIELD)), _data(_INT8, names)]
    for entry in records:
        if isinstance(entry, bytes):
            body.append(entry)
        else:
            body.extend(entry)
    return _matrix(_STRUCT, (1, len(records)), body, name)


def save(path, chunks):
    """Write one named variable, compressed, in pieces: the largest protocol is two gigabytes before."""
    header = b'MATLAB 5.0 MAT-file, written by mmps'.ljust(116) + bytes(8) + binary.pack('<H2s', 0x0100, b'IM')
    with open(path, 'wb') as file:
        file.write(header + binary.pack('<II', _COMPRESSED, 0))
        packer, size = zlib.compressobj(3), 0
        for start in range(0, len(chunks), _BATCH):
            size += file.write(packer.compress(b''.join(chunks[start : start + _BATCH])))
        size += file.write(packer.flush())
        file.seek(len(header))
        file.write(binary.pack('<II', _COMPRESSED, size))
