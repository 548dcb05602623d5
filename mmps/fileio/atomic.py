"""Writes files such that a crash leaves the old or the new content, never a half-written file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

UNFINISHED = '.tmp'


@contextmanager
def write_atomic(path: str | Path, mode: str = 'wb') -> Iterator[IO]:
    """Opens a temporary file beside ``path``. When the block ends, the file is flushed to the disk and renamed to ``path``.

    If the block raises, the temporary file is removed and ``path`` stays as it was. If the process is killed, a file
    ``path.*.tmp`` stays. Several processes may write the same ``path``: the last one to finish wins.

    Args:
        path: The file to write. Missing parent folders are made.
        mode: 'wb' for bytes, 'w' for text (UTF-8).

    Raises:
        OSError: The file cannot be written. The error names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f'{path.name}.{uuid4().hex[:8]}{UNFINISHED}')
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, mode, encoding='utf-8' if mode == 'w' else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: str | Path, pattern: str) -> None:
    """Removes temporary files that a killed :func:`write_atomic` left, for file names that match the glob ``pattern``."""
    for temporary in Path(folder).glob(f'{pattern}.*{UNFINISHED}'):
        temporary.unlink()
