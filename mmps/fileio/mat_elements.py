"""Walks through a MATLAB file before SciPy reads it: SciPy looks types up by numbers in the file, and crashes on a wrong one.

(scipy 1.17.1: https://github.com/scipy/scipy/pull/25349.) Only what annotations are made of goes through: cells, structs, text
and numbers. The format is MATLAB's version 5 (https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf); files of
version 4 hold no such numbers and are left to SciPy.
"""

import math
import zlib
from collections.abc import Collection
from struct import Struct, iter_unpack

HEADER_BYTES, TAG_BYTES = 128, 8
INT8, INT32, UINT32, MATRIX, COMPRESSED, UTF8 = 1, 5, 6, 14, 15, 16  # types of element
PLAIN = frozenset((1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18))  # those of numbers and text
CELL, STRUCT, VALUES = 1, 2, (4, *range(6, 16))  # classes of matrix; the last are those of text and numbers
COMPLEX = 8  # a flag of a matrix
DEPTH = 16  # of matrices in matrices: SciPy goes down without a limit
MAX_BYTES = 1 << 30  # of an inflated variable


def check_elements(content: bytes, names: Collection[str] | None = None) -> None:
    """Raises ValueError where one of these variables (None = all) of a file of version 5 is not what SciPy expects of one, or
    has over 1 GiB; and for a file of version 7.3, which is another format."""
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
    """Of a matrix whose flags begin at ``at``: what follows them and the shape."""
    if kind != MATRIX or at == end:
        return ''
    *_, at = _element(tag, content, at + 2 * TAG_BYTES, end)
    _, inside, size, _ = _element(tag, content, at, end)
    return content[inside : inside + size].decode('latin1')


def _element(tag: Struct, content: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """Of the element at ``at``, which must end by ``end``: type, place and length of its content, and where the next begins."""
    kind, size = tag.unpack_from(content, at) if at + TAG_BYTES <= end else (0, 0)
    if kind >> 16:  # the short form: the size is in the type's upper half, and the content follows at once
        return kind & 0xFFFF, at + TAG_BYTES // 2, kind >> 16, at + TAG_BYTES
    kind, size = _tag(tag, content, at, end)
    return kind, at + TAG_BYTES, size, at + TAG_BYTES + size + -size % 8


def _tag(tag: Struct, content: bytes, at: int, end: int) -> tuple[int, int]:
    """Type and size of the element at ``at``, which must end by ``end``."""
    if at + TAG_BYTES > end:
        raise ValueError('the file ends early')
    kind, size = tag.unpack_from(content, at)
    if at + TAG_BYTES + size > end:
        raise ValueError('an element is longer than what holds it')
    return kind, size


def _check(tag: Struct, content: bytes, kind: int, at: int, end: int, depth: int) -> None:
    """A matrix whose flags begin at ``at``."""
    if kind != MATRIX or not depth:
        raise ValueError(f'an element of type {kind}' if depth else 'matrices nested too deeply')
    if at == end:
        return  # an empty matrix
    if _tag(tag, content, at, end) != (UINT32, 8):
        raise ValueError('a matrix without flags')
    flags, _ = tag.unpack_from(content, at + TAG_BYTES)
    of, start, at = flags & 0xFF, at, at + 2 * TAG_BYTES
    if of not in (CELL, STRUCT, *VALUES):
        raise ValueError(f'a matrix of class {of}, which is neither cells, structs, text nor numbers')
    plain, matrices = [], 0  # where each plain element has its content, and how long that is
    while at < end:
        kind, inside, size, at = _element(tag, content, at, end)
        if kind == MATRIX and of in (CELL, STRUCT):
            _check(tag, content, kind, inside, inside + size, depth - 1)
            matrices += 1
        elif kind not in PLAIN or inside + size > at or matrices:
            raise ValueError(f'an element of type {kind}')
        else:
            plain.append((kind, inside, size))
    # shape and name; numbers or text, maybe an imaginary part; of a struct the fields' width and names
    expected = 2 if of == CELL else 4 if of == STRUCT or flags >> 8 & COMPLEX else 3
    if (
        len(plain) != expected
        or plain[0][0] not in (INT32, UINT32)
        or plain[0][2] < 8
        or plain[0][2] % 4
        or plain[1][0] not in (INT8, UTF8)
    ):
        raise ValueError('a matrix without its shape, its name or what is in it')
    shape = [number[0] for number in iter_unpack(f'{tag.format[0]}I', content[plain[0][1] : plain[0][1] + plain[0][2]])]
    count = math.prod(shape)
    if of == STRUCT:
        (kind, at, size), (names, _, length) = plain[2:]
        width = int.from_bytes(content[at : at + size], 'little' if tag.format[0] == '<' else 'big')
        if (kind, size, names) != (INT32, 4, INT8) or not 0 < width <= 64 or length % width:
            raise ValueError('a struct without names of fields')
        filled = matrices == count * (length // width)
    else:
        filled = matrices == count if of == CELL else not matrices
    if not filled or count > end - start:
        raise ValueError(f'a matrix of shape {shape} that is not filled')
