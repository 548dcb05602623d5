"""The annotation cache: flat arrays in an ``.npz`` without pickle, found again by the content they were read from."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from .annotations import one_line
from .arrays import open_npz, read_array
from .atomic import write_atomic

FORMAT_VERSION = 4  # raised with every change of what a loader reads or of the arrays it makes

Arrays = dict[str, np.ndarray]


def cache_folder() -> Path:
    """``${MMPS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/mmps}/annotations``."""
    root = os.environ.get('MMPS_CACHE')
    if not root:
        root = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'mmps'
    return Path(root).expanduser() / 'annotations'


def content_key(options: str, files: Iterable[Path], image_folders: Iterable[Path]) -> str:
    """A hash of the loader's options, the annotation files' names and bytes, and which images there are.

    The images' own bytes are not read: of them a loader uses only which exist and their size in pixels.
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
    """The arrays stored under ``key``, or those of ``build``, which are then stored."""
    path = cache_folder() / f'{key}.npz'
    if path.is_file():
        try:
            with open_npz(path) as stored:
                arrays = {name: read_array(stored, name) for name in stored.files}
            if arrays.keys() != names:
                raise ValueError('other arrays than expected')
            return arrays
        except (OSError, ValueError) as error:
            print_log(f'{path}: unreadable annotation cache, built again ({one_line(error)})', 'current', logging.WARNING)
    arrays = build()
    _store(path, arrays)
    return arrays


def _store(path: Path, arrays: Arrays) -> None:
    try:
        with write_atomic(path) as file:
            np.savez(file, **arrays)
    except OSError as error:
        print_log(f'{path}: annotation cache not written ({one_line(error)})', 'current', logging.WARNING)
