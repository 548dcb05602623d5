"""Defines the queries of a person-search test, their galleries and their targets.

G images, Q queries, T targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from .boxes import joined_ranges


@dataclass(frozen=True, eq=False)
class SearchProtocol:
    """The queries of a person-search test with their galleries and targets. All checks happen here; scoring trusts them.

    An image that a gallery lists twice is searched once, at its first place. Of several targets for the same query and image
    only the first can be found; the others count as missed, as in CUHK-SYSU's evaluation (four of TestG100's queries list an
    image twice). Targets are sorted by query, then by image.

    Attributes:
        images: Names of the G test scenes; an image's index here is its index in the test data set.
        cameras (G,): The camera of each image; zeros if cameras are unknown.
        query_images (Q,): Index of each query's image.
        query_boxes (Q, 4): x1 y1 x2 y2 in original-image pixels.
        query_person_ids (Q,): Identities, -1 where unknown.
        target_queries (T,): Index of each target's query.
        target_images (T,): Index of the target's image.
        target_boxes (T, 4): x1 y1 x2 y2 in original-image pixels.
        galleries: For each query the indices (g,) of its gallery images. Their order decides the rank of equal
            similarities. They are searched as listed, even the query's own image (two queries of CUHK-SYSU's TestG100 list
            it). ``None``, for all queries or for one: every image but the query's own, in the pool's order.

    Raises:
        ValueError: Wrong shapes, repeated image names, no query, or an image, query or target out of range.
    """

    images: tuple[str, ...]
    cameras: np.ndarray
    query_images: np.ndarray
    query_boxes: np.ndarray
    query_person_ids: np.ndarray
    target_queries: np.ndarray
    target_images: np.ndarray
    target_boxes: np.ndarray
    galleries: Sequence[np.ndarray | None] | None = None

    def __post_init__(self) -> None:
        self._set('images', tuple(str(name) for name in self.images))
        repeated = first_repeated(self.images)
        if repeated is not None:
            raise ValueError(f"image {repeated!r} is listed twice among the protocol's images")
        self._set('cameras', _integers('cameras', self.cameras, len(self.images)))
        self._set('query_images', _integers('query_images', self.query_images))
        if not len(self.query_images):
            raise ValueError('a search protocol needs at least one query, got none')
        self._set('query_boxes', _boxes('query_boxes', self.query_boxes, self.num_queries))
        self._set('query_person_ids', _integers('query_person_ids', self.query_person_ids, self.num_queries))
        self._inside('query_images', self.query_images, np.arange(self.num_queries), len(self.images), 'images')
        self._set_targets()
        self._set_galleries()

    @property
    def num_queries(self) -> int:
        return len(self.query_images)

    @property
    def num_targets(self) -> int:
        return len(self.target_queries)

    def gallery(self, query: int, cameras: str | int = 'all') -> np.ndarray:
        """Returns the indices (g,) of the images searched for a query, in gallery order.

        Args:
            cameras: 'all'; 'other' (without images of the query's own camera, PRW's cross-camera setting); or the number of
                the only camera whose images are searched.

        Raises:
            ValueError: Any other value of ``cameras``, or a number that no image has.
        """
        own = self.query_images[query]
        listed = None if self.galleries is None else self.galleries[query]
        images = np.delete(np.arange(len(self.images)), own) if listed is None else listed
        return images[self._seen(images, own, cameras)]

    @property
    def repeated(self) -> np.ndarray:
        """Mask (T,) of the targets that cannot be found, because they repeat a query and image."""
        return (np.diff(self.target_queries, prepend=-1) == 0) & (np.diff(self.target_images, prepend=-1) == 0)

    def sought(self, cameras: str | int = 'all') -> np.ndarray:
        """Returns a mask (T,) of the targets that count: those in images that are searched with these ``cameras``."""
        return self._seen(self.target_images, self.query_images[self.target_queries], cameras)

    def subset(self, queries: ArrayLike) -> 'SearchProtocol':
        """Returns the protocol of only these queries (n,), in this order, over the same images.

        Raises:
            ValueError: No query, or one that this protocol does not have.
        """
        kept = _integers('queries', queries)
        for wrong in kept[(kept < 0) | (kept >= self.num_queries)][:1]:
            raise ValueError(f'subset: expected queries from 0 to {self.num_queries - 1}, got {wrong}')
        starts = np.searchsorted(self.target_queries, kept)
        rows, owners = joined_ranges(starts, np.searchsorted(self.target_queries, kept, 'right') - starts)
        galleries = None if self.galleries is None else tuple(self.galleries[query] for query in kept)
        return SearchProtocol(
            self.images,
            self.cameras,
            self.query_images[kept],
            self.query_boxes[kept],
            self.query_person_ids[kept],
            owners,
            self.target_images[rows],
            self.target_boxes[rows],
            galleries,
        )

    def in_all_images(self) -> 'SearchProtocol':
        """Returns the protocol with the same queries and targets, searched in all images.

        A query's own image is left out, unless its gallery lists it (as in SeqNet).
        """
        everywhere = np.arange(len(self.images))
        galleries = tuple(everywhere if own in self.gallery(query) else None for query, own in enumerate(self.query_images))
        return replace(self, galleries=galleries)

    def describe(self, query: int) -> str:
        """Returns 'query 3 (image 'a.jpg')', for messages."""
        return f'query {query} (image {self.images[self.query_images[query]]!r})'

    @classmethod
    def from_galleries(
        cls,
        images: Sequence[str],
        cameras: ArrayLike | None,
        query_images: Sequence[str],
        query_boxes: np.ndarray,
        query_person_ids: ArrayLike,
        galleries: Sequence[Sequence[tuple[str, np.ndarray | None]]],
    ) -> 'SearchProtocol':
        """Builds a protocol whose queries each list their gallery, as in CUHK-SYSU's TestG files.

        Args:
            images: Names of the G test scenes.
            cameras: (G,), or ``None`` if they are unknown.
            query_images: Names of the Q queries' scenes.
            query_boxes: (Q, 4), x1 y1 x2 y2.
            query_person_ids: (Q,).
            galleries: For each query its (scene name, target box (4,) x1 y1 x2 y2 or ``None``).

        Raises:
            ValueError: An image of a query or gallery that is not in the pool, or arrays of wrong shapes.
        """
        index_of = {name: index for index, name in enumerate(images)}
        owners = _query_indices(index_of, query_images)
        if len(galleries) != len(owners):
            raise ValueError(f'galleries: expected one for each of the {len(owners)} queries, got {len(galleries)}')
        queries, scenes, boxes, indices = [], [], [], []
        for query, gallery in enumerate(galleries):
            for name, box in gallery:
                if name not in index_of:
                    raise ValueError(
                        f'query {query} (image {query_images[query]!r}): its gallery lists {name!r}, which is not in the pool'
                    )
                if box is not None:
                    queries.append(query)
                    scenes.append(index_of[name])
                    boxes.append(box)
            indices.append(np.array([index_of[name] for name, _ in gallery], dtype=np.int64))
        return cls(
            tuple(images),
            _cameras(cameras, len(images)),
            owners,
            query_boxes,
            np.asarray(query_person_ids),
            np.array(queries, dtype=np.int64),
            np.array(scenes, dtype=np.int64),
            np.array(boxes, dtype=np.float32).reshape(-1, 4),
            tuple(indices),
        )

    @classmethod
    def from_identities(
        cls,
        images: Sequence[str],
        cameras: ArrayLike | None,
        boxes: Sequence[np.ndarray],
        person_ids: Sequence[np.ndarray],
        query_images: Sequence[str],
        query_boxes: np.ndarray,
        query_person_ids: ArrayLike,
    ) -> 'SearchProtocol':
        """Builds a protocol whose queries search every other image for boxes of the same identity, as in PRW.

        If an image lists the identity twice, only the first box is a target.

        Args:
            images: Names of the G test scenes.
            cameras: (G,), or ``None`` if they are unknown.
            boxes: For each image its persons (N_i, 4), x1 y1 x2 y2.
            person_ids: For each image its persons' identities (N_i,), -1 = unlabelled.
            query_images: Names of the Q queries' scenes.
            query_boxes: (Q, 4), x1 y1 x2 y2.
            query_person_ids: (Q,), none of them -1.

        Raises:
            ValueError: A query's image that is not in the pool, a query without identity, or arrays of wrong shapes.
        """
        owners = _query_indices({name: index for index, name in enumerate(images)}, query_images)
        sought = _integers('query_person_ids', query_person_ids, len(owners))
        for query in np.flatnonzero(sought < 0)[:1]:
            raise ValueError(f'query {query} (image {query_images[query]!r}) has no identity, so no targets')
        for kind, lists in (('boxes', boxes), ('person_ids', person_ids)):
            if len(lists) != len(images):
                raise ValueError(f'{kind}: expected one array for each of the {len(images)} images, got {len(lists)}')
        image_boxes = [_boxes(f'boxes of image {name!r}', array) for name, array in zip(images, boxes, strict=True)]
        image_ids = [
            _integers(f'person_ids of image {name!r}', array, len(held))
            for name, array, held in zip(images, person_ids, image_boxes, strict=True)
        ]
        scenes = np.repeat(np.arange(len(images)), [len(held) for held in image_boxes])
        all_boxes = np.concatenate([np.zeros((0, 4), dtype=np.float32), *image_boxes])
        all_ids = np.concatenate([np.zeros(0, dtype=np.int64), *image_ids])
        by_identity = np.argsort(all_ids, kind='stable')
        start = np.searchsorted(all_ids[by_identity], sought, 'left')
        stop = np.searchsorted(all_ids[by_identity], sought, 'right')
        rows, queries = joined_ranges(start, stop - start)
        rows = by_identity[rows]
        # A query's rows are sorted by image, so an identity's second box in an image directly follows its first.
        again = (np.diff(queries, prepend=-1) == 0) & (np.diff(scenes[rows], prepend=-1) == 0)
        kept = ~again & (scenes[rows] != owners[queries])
        rows, queries = rows[kept], queries[kept]
        return cls(
            tuple(images), _cameras(cameras, len(images)), owners, query_boxes, sought, queries, scenes[rows], all_boxes[rows]
        )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _seen(self, images: np.ndarray, own: np.ndarray, cameras: str | int) -> np.ndarray:
        """Returns a mask (n,) of the images (n,) that queries with own images ``own`` (n,) or () search with ``cameras``."""
        taken_by = self.cameras[images]
        if cameras == 'all':
            return np.ones(len(images), dtype=bool)
        if cameras == 'other':
            return taken_by != self.cameras[own]
        if not isinstance(cameras, (int, np.integer)) or isinstance(cameras, bool) or cameras not in self.cameras:
            raise ValueError(
                f"cameras: expected 'all', 'other' or one of the cameras {np.unique(self.cameras).tolist()}, got {cameras!r}"
            )
        return taken_by == cameras

    def _inside(self, name: str, indices: np.ndarray, queries: np.ndarray, limit: int, of: str) -> None:
        for wrong in np.flatnonzero((indices < 0) | (indices >= limit))[:1]:
            raise ValueError(f'{name}: query {queries[wrong]} names {indices[wrong]}, but there are {limit} {of}')

    def _set_targets(self) -> None:
        queries = _integers('target_queries', self.target_queries)
        images = _integers('target_images', self.target_images, len(queries))
        boxes = _boxes('target_boxes', self.target_boxes, len(queries))
        for wrong in np.flatnonzero((queries < 0) | (queries >= self.num_queries))[:1]:
            raise ValueError(f'target {wrong} answers query {queries[wrong]}, but there are {self.num_queries} queries')
        self._inside('target_images', images, queries, len(self.images), 'images')
        order = np.lexsort((images, queries))
        self._set('target_queries', queries[order])
        self._set('target_images', images[order])
        self._set('target_boxes', boxes[order])

    def _set_galleries(self) -> None:
        implicit = np.full(self.num_queries, self.galleries is None)
        if self.galleries is not None:
            if len(self.galleries) != self.num_queries:
                raise ValueError(
                    f'galleries: expected one for each of the {self.num_queries} queries, got {len(self.galleries)}'
                )
            implicit = np.array([listed is None for listed in self.galleries])
            bounds = np.searchsorted(self.target_queries, np.arange(self.num_queries + 1))
            self._set(
                'galleries',
                tuple(
                    None
                    if listed is None
                    else self._listed(query, listed, self.target_images[bounds[query] : bounds[query + 1]])
                    for query, listed in enumerate(self.galleries)
                ),
            )
        own = self.target_images == self.query_images[self.target_queries]
        for wrong in self.target_queries[own & implicit[self.target_queries]][:1]:
            raise ValueError(f'{self.describe(wrong)} has a target in its own image, which is not searched')

    def _listed(self, query: int, listed: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns a query's gallery (g,) with each image once. It must list the images of the query's targets."""
        images = _integers(f'gallery of {self.describe(query)}', listed)
        self._inside('galleries', images, np.full(len(images), query), len(self.images), 'images')
        searched = np.zeros(len(self.images), dtype=bool)  # a mask, because sorting 2,900 x 4,000 images takes seconds
        searched[images] = True
        for missing in targets[~searched[targets]][:1]:
            raise ValueError(
                f'{self.describe(query)} has a target in {self.images[missing]!r}, which its gallery does not list'
            )
        if np.count_nonzero(searched) < len(images):
            images = images[np.sort(np.unique(images, return_index=True)[1])]
        return images


