"""Reads an npz from anywhere: no pickle, and a small file does not fill the memory."""

import os
import zipfile
from pathlib import Path

import numpy as np

RATIO = 100  # what a file may unpack to, in its own sizes: zeros, compressed, reach 1,000
ALWAYS = 1 << 26  # bytes that even a smaller file may unpack to


def open_npz(path: str | Path) -> np.lib.npyio.NpzFile:
    """A file of ``numpy.savez`` or ``savez_compressed``; each array is read when it is asked for, by :func:`read_array`.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no npz, or unpacks to over 100 times its size (and 64 MiB). One line, which does not name it.
    """
    if not zipfile.is_zipfile(path):
        with open(path, 'rb') as file:
            single = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
        raise ValueError('it holds a single array' if single else 'it is no zip of arrays')
    try:
        file = np.load(path, allow_pickle=False)
        unpacked = sum(member.file_size for member in file.zip.infolist())
    except OSError as error:
        if error.filename is not None:
            raise
        raise ValueError(one_line(error)) from error
    except Exception as error:  # a damaged file raises almost anything
        raise ValueError(one_line(error)) from error
    if unpacked > max(RATIO * os.path.getsize(path), ALWAYS):
        file.close()
        raise ValueError(f'it unpacks to {unpacked} bytes, more than {RATIO} times its size')
    return file


def read_array(arrays, name: str) -> np.ndarray:
    """The array of that name.

    Raises:
        ValueError: It is damaged, no array, one of Python's objects, or one of entries without any content, of which a file may
            claim any number. One line, which does not name the file.
    """
    try:
        array = arrays[name]
    except Exception as error:  # for its size a MemoryError
        raise ValueError(one_line(error)) from error
    if not isinstance(array, np.ndarray | np.generic):
        raise ValueError('it is not an array')
    if array.size and not array.itemsize:
        raise ValueError(f'it has {array.size} entries without content')
    return array


def one_line(value) -> str:
    return ' '.join(str(value).split()) or type(value).__name__
