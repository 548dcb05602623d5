"""Reading annotation files: what is wrong with one is said in one line that names it and what was expected there."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from scipy.io import loadmat

from mmps.fileio.mat_elements import check_elements


class AnnotationError(ValueError):
    """An annotation file that does not hold what it should; the message is one line."""


def one_line(error: Exception) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())}'


@contextmanager
def expecting(path: Path, what: str) -> Iterator[None]:
    """Inside it ``path`` is taken apart; an error there means that the file does not hold ``what``."""
    try:
        yield
    except (AnnotationError, FileNotFoundError):
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise AnnotationError(f'{path}: expected {what} ({one_line(error)})') from error


def require_file(path: Path, what: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file; expected {what}')
    return path


def damaged(path: Path, error: Exception) -> AnnotationError:
    return AnnotationError(f'{path}: expected a MATLAB file (version 5 to 7.2), damaged or truncated? ({one_line(error)})')


def read_mat(path: Path, *keys: str) -> np.ndarray:
    """The first of ``keys`` that the MATLAB file has."""
    require_file(path, f'a MATLAB file with the key {" or ".join(keys)}')
    try:
        content = path.read_bytes()
        check_elements(content, keys)
        content = loadmat(io.BytesIO(content), variable_names=keys)
    except Exception as error:  # SciPy's reader fails in many ways on a damaged file; all of them mean the same
        raise damaged(path, error) from error
    for key in keys:
        if key in content:
            return content[key]
    raise AnnotationError(f'{path}: expected the key {" or ".join(keys)}, not found')


def strings(cells: np.ndarray) -> list[str]:
    """A MATLAB cell array of strings; each may be wrapped in another cell."""
    values = []
    for cell in cells.ravel():
        while isinstance(cell, np.ndarray):
            cell = cell.ravel()[0]
        values.append(str(cell))
    return values


def finite(rows) -> np.ndarray:
    """``rows`` as float64; to be called where the file is being taken apart."""
    if np.iscomplexobj(rows):  # their imaginary parts would be dropped
        raise ValueError('the numbers are complex')
    rows = np.asarray(rows, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise ValueError('not all numbers are finite')
    return rows


def whole(numbers: np.ndarray) -> np.ndarray:
    """``numbers`` as int64; to be called where the file is being taken apart."""
    if not ((numbers == np.round(numbers)) & (np.abs(numbers) < 2**53)).all():
        raise ValueError('not all ids are whole numbers')
    return numbers.astype(np.int64)


def box_rows(boxes) -> np.ndarray:
    """(N, 4) float64 of N boxes of four numbers each; to be called where the file is being taken apart."""
    rows = finite(boxes)
    if len(boxes) and rows.shape != (len(boxes), 4):
        raise ValueError(f'{len(boxes)} boxes as {rows.shape}')
    return rows.reshape(-1, 4)


def check_names(names: Iterable[str], path: Path) -> None:
    """Refuses image names that would lead out of the data root."""
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or '..' in parts or '\\' in name or '\0' in name or name.startswith('/') or PureWindowsPath(name).drive:
            raise AnnotationError(f'{path}: expected image names inside the data root, got {name!r}')
