"""What a model predicted for a test, in a file: for drawing, or for scoring again by other rules.

G images, N detections over all images, M persons over all images, Q queries, D embedding size.
"""
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for a test of G images and Q queries.

    Attributes:
        images: Names of the G images.
        boxes: For each image its detections (N_i, 4), x1 y1 x2 y2 in original-image pixels.
        scores: (N_i,) each.
        embeddings: (N_i, D) each.
        gt_boxes: For each image its persons (M_i, 4), as annotated.
        gt_person_ids: (M_i,) each, -1 = unlabelled.
        query_embeddings (Q, D): float32.
    """

    images: tuple[str, ...]
    boxes: list[np.ndarray]
    scores: list[np.ndarray]
    embeddings: list[np.ndarray]
    gt_boxes: list[np.ndarray]
    gt_person_ids: list[np.ndarray]
    query_embeddings: np.ndarray


def save_predictions(path: str | Path, predictions: Predictions) -> None:
    """Writes an npz without pickle: the lists end to end, with the offsets (G + 1,) at which each image starts."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    dim = predictions.query_embeddings.shape[1]
    beside = path.with_name(f'.{path.name}.part')
    with open(beside, 'wb') as file:  # given a name, savez would add '.npz' to it
        np.savez(
            file,
            format=np.int64(FORMAT),
            images=np.array(predictions.images, dtype=np.str_),
            offsets=_offsets(predictions.boxes),
            boxes=_end_to_end(predictions.boxes, np.float32, 4),
            scores=_end_to_end(predictions.scores, np.float32),
            embeddings=_end_to_end(predictions.embeddings, np.float32, dim),
            gt_offsets=_offsets(predictions.gt_boxes),
            gt_boxes=_end_to_end(predictions.gt_boxes, np.float32, 4),
            gt_person_ids=_end_to_end(predictions.gt_person_ids, np.int64),
            query_embeddings=predictions.query_embeddings.astype(np.float32),
        )
    beside.replace(path)  # nobody finds half a file under the name


def load_predictions(path: str | Path) -> Predictions:
    """Reads what :func:`save_predictions` wrote.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not such a file, another format version, or an array that is missing or has another shape.
    """
    try:
        file = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is not a predictions file (npz)') from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(f'{path} is not a predictions file (npz): it holds a single array')
    with file:
        version = _array(path, file, 'format', 'iu', ())
        if version != FORMAT:
            raise ValueError(f'{path}: format {version}, but this version of mmps reads format {FORMAT}')
        images = _array(path, file, 'images', 'U', ('G',))
        count = len(images) + 1
        offsets, gt_offsets = (_array(path, file, name, 'iu', (count,)) for name in ('offsets', 'gt_offsets'))
        queries = _array(path, file, 'query_embeddings', 'f', ('Q', 'D'))
        for name, starts in (('offsets', offsets), ('gt_offsets', gt_offsets)):
            if starts[0] != 0 or (np.diff(starts) < 0).any():
                raise ValueError(f'{path}: {name}: expected numbers that rise from 0')
        total, persons = int(offsets[-1]), int(gt_offsets[-1])
        return Predictions(
            images=tuple(images.tolist()),
            boxes=_split(_array(path, file, 'boxes', 'f', (total, 4)), offsets),
            scores=_split(_array(path, file, 'scores', 'f', (total,)), offsets),
            embeddings=_split(_array(path, file, 'embeddings', 'f', (total, queries.shape[1])), offsets),
            gt_boxes=_split(_array(path, file, 'gt_boxes', 'f', (persons, 4)), gt_offsets),
            gt_person_ids=_split(_array(path, file, 'gt_person_ids', 'iu', (persons,)), gt_offsets),
            query_embeddings=queries,
        )


def _offsets(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *map(len, arrays)], dtype=np.int64)


def _end_to_end(arrays: Sequence[np.ndarray], dtype: type, *width: int) -> np.ndarray:
    arrays = [array.reshape(-1, *width) for array in arrays]
    return np.concatenate(arrays, dtype=dtype, casting='same_kind')


def _split(array: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    return np.split(array, offsets[1:-1]) if len(offsets) > 1 else []


def _array(path: str | Path, file: np.lib.npyio.NpzFile, name: str, kinds: str, shape: tuple) -> np.ndarray:
    """One array of the file, of one of the NumPy kinds; letters in its shape stand for any length."""
    wanted = f'({", ".join(map(str, shape))}{"," * (len(shape) == 1)})'
    if name not in file:
        raise ValueError(f'{path}: array {name!r} of shape {wanted} is missing')
    try:
        array = file[name]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path}: array {name!r} cannot be read: {error}') from error
    fits = len(array.shape) == len(shape) and all(
        isinstance(want, str) or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in kinds:
        raise ValueError(f'{path}: array {name!r}: expected shape {wanted}, got {array.shape} of {array.dtype}')
    return array
