"""Caches annotations as flat arrays in an ``.npz`` without pickle. The key is a hash of the files they were read from."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from .annotations import type_and_message
from .arrays import open_npz, read_array
from .atomic import write_atomic

FORMAT_VERSION = 4  # increase it whenever a loader reads or returns something else

Arrays = dict[str, np.ndarray]


def cache_folder() -> Path:
    """Returns ``${MMPS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/mmps}/annotations``."""
    root = os.environ.get('MMPS_CACHE') or os.path.join(os.environ.get('XDG_CACHE_HOME') or '~/.cache', 'mmps')
    return Path(root).expanduser() / 'annotations'


def content_key(options: str, files: Iterable[Path], image_folders: Iterable[Path]) -> str:
    """Hashes the loader's options, the names and bytes of the annotation files, and the names of the images.

    The bytes of the images are not read: a loader uses only which images exist and their size in pixels.
    """
    digest = hashlib.blake2b(f'{FORMAT_VERSION}\n{options}'.encode(), digest_size=20)
    for path in files:
        content = path.read_bytes()
        digest.update(f'\n{path.name}\n{len(content)}\n'.encode())
        digest.update(content)
    for folder in image_folders:
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        digest.update('\n'.join(['', folder.name, *names]).encode('utf-8', 'surrogateescape'))
    return digest.hexdigest()


def cached(key: str, names: set[str], build: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays stored under ``key``. If there are none, calls ``build`` and stores its arrays."""
    path = cache_folder() / f'{key}.npz'
    if path.is_file():
        try:
            with open_npz(path) as stored:
                arrays = {name: read_array(stored, name) for name in stored.files}
            if arrays.keys() != names:
                raise ValueError('other arrays than expected')
            return arrays
        except (OSError, ValueError) as error:
            print_log(
                f'{path}: unreadable annotation cache, built again ({type_and_message(error)})', 'current', logging.WARNING
            )
    arrays = build()
    _store(path, arrays)
    return arrays


def _store(path: Path, arrays: Arrays) -> None:
    try:
        with write_atomic(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's stub counts ** as its own keyword, too
    except OSError as error:
        print_log(f'{path}: annotation cache not written ({type_and_message(error)})', 'current', logging.WARNING)
