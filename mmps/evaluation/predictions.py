"""Saves and loads a model's predictions for a test. Other programs can write such a file, too, to have it scored or drawn.

G images, N detections over all images, M annotated persons over all images, Q queries, C other people in the images of all
queries, D embedding size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmps.fileio.arrays import one_line, open_npz, read_array
from mmps.fileio.atomic import write_atomic

from .protocol import SearchProtocol, first_repeated

FORMAT = 1

# Arrays that concatenate the lists of all images (or queries), by the name of the array of their offsets.
LISTS = {
    'offsets': ('boxes', 'scores', 'embeddings'),
    'gt_offsets': ('gt_boxes', 'gt_person_ids', 'gt_embeddings'),
    'context_offsets': ('context_embeddings',),
}
OF_IMAGES = LISTS['offsets'] + LISTS['gt_offsets']

# Largest difference, in pixels, of two boxes that count as the same query. PRW's boxes have fractions and reach up to 8 pixels
# beyond the frame; some programs clip and round them. Queries in another order differ much more.
SAME_BOX = 10


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for a test of G images and Q queries. Boxes are x1 y1 x2 y2 in original-image pixels.

    Attributes:
        images: Names of the G images.
        boxes: For each image its detections (N_i, 4).
        scores: (N_i,) each.
        embeddings: (N_i, D) each.
        query_embeddings (Q, D): float32.
        query_images: Names of the Q queries' images.
        query_boxes (Q, 4): The queries' boxes.
        gt_boxes: For each image its persons (M_i, 4), as annotated.
        gt_person_ids: (M_i,) each, -1 = unlabelled.
        gt_embeddings: (M_i, D) each, of the annotated boxes, to score a search with perfect detection.
        context_embeddings: For each query the embeddings (C_q, D) of the other people in its image, the most confident
            first. ``None``: the detections of the image are used.
    """

    images: tuple[str, ...]
    boxes: list[np.ndarray]
    scores: list[np.ndarray]
    embeddings: list[np.ndarray]
    query_embeddings: np.ndarray
    query_images: tuple[str, ...] | None = None
    query_boxes: np.ndarray | None = None
    gt_boxes: list[np.ndarray] | None = None
    gt_person_ids: list[np.ndarray] | None = None
    gt_embeddings: list[np.ndarray] | None = None
    context_embeddings: list[np.ndarray] | None = None

    def for_protocol(self, protocol: SearchProtocol) -> 'Predictions':
        """Returns the predictions with the images in the protocol's order. Images outside the protocol are left out.

        Raises:
            ValueError: An image of the protocol is missing, or the queries differ in number or, if given, in their images
                or boxes.
        """
        index_of = {name: index for index, name in enumerate(self.images)}
        missing = [name for name in protocol.images if name not in index_of]
        if missing:
            raise ValueError(
                f"{len(missing)} of the protocol's {len(protocol.images)} images are not among the "
                f'{len(self.images)} predicted ones, the first of them is {missing[0]!r}'
            )
        self._check_queries(protocol)
        order = [index_of[name] for name in protocol.images]
        lists: dict[str, Any] = {
            name: [getattr(self, name)[index] for index in order] for name in OF_IMAGES if getattr(self, name) is not None
        }
        return replace(self, images=protocol.images, **lists)

    def _check_queries(self, protocol: SearchProtocol) -> None:
        if len(self.query_embeddings) != protocol.num_queries:
            raise ValueError(
                f'expected embeddings of the {protocol.num_queries} queries of the protocol, got {len(self.query_embeddings)}'
            )
        if self.query_images is not None:
            for query, (name, own) in enumerate(zip(self.query_images, protocol.query_images.tolist(), strict=True)):
                if name != protocol.images[own]:
                    raise ValueError(
                        f'{protocol.describe(query)} was predicted from image {name!r}: other queries, or another order'
                    )
        if self.query_boxes is not None:
            apart = np.abs(self.query_boxes - protocol.query_boxes).max(axis=1)
            for query in np.flatnonzero(~(apart <= SAME_BOX))[:1]:
                raise ValueError(
                    f'{protocol.describe(query)} has the box {_readable(protocol.query_boxes[query])}, but was predicted '
                    f'from {_readable(self.query_boxes[query])}: other queries, or another order'
                )


