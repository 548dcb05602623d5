"""Reading annotation files: what is wrong with one is said in one line that names it and what was expected there."""
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from PIL import Image
from scipy.io import loadmat


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
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
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
        content = loadmat(path, variable_names=keys)
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
    rows = np.asarray(rows, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise ValueError('not all numbers are finite')
    return rows


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) corner and size to (N, 4) float32 corners; the far corner is x + w, without the - 1."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)


def clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N, 4) corners inside their images, of (N, 2) height and width; where these are 0, unknown, only negatives go."""
    limit = np.where(sizes > 0, sizes, np.inf)[:, [1, 0, 1, 0]].astype(np.float32)
    return np.clip(boxes, 0, limit)


def check_names(names: Iterable[str], path: Path) -> None:
    """Refuses image names that would lead out of the data root."""
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or '..' in parts or '\\' in name or name.startswith('/') or PureWindowsPath(name).drive:
            raise AnnotationError(f'{path}: expected image names inside the data root, got {name!r}')


def image_sizes(folder: Path, names: Iterable[str]) -> np.ndarray:
    """(G, 2) height and width from the files' headers; 0 where that fails, which is reported once the image is used."""
    sizes = []
    for name in names:
        try:
            with Image.open(folder / name) as image:
                sizes.append((image.height, image.width))
        except OSError:
            sizes.append((0, 0))
    return np.array(sizes, dtype=np.int32).reshape(-1, 2)
