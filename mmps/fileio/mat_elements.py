"""Checks a MATLAB file before SciPy reads it, because a wrong type number in the file crashes SciPy 1.17.1.

See https://github.com/scipy/scipy/pull/25349. Only what annotations consist of is allowed: cells, structs, text and numbers.
The format is MATLAB's version 5 (https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf). Files of version 4 have
no such type numbers and are not checked.
"""

import math
import zlib
from collections.abc import Collection
from struct import Struct, iter_unpack

HEADER_BYTES, TAG_BYTES = 128, 8
INT8, INT32, UINT32, MATRIX, COMPRESSED, UTF8 = 1, 5, 6, 14, 15, 16  # element types
PLAIN = frozenset((1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18))  # element types of numbers and text
CELL, STRUCT, VALUES = 1, 2, (4, *range(6, 16))  # matrix classes; VALUES are text and numbers
COMPLEX = 8  # a matrix flag
DEPTH = 16  # largest allowed nesting of matrices; SciPy has no limit
MAX_BYTES = 1 << 30  # largest allowed size of an inflated variable


def check_elements(content: bytes, names: Collection[str] | None = None) -> None:
    """Checks the named variables (None = all) of a version 5 file.

    Raises:
        ValueError: SciPy could not read a variable safely, it has over 1 GiB, or the file has version 7.3, another format.
    """
    order = {b'IM': '<', b'MI': '>'}.get(content[HEADER_BYTES - 2 : HEADER_BYTES])
    if order is None or not all(content[:4]):
        return
    if 2 in content[HEADER_BYTES - 4 : HEADER_BYTES - 2]:
        raise ValueError('version 7.3 is another format: save it as version 7')
    tag, at = Struct(f'{order}II'), HEADER_BYTES
    while at < len(content):
        kind, size = _tag(tag, content, at, len(content))
        start, at = at + TAG_BYTES, at + TAG_BYTES + size
        if kind == COMPRESSED:
            inflater = zlib.decompressobj()
            inflated = inflater.decompress(content[start:at], MAX_BYTES)
            if not inflater.eof:
                raise ValueError(f'a variable ends early, or has more than {MAX_BYTES} bytes')
            kind, size = _tag(tag, inflated, 0, len(inflated))
            variable = inflated, kind, TAG_BYTES, TAG_BYTES + size
        else:
            variable = content, kind, start, at
        if names is None or _name(tag, *variable) in names:
            _check(tag, *variable, DEPTH)


def _name(tag: Struct, content: bytes, kind: int, at: int, end: int) -> str:
    """Returns the name of the matrix whose flags begin at ``at``. It follows the flags and the shape."""
    if kind != MATRIX or at == end:
        return ''
    *_, at = _element(tag, content, at + 2 * TAG_BYTES, end)
    _, inside, size, _ = _element(tag, content, at, end)
    return content[inside : inside + size].decode('latin1')


def _element(tag: Struct, content: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """Returns type, content position, content length and next position of the element at ``at``, which must end by ``end``."""
    kind, size = tag.unpack_from(content, at) if at + TAG_BYTES <= end else (0, 0)
    if kind >> 16:  # the short form: the size is in the type's upper half, and the content follows at once
        return kind & 0xFFFF, at + TAG_BYTES // 2, kind >> 16, at + TAG_BYTES
    kind, size = _tag(tag, content, at, end)
    return kind, at + TAG_BYTES, size, at + TAG_BYTES + size + -size % 8


def _tag(tag: Struct, content: bytes, at: int, end: int) -> tuple[int, int]:
    """Returns type and size of the element at ``at``, which must end by ``end``."""
    if at + TAG_BYTES > end:
        raise ValueError('the file ends early')
    kind, size = tag.unpack_from(content, at)
    if at + TAG_BYTES + size > end:
        raise ValueError('an element is longer than its container')
    return kind, size


def _check(tag: Struct, content: bytes, kind: int, at: int, end: int, depth: int) -> None:
    """Checks the matrix whose flags begin at ``at``, and the matrices in it."""
    if kind != MATRIX or not depth:
        raise ValueError(f'an element of type {kind}' if depth else 'matrices nested too deeply')
    if at == end:
        return  # an empty matrix
    if _tag(tag, content, at, end) != (UINT32, 8):
        raise ValueError('a matrix without flags')
    flags, _ = tag.unpack_from(content, at + TAG_BYTES)
    matrix_class, start, at = flags & 0xFF, at, at + 2 * TAG_BYTES
    if matrix_class not in (CELL, STRUCT, *VALUES):
        raise ValueError(f'a matrix of class {matrix_class}, which is neither cells, structs, text nor numbers')
    plain, matrices = [], 0  # type, content position and content length of each plain element
    while at < end:
        kind, inside, size, at = _element(tag, content, at, end)
        if kind == MATRIX and matrix_class in (CELL, STRUCT):
            _check(tag, content, kind, inside, inside + size, depth - 1)
            matrices += 1
        elif kind not in PLAIN or inside + size > at or matrices:
            raise ValueError(f'an element of type {kind}')
        else:
            plain.append((kind, inside, size))
    # Shape and name; then numbers or text, and maybe an imaginary part; in a struct the width and names of the fields.
    expected = 2 if matrix_class == CELL else 4 if matrix_class == STRUCT or flags >> 8 & COMPLEX else 3
    if (
        len(plain) != expected
        or plain[0][0] not in (INT32, UINT32)
        or plain[0][2] < 8
        or plain[0][2] % 4
        or plain[1][0] not in (INT8, UTF8)
    ):
        raise ValueError('a matrix without shape, name or content')
    shape = [number[0] for number in iter_unpack(f'{tag.format[0]}I', content[plain[0][1] : plain[0][1] + plain[0][2]])]
    count = math.prod(shape)
    if matrix_class == STRUCT:
        (kind, at, size), (names, _, length) = plain[2:]
        width = int.from_bytes(content[at : at + size], 'little' if tag.format[0] == '<' else 'big')
        if (kind, size, names) != (INT32, 4, INT8) or not 0 < width <= 64 or length % width:
            raise ValueError('a struct without field names')
        filled = matrices == count * (length // width)
    else:
        filled = matrices == count if matrix_class == CELL else not matrices
    if not filled or count > end - start:
        raise ValueError(f'a matrix of shape {shape} with missing entries')