def save_predictions(path: str | Path, predictions: Predictions) -> None:
    """Writes predictions to an npz without pickle. Lists are concatenated, with the offsets of each image (or query).

    Raises:
        ValueError: :func:`load_predictions` would refuse these predictions. Nothing is written.
    """
    path = Path(path)
    arrays = _arrays_of(path, predictions)
    _read(path, arrays)
    with write_atomic(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's stub counts ** as its own keyword, too


def load_predictions(path: str | Path) -> Predictions:
    """Loads a file of :func:`save_predictions` or of another program. docs/predictions.md documents the format.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another kind of file or format version, or an array that is missing or has the wrong shape or type.
    """
    try:
        file = open_npz(path)
    except ValueError as error:
        raise ValueError(f'{path} is not a predictions file (npz): {error}') from error
    with file:
        if any(name.split('/')[-1] == 'data.pkl' for name in file.files):
            raise ValueError(f"{path} is a file of torch.save, not one of predictions (npz); SeqNet's cache needs --seqnet")
        return _read(path, file)


def _arrays_of(path: Path, predictions: Predictions) -> dict[str, np.ndarray]:
    """Returns the arrays of the file. Checks the lengths of the lists, but not yet their content."""
    queries = np.asarray(predictions.query_embeddings)
    if queries.ndim != 2:
        raise ValueError(f"{path}: array 'query_embeddings': expected shape (Q, D), got {queries.shape}")
    arrays = {
        'format': np.array(FORMAT, dtype=np.int64),
        'images': _text(path, 'images', predictions.images),
        'query_embeddings': queries.astype(np.float32),
    }
    if predictions.query_images is not None:
        arrays['query_images'] = _text(path, 'query_images', predictions.query_images)
    if predictions.query_boxes is not None:
        arrays['query_boxes'] = np.asarray(predictions.query_boxes, dtype=np.float32)
    for offsets, names in LISTS.items():
        lists = {name: getattr(predictions, name) for name in names if getattr(predictions, name) is not None}
        if lists:
            counts = [len(entry) for entry in next(iter(lists.values()))]
            arrays[offsets] = np.cumsum([0, *counts], dtype=np.int64)
        for name, entries in lists.items():
            arrays[name] = _end_to_end(path, name, entries, counts, _row_shape(name, queries.shape[1]))
    return arrays


def _text(path: Path, name: str, names: Sequence[str]) -> np.ndarray:
    array = np.array(names, dtype=np.str_)
    if array.tolist() != list(names):
        raise ValueError(f'{path}: {name}: expected names of images, which do not end with a null character')
    return array


def _end_to_end(
    path: Path, name: str, entries: Sequence[np.ndarray], counts: list[int], row_shape: tuple[int, ...]
) -> np.ndarray:
    if len(entries) != len(counts):
        raise ValueError(f'{path}: {name}: expected {len(counts)} lists, got {len(entries)}')
    dtype = np.int64 if name == 'gt_person_ids' else np.float32
    kept = [np.zeros((0, *row_shape), dtype)]  # so that there is an array even if all entries are empty
    for index, (entry, count) in enumerate(zip(entries, counts, strict=True)):
        shape = (count, *row_shape)
        if np.shape(entry) == shape:
            kept.append(entry)
        elif count or len(entry):  # an empty entry may have any shape
            raise ValueError(f'{path}: {name}: expected shape {shape} at index {index}, got {np.shape(entry)}')
    return np.concatenate(kept, dtype=dtype, casting='same_kind')


def _row_shape(name: str, dim: int) -> tuple[int, ...]:
    return {'boxes': (4,), 'embeddings': (dim,)}.get(name.split('_')[-1], ())


def _read(path: str | Path, arrays: Mapping[str, np.ndarray]) -> Predictions:
    version = _array(path, arrays, 'format', kinds='iu')
    if version != FORMAT:
        raise ValueError(f'{path}: format {version}, but this version of mmps reads format {FORMAT}')
    images = tuple(_array(path, arrays, 'images', 'G', kinds='U').tolist())
    repeated = first_repeated(images)
    if repeated is not None:
        raise ValueError(f"{path}: array 'images': {repeated!r} is listed twice")
    queries = _array(path, arrays, 'query_embeddings', 'Q', 'D')
    if not queries.shape[1]:
        raise ValueError(f"{path}: array 'query_embeddings': expected at least one number per query, got {queries.shape}")
    fields: dict[str, Any] = {}
    if 'query_images' in arrays:
        fields['query_images'] = tuple(_array(path, arrays, 'query_images', len(queries), kinds='U').tolist())
    if 'query_boxes' in arrays:
        fields['query_boxes'] = _array(path, arrays, 'query_boxes', len(queries), 4)
    for offsets, names in LISTS.items():
        if offsets == 'offsets' or any(name in arrays for name in (offsets, *names)):
            count = len(queries) if offsets == 'context_offsets' else len(images)
            fields.update(_lists(path, arrays, offsets, names, count, queries.shape[1]))
    return Predictions(images=images, query_embeddings=queries, **fields)


def _lists(
    path: str | Path, arrays: Mapping[str, np.ndarray], offsets: str, names: Sequence[str], count: int, dim: int
) -> dict[str, list[np.ndarray]]:
    """Returns the arrays that share an array of offsets, each split into a list of ``count`` arrays."""
    joined: dict[str, np.ndarray] = {}
    rows: int | str = 'N'
    for name in names:
        if name in arrays or name != 'gt_embeddings':  # the only array that may be missing
            joined[name] = _array(
                path, arrays, name, rows, *_row_shape(name, dim), kinds='iu' if name == 'gt_person_ids' else 'f'
            )
            rows = len(joined[names[0]])
    starts = _array(path, arrays, offsets, count + 1, kinds='iu')
    if starts[0] != 0 or starts[-1] != rows or (starts[1:] < starts[:-1]).any():
        raise ValueError(
            f'{path}: array {offsets!r}: expected numbers that rise from 0 to {rows}, the length of '
            f'{names[0]!r}, got {one_line(starts)}'
        )
    spans = [slice(*span) for span in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
    return {name: [array[span] for span in spans] for name, array in joined.items()}


def _array(path: str | Path, arrays: Mapping[str, np.ndarray], name: str, *shape: int | str, kinds: str = 'f') -> np.ndarray:
    """Reads and checks one array: integers become int64, floats become finite float32.

    Args:
        shape: The expected shape. A letter stands for any length.
        kinds: The allowed kinds of NumPy dtypes.
    """
    wanted = f'({", ".join(map(str, shape))}{"," * (len(shape) == 1)})'
    if name not in arrays:
        raise ValueError(f'{path}: array {name!r} of shape {wanted} is missing')
    try:
        array = read_array(arrays, name)
        if kinds == 'U':
            array.tolist()  # decodes the characters, which may fail
    except ValueError as error:
        raise ValueError(f'{path}: array {name!r} cannot be read: {one_line(error)}') from error
    fits = len(array.shape) == len(shape) and all(
        isinstance(want, str) or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in kinds:
        kind = {'f': 'floats', 'iu': 'whole numbers', 'U': 'text'}[kinds]
        raise ValueError(f'{path}: array {name!r}: expected shape {wanted} of {kind}, got {array.shape} of {array.dtype}')
    if kinds == 'iu':
        if array.dtype.kind == 'u' and array.size and array.max() > np.iinfo(np.int64).max:
            raise ValueError(f'{path}: array {name!r}: {array.max()} is too large a number')
        return array.astype(np.int64, copy=False)
    return _float32(f'{path}: array {name!r}', array) if kinds == 'f' else array


def _float32(source: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over='ignore'):  # numbers beyond float32 become infinite and are refused below
        array = array.astype(np.float32, copy=False)
    for row in np.argwhere(~np.isfinite(array))[:1, 0]:
        raise ValueError(f'{source}: row {row} is not finite')
    return array


def _readable(box: np.ndarray) -> list[float]:
    return np.round(box.astype(float), 1).tolist()
