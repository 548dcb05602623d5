"""Reads npz files from untrusted sources: without pickle, and with a limit on their unpacked size."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

RATIO = 100  # largest allowed ratio of unpacked to packed size; compressed zeros reach 1,000
ALWAYS = 1 << 26  # unpacked bytes that are allowed whatever the ratio


def open_npz(path: str | Path) -> np.lib.npyio.NpzFile:
    """Opens a file of ``numpy.savez`` or ``savez_compressed``. Read its arrays with :func:`read_array`.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no npz, or unpacks to over 100 times its size (and over 64 MiB). One line, without the file's name.
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
    except Exception as error:  # NumPy raises many types for a damaged file
        raise ValueError(one_line(error)) from error
    if unpacked > max(RATIO * os.path.getsize(path), ALWAYS):
        file.close()
        raise ValueError(f'it unpacks to {unpacked} bytes, more than {RATIO} times its size')
    return file


def read_array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Returns the array of that name.

    Raises:
        ValueError: It is damaged, no array, an array of Python objects, or has entries of 0 bytes, of which a small file can
            claim any number. One line, without the file's name.
    """
    try:
        array = arrays[name]
    except Exception as error:  # MemoryError if it claims too large a size
        raise ValueError(one_line(error)) from error
    if not isinstance(array, np.ndarray | np.generic):
        raise ValueError('it is not an array')
    if array.size and not array.itemsize:
        raise ValueError(f'it has {array.size} entries without content')
    return array


def one_line(value: object) -> str:
    """Returns the value as text without line breaks, or its type's name if the text is empty."""
    return ' '.join(str(value).split()) or type(value).__name__
