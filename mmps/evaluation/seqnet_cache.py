"""Reads the cache file that SeqNet's evaluation saves, as do many programs built on it.

G images, Q queries, D embedding size.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmps.fileio.array_pickle import load_arrays

from .predictions import Predictions
from .protocol import SearchProtocol


def load_seqnet_cache(path: str | Path, protocol: SearchProtocol) -> Predictions:
    """Loads the predictions in SeqNet's ``eval_cache.pth``, without running code from the file and without torch.

    The file holds a dict of lists: for each image of the data set ``gallery_dets`` (n, 5), rows x1 y1 x2 y2 score, and
    ``gallery_feats`` (n, D); for each query ``query_box_feats`` (1, D) and optionally ``query_dets`` (m, 5) and
    ``query_feats`` (m, D), whose first row is the query itself and whose other rows are its context. The file names neither
    images nor queries. They are taken to be the protocol's, in its order, as in SeqNet's data sets. If there are
    ``query_dets``, they must contain the protocol's query boxes.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another kind of file, an entry of the wrong shape, or a cache of another data set.
    """
    cache = load_arrays(path)
    if not isinstance(cache, Mapping):
        raise ValueError(f'{path}: expected the dict that SeqNet saves, got {type(cache).__name__}')
    features = _list(path, cache, 'query_box_feats', protocol.num_queries, 'queries')
    dim = _entry(path, 'query_box_feats', 0, features[0], count=1).shape[1]
    query_embeddings = np.concatenate(
        [_entry(path, 'query_box_feats', query, entry, count=1, width=dim) for query, entry in enumerate(features)]
    )
    detections, embeddings = _detections(path, cache, 'gallery', len(protocol.images), 'images', dim)
    boxes = context = None
    if 'query_dets' in cache or 'query_feats' in cache:
        found, around = _detections(path, cache, 'query', protocol.num_queries, 'queries', dim)
        for query, rows in enumerate(found):
            if not len(rows):
                raise ValueError(f"{path}: query_dets[{query}]: expected the query's own box in the first row, got no row")
        boxes, context = np.stack([rows[0, :4] for rows in found]), [rows[1:] for rows in around]
    predictions = Predictions(
        images=protocol.images,
        boxes=[rows[:, :4] for rows in detections],
        scores=[rows[:, 4] for rows in detections],
        embeddings=embeddings,
        query_embeddings=query_embeddings,
        query_boxes=boxes,
        context_embeddings=context,
    )
    try:
        return predictions.for_protocol(protocol)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def _detections(
    path: str | Path, cache: Mapping, kind: str, count: int, things: str, dim: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the rows (n, 5) and embeddings (n, D) of each of ``count`` images or queries."""
    detections = [
        _entry(path, f'{kind}_dets', index, entry, width=5)
        for index, entry in enumerate(_list(path, cache, f'{kind}_dets', count, things))
    ]
    embeddings = [
        _entry(path, f'{kind}_feats', index, entry, count=len(rows), width=dim)
        for index, (entry, rows) in enumerate(zip(_list(path, cache, f'{kind}_feats', count, things), detections, strict=True))
    ]
    return detections, embeddings


def _list(path: str | Path, cache: Mapping, name: str, count: int, things: str) -> Sequence | np.ndarray:
    if name not in cache:
        found = [' '.join(str(key).split()) for key in cache]
        raise ValueError(
            f'{path}: {name} is missing: expected the dict that SeqNet saves, got one with '
            f'{", ".join(found[:5]) or "nothing"}{" and others" * (len(found) > 5)}'
        )
    entries = cache[name]
    if not (isinstance(entries, list | tuple) or (isinstance(entries, np.ndarray) and entries.ndim)):
        raise ValueError(f'{path}: {name}: expected a list, got {type(entries).__name__}')
    if len(entries) != count:
        raise ValueError(
            f'{path}: {name}: expected one entry for each of the {count} {things} of the protocol, got {len(entries)}'
        )
    return entries


def _entry(
    path: str | Path, name: str, index: int, entry: object, count: int | None = None, width: int | None = None
) -> np.ndarray:
    """Returns an entry as a float32 array of shape (count, width), where ``None`` stands for any length."""
    source = f'{path}: {name}[{index}]'
    try:
        with np.errstate(over='ignore'):
            array = np.asarray(entry, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'{source}: expected an array of numbers, got {type(entry).__name__}') from error
    shape = array.shape
    if count == 1 and array.ndim == 1:
        array = array[None]
    elif not array.size and not count and width:
        array = np.zeros((0, width), np.float32)  # an empty array may have any shape
    if array.ndim != 2 or not array.shape[1] or (count not in (None, len(array))) or (width not in (None, array.shape[1])):
        wanted = f'({"n" if count is None else count}, {"D" if width is None else width})'
        raise ValueError(f'{source}: expected shape {wanted}, got {shape}')
    if not np.isfinite(array).all():
        raise ValueError(f'{source} is not finite')
    return array
