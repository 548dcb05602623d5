"""Reading annotation files: what is wrong with one is said in one line that names it and what was expected there."""
import io
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from mmengine.logging import print_log
from PIL import Image
from scipy.io import loadmat

from .mat_elements import check_elements

# In an image with a side of fewer pixels nobody can be seen.
MIN_SIDE = 8
# A few wrong entries are an accident, and counted in a warning; a larger part than this says that something else is wrong.
TOLERATED = 0.01


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
    if not ((numbers == np.round(numbers)) & (np.abs(numbers) < 2 ** 53)).all():
        raise ValueError('not all ids are whole numbers')
    return numbers.astype(np.int64)


def box_rows(boxes) -> np.ndarray:
    """(N, 4) float64 of N boxes of four numbers each; to be called where the file is being taken apart."""
    rows = finite(boxes)
    if len(boxes) and rows.shape != (len(boxes), 4):
        raise ValueError(f'{len(boxes)} boxes as {rows.shape}')
    return rows.reshape(-1, 4)


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) corner and size to (N, 4) float32 corners; the far corner is x + w, without the - 1."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)


def clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N, 4) corners inside their images, of (N, 2) height and width; where these are 0, unknown, only negatives go."""
    limit = np.where(sizes > 0, sizes, np.inf)[:, [1, 0, 1, 0]].astype(np.float32)
    return np.clip(boxes, 0, limit)


def _visible(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    boxes = clip(boxes, sizes)
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=1)


def visible(boxes: np.ndarray, sizes: np.ndarray, path: Path) -> np.ndarray:
    """(N,) which corner boxes have an area inside their images, (N, 2) height and width, as for :func:`clip`.

    A warning counts the others, which are to be left out.
    """
    kept = _visible(boxes, sizes)
    if not kept.all():
        print_log(f'{path}: {np.sum(~kept)} of {len(kept)} boxes have no area inside their images and are left out',
                  'current', logging.WARNING)
    return kept


def require_visible(boxes: np.ndarray, sizes: np.ndarray, path: Path, what: str) -> None:
    """Refuses boxes of ``what`` that are not :func:`visible`: whom they are of cannot be embedded, nor missed."""
    kept = _visible(boxes, sizes)
    if not kept.all():
        first = int(np.argmin(kept))
        raise AnnotationError(f'{path}: expected boxes of {what} with an area inside their images, got x1 y1 x2 y2 '
                              f'{boxes[first].tolist()} (number {first + 1} of {len(boxes)})')


def check_names(names: Iterable[str], path: Path) -> None:
    """Refuses image names that would lead out of the data root."""
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or '..' in parts or '\\' in name or '\0' in name or name.startswith('/') or PureWindowsPath(name).drive:
            raise AnnotationError(f'{path}: expected image names inside the data root, got {name!r}')


def image_sizes(folder: Path, names: Iterable[str]) -> np.ndarray:
    """(G, 2) height and width from the files' headers; 0 where that fails or nobody can be seen, which is reported once the
    image is used."""
    sizes = []
    for name in names:
        try:
            with Image.open(folder / name) as image:
                size = image.height, image.width
        except OSError:
            size = 0, 0
        sizes.append(size if min(size) >= MIN_SIDE else (0, 0))
    return np.array(sizes, dtype=np.int32).reshape(-1, 2)
