"""Helpers to read annotation files safely. Errors are one line that names the file and what was expected there."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import ArrayLike
from scipy.io import loadmat

from mmps.fileio.mat_elements import check_elements


class AnnotationError(ValueError):
    """Raised for an annotation file with wrong content. The message is one line."""


def type_and_message(error: Exception) -> str:
    """Returns 'ErrorType: message' in one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())}'


@contextmanager
def expecting(path: Path, what: str) -> Iterator[None]:
    """Turns an error in the block that parses ``path`` into an AnnotationError: the file does not contain ``what``."""
    try:
        yield
    except (AnnotationError, FileNotFoundError):
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise AnnotationError(f'{path}: expected {what} ({type_and_message(error)})') from error


def require_file(path: Path, what: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file; expected {what}')
    return path


def damaged(path: Path, error: Exception) -> AnnotationError:
    return AnnotationError(
        f'{path}: expected a MATLAB file (version 5 to 7.2), damaged or truncated? ({type_and_message(error)})'
    )


def read_mat(path: Path, *keys: str) -> np.ndarray:
    """Returns the variable of a MATLAB file under the first of ``keys`` that exists."""
    require_file(path, f'a MATLAB file with the key {" or ".join(keys)}')
    try:
        data = path.read_bytes()
        check_elements(data, keys)
        content = loadmat(io.BytesIO(data), variable_names=keys)
    except Exception as error:  # SciPy raises many types for a damaged file
        raise damaged(path, error) from error
    for key in keys:
        if key in content:
            return content[key]
    raise AnnotationError(f'{path}: expected the key {" or ".join(keys)}, not found')


def strings(cells: np.ndarray) -> list[str]:
    """Returns the strings of a MATLAB cell array. Each may be nested in further cells."""
    values = []
    for cell in cells.ravel():
        while isinstance(cell, np.ndarray):
            cell = cell.ravel()[0]
        values.append(str(cell))
    return values


def finite(rows: ArrayLike) -> np.ndarray:
    """Returns ``rows`` as float64. Raises ValueError unless all are real and finite; call it inside :func:`expecting`."""
    if np.iscomplexobj(rows):  # NumPy would drop the imaginary parts
        raise ValueError('the numbers are complex')
    numbers = np.asarray(rows, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError('not all numbers are finite')
    return numbers


def whole(numbers: np.ndarray) -> np.ndarray:
    """Returns ``numbers`` as int64. Raises ValueError unless all are whole; call it inside :func:`expecting`."""
    if not ((numbers == np.round(numbers)) & (np.abs(numbers) < 2**53)).all():
        raise ValueError('not all ids are whole numbers')
    return numbers.astype(np.int64)


def box_rows(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Returns N boxes as (N, 4) float64. Raises ValueError unless each has four numbers; call it inside :func:`expecting`."""
    rows = finite(boxes)
    if len(boxes) and rows.shape != (len(boxes), 4):
        raise ValueError(f'{len(boxes)} boxes of shape {rows.shape}')
    return rows.reshape(-1, 4)


def check_names(names: Iterable[str], path: Path) -> None:
    """Raises AnnotationError for an image name that would lead out of the data root."""
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or '..' in parts or '\\' in name or '\0' in name or name.startswith('/') or PureWindowsPath(name).drive:
            raise AnnotationError(f'{path}: expected image names inside the data root, got {name!r}')