def first_repeated(names: Sequence[str]) -> str | None:
    """Returns the first name that occurs more than once, or None."""
    index_of = {name: index for index, name in enumerate(names)}
    return next((name for index, name in enumerate(names) if index_of[name] != index), None)


def _cameras(cameras: ArrayLike | None, count: int) -> np.ndarray:
    return np.zeros(count, dtype=np.int64) if cameras is None else np.asarray(cameras)


def _query_indices(index_of: dict[str, int], names: Sequence[str]) -> np.ndarray:
    for query, name in enumerate(names):
        if name not in index_of:
            raise ValueError(f'query {query}: its image {name!r} is not in the pool')
    return np.array([index_of[name] for name in names], dtype=np.int64)


def _integers(name: str, values: ArrayLike, length: int | None = None) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or (length is not None and len(array) != length):
        raise ValueError(f'{name}: expected shape ({"n" if length is None else length},), got {array.shape}')
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f'{name}: expected whole numbers, got {array.dtype}')
    return array.astype(np.int64)


def _boxes(name: str, values: ArrayLike, length: int | None = None) -> np.ndarray:
    array = np.asarray(values, dtype=np.float32)
    if not array.size and array.ndim == 1:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4 or (length is not None and len(array) != length):
        raise ValueError(f'{name}: expected shape ({"n" if length is None else length}, 4), got {array.shape}')
    for wrong in np.flatnonzero(~np.isfinite(array).all(axis=1))[:1]:
        raise ValueError(f'{name}: row {wrong} is not finite: {array[wrong].tolist()}')
    return array
