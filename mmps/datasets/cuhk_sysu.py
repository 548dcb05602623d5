"""Reads CUHK-SYSU from its original files.

Xiao et al., "Joint Detection and Identification Feature Learning for Person Search", CVPR 2017.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.logging import print_log

from mmps.evaluation.protocol import SearchProtocol
from mmps.evaluation.search import Search
from mmps.fileio.annotation_cache import cached, content_key
from mmps.fileio.annotations import AnnotationError, box_rows, check_names, expecting, read_mat, require_file, strings
from mmps.fileio.nested_mat import read_nested
from mmps.registry import DATASETS

from .base import Annotations, PersonSearchDataset, no_queries
from .image_boxes import TOLERATED, image_sizes, require_visible, visible, xywh_to_xyxy

PROTOCOLS = Path('annotation/test/train_test')
SUBSETS = {  # name of the search, its file and the variable there
    'occluded': (Path('annotation/test/subset/Occlusion.mat'), 'Occlusion1'),
    'low resolution': (Path('annotation/test/subset/Resolution.mat'), 'Test_Size'),
}


@DATASETS.register_module()
class CUHKSYSU(PersonSearchDataset):
    """CUHK-SYSU: 18,184 scenes, 11,206 to train (5,532 identities), 6,978 to test (2,900 queries, each with its own gallery).

    ``data_root`` holds ``Image/SSM`` and ``annotation``. In training, identity i is the i-th of ``Train.mat``. In test mode
    the boxes of query i and of its targets have id i; all others have none. Zero-sized boxes are dropped.

    Its searches are

    - 'gallery 50' to 'gallery 4000': the published galleries whose files exist;
    - 'full set': the queries and targets of the smallest gallery, searched in all other test scenes;
    - 'occluded' and 'low resolution': the published query subsets whose files exist;
    - 'hard': the queries marked as hard, if there are any.

    Args:
        gallery_size (int): Selects the published gallery ``TestG{gallery_size}.mat`` as the data set's protocol. Used in
            test mode only.
    """

    METAINFO = {**PersonSearchDataset.METAINFO, 'dataset_type': 'CUHKSYSU', 'cbgm': {'k1': 10, 'k2': 3}}
    IMAGE_FOLDER = 'Image/SSM'

    def __init__(self, data_root: str, test_mode: bool = False, gallery_size: int = 100, **kwargs: Any) -> None:
        self.gallery_size = gallery_size
        super().__init__(data_root, test_mode, **kwargs)

    def annotation_files(self) -> list[Path]:
        root = Path(self.data_root)
        last = f'TestG{self.gallery_size}.mat' if self.test_mode else 'Train.mat'
        return [
            require_file(root / 'annotation/Images.mat', 'all scenes and their boxes'),
            require_file(root / 'annotation/pool.mat', 'the names of the test scenes'),
            require_file(root / PROTOCOLS / last, 'the queries' if self.test_mode else 'the identities'),
        ]

    def options(self) -> dict:
        return {'gallery_size': self.gallery_size} if self.test_mode else {}

    def read_annotations(self) -> Annotations:
        scenes_file, pool_file, last_file = self.annotation_files()
        names, scene_boxes = _read_scenes(scenes_file)
        with expecting(pool_file, 'a cell array of image names'):
            pool = strings(read_mat(pool_file, 'pool'))
        check_names(pool, pool_file)
        if self.test_mode:
            scene = {name: i for i, name in enumerate(names)}
            chosen = [_find(scene, name, pool_file, f'the images of {scenes_file.name}') for name in pool]
        else:
            in_pool = set(pool)
            chosen = [i for i, name in enumerate(names) if name not in in_pool]
        images = [names[i] for i in chosen]
        boxes = np.concatenate([np.zeros((0, 4)), *(scene_boxes[i] for i in chosen)])
        box_images = np.repeat(np.arange(len(chosen)), [len(scene_boxes[i]) for i in chosen])
        index, sizes = {name: i for i, name in enumerate(images)}, image_sizes(self.image_folder(), images)
        if self.test_mode:
            split, labelled = _read_queries(last_file, f'TestG{self.gallery_size}', index, sizes)
            num_identities = len(split['query_images'])
        else:
            num_identities, labelled = _read_identities(last_file, index)
            split = no_queries()
        annotations = Annotations(
            images=np.array(images, dtype=str),
            sizes=sizes,
            cameras=np.zeros(len(images), dtype=np.int64),
            box_images=box_images,
            boxes=xywh_to_xyxy(boxes),
            person_ids=_person_ids(box_images, boxes, labelled, last_file),
            ignored=np.zeros(len(boxes), dtype=bool),
            num_identities=np.array(num_identities),
            **split,
        )
        return annotations.only(visible(annotations.boxes, sizes[box_images], scenes_file))

    @property
    def headline(self) -> str:
        return f'gallery {self.gallery_size}'

    def searches(self) -> dict[str, Callable[[], Search]]:
        root, protocol = Path(self.data_root), self._metainfo['protocol']
        found = [path.stem.removeprefix('TestG') for path in (root / PROTOCOLS).glob('TestG*.mat')]
        sizes = sorted({self.gallery_size, *(int(size) for size in found if size.isdigit() and size[0] != '0')})
        searches: dict[str, Callable[[], Search]] = {
            f'gallery {size}': partial(self._listed, PROTOCOLS / f'TestG{size}.mat', f'TestG{size}') for size in sizes
        }
        searches[f'gallery {self.gallery_size}'] = partial(Search, protocol)
        searches['full set'] = partial(_in_all_images, searches[f'gallery {sizes[0]}'])
        searches |= {name: partial(self._listed, path, key) for name, (path, key) in SUBSETS.items() if (root / path).is_file()}
        if len(hard := self._hard_queries):
            searches['hard'] = lambda: Search(protocol.subset(hard), rows=hard)
        return searches

    def _listed(self, name: Path, key: str) -> Search:
        """Reads a search from a file below the data root that has the structure of ``TestG100.mat``."""
        protocol, path = self._metainfo['protocol'], require_file(Path(self.data_root) / name, 'queries')
        _, pool_file, headline_file = self.annotation_files()

        def read() -> dict[str, np.ndarray]:
            index = {image: i for i, image in enumerate(protocol.images)}
            return _read_queries(path, key, index, np.zeros((len(index), 2)))[0]

        listed = cached(content_key(f'{type(self).__name__} {key}', [pool_file, path], []), set(no_queries()), read)
        rows = _rows_of(protocol, listed['query_images'], listed['query_boxes'], path, headline_file)
        return Search(
            SearchProtocol(
                protocol.images,
                protocol.cameras,
                listed['query_images'],
                listed['query_boxes'],
                protocol.query_person_ids[rows],
                listed['target_queries'],
                listed['target_images'],
                listed['target_boxes'],
                np.split(listed['gallery_images'], listed['gallery_offsets'][1:-1]),
            ),
            rows=None if np.array_equal(rows, np.arange(protocol.num_queries)) else rows,
        )


def _rows_of(protocol: SearchProtocol, images: np.ndarray, boxes: np.ndarray, path: Path, of: Path) -> np.ndarray:
    """Returns the index (n,) in ``protocol`` (read from ``of``) of each query in ``path``: images (n,), boxes (n, 4)."""
    row_of = {
        (image, *box): row
        for row, (image, box) in enumerate(zip(protocol.query_images.tolist(), protocol.query_boxes.tolist(), strict=True))
    }
    rows = []
    for query, (image, box) in enumerate(zip(images.tolist(), boxes.tolist(), strict=True)):
        if (image, *box) not in row_of:
            raise AnnotationError(
                f'{path}: expected queries of {of.name}, got query {query} '
                f'(image {protocol.images[image]!r}, box x1 y1 x2 y2 {box})'
            )
        rows.append(row_of[(image, *box)])
    return np.array(rows, dtype=np.int64)


def _in_all_images(listed: Callable[[], Search]) -> Search:
    search = listed()
    return replace(search, protocol=search.protocol.in_all_images())


class LabelledBoxes(NamedTuple):
    """n boxes with a label each: images (n,), boxes (n, 4) [x y w h], labels (n,)."""

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def _find(index: dict[str, int], name: str, path: Path, where: str) -> int:
    if name not in index:
        raise AnnotationError(f'{path}: expected an image among {where}, got {name!r}')
    return index[name]


def _read_scenes(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """Reads each scene's name and boxes (n, 4) [x y w h]."""
    names, boxes = [], []
    with expecting(path, "'Img' rows of name, count and boxes [x y w h]"):
        for name, _, scene in read_mat(path, 'Img').ravel():
            names.append(str(name.ravel()[0]))
            boxes.append(box_rows([box[0].ravel() for box in scene.ravel()]))
    check_names(names, path)
    return names, boxes


def _read_identities(path: Path, index: dict[str, int]) -> tuple[int, LabelledBoxes]:
    """Reads the number of training identities and their boxes, labelled with the person_id."""
    images, boxes, person_ids = [], [], []
    with expecting(path, "'Train' cells of identities with scenes (image name, box [x y w h])"):
        identities = read_mat(path, 'Train').ravel()
        for person_id, identity in enumerate(identities):
            for scene in identity.ravel()[0][2].ravel():
                images.append(_find(index, str(scene[0].ravel()[0]), path, 'the training images'))
                boxes.append(scene[1].ravel())
                person_ids.append(person_id)
        rows = box_rows(boxes)
    return len(identities), LabelledBoxes(np.array(images, dtype=np.int64), rows, np.array(person_ids, dtype=np.int64))


def _read_queries(
    path: Path, key: str, index: dict[str, int], sizes: np.ndarray
) -> tuple[dict[str, np.ndarray], LabelledBoxes]:
    """Reads the fields of ``no_queries``, and the boxes of all queries and targets, labelled with the query.

    Args:
        index: Maps each test image's name to its index.
        sizes: (G, 2), height and width of the test images; 0 if unknown.
    """
    pool = 'the test images of pool.mat'
    with expecting(path, f'{key!r} rows of Query (image name, box, hard or not) and Gallery (image name, box or empty)'):
        nested = read_nested(path, key, 'Gallery')
        own_images, own_boxes, hard = [], [], []
        for row in nested.rows:
            query = row['Query'].ravel()[0]
            own_images.append(_find(index, str(query[0].ravel()[0]), path, pool))
            own_boxes.append(query[1].ravel())
            hard.append('ishard' in query.dtype.names and query['ishard'].any())
        query_boxes = box_rows(own_boxes)
        name_field, box_field = (nested.records.dtype.names or ())[:2]
        scenes = np.array([_find(index, name.item(), path, pool) for name in nested.records[name_field]], dtype=np.int32)
        sought = np.array([box.size > 0 for box in nested.records[box_field]], dtype=bool)
        boxes = np.zeros((len(scenes), 4))
        boxes[sought] = box_rows([box.ravel() for box in nested.records[box_field][sought]])
    query_images, query_ids = np.array(own_images, dtype=np.int64), np.arange(len(own_images))
    gallery_images, entries = scenes[nested.indices], np.flatnonzero(sought[nested.indices])
    target_queries = np.searchsorted(nested.offsets, entries, 'right') - 1
    target_images, target_boxes = gallery_images[entries].astype(np.int64), boxes[nested.indices[entries]]
    require_visible(xywh_to_xyxy(query_boxes), sizes[query_images], path, 'queries')
    require_visible(xywh_to_xyxy(target_boxes), sizes[target_images], path, 'targets')
    fields = {
        'query_images': query_images,
        'query_boxes': xywh_to_xyxy(query_boxes),
        'query_person_ids': query_ids,
        'hard_queries': np.flatnonzero(hard),
        'gallery_offsets': nested.offsets,
        'gallery_images': gallery_images,
        'target_queries': target_queries,
        'target_images': target_images,
        'target_boxes': xywh_to_xyxy(target_boxes),
    }
    labelled = LabelledBoxes(
        np.concatenate([query_images, target_images]),
        np.concatenate([query_boxes, target_boxes]),
        np.concatenate([query_ids, target_queries]),
    )
    return fields, labelled


def _person_ids(box_images: np.ndarray, boxes: np.ndarray, labelled: LabelledBoxes, path: Path) -> np.ndarray:
    """Returns for each box (N, 4) [x y w h] the label of the equal labelled box in the same image, or -1.

    Of several equal boxes only the first gets the label, and of several labels the first counts. A warning counts labels
    without a box; many of them are an error, because the files do not belong together.
    """
    person_ids = np.full(len(boxes), -1, dtype=np.int64)
    row_of: dict[tuple, int] = {}  # a loop, because the rules for equal boxes depend on their order
    for i, (image, box) in enumerate(zip(box_images.tolist(), boxes.tolist(), strict=True)):
        row_of.setdefault((image, *box), i)
    missing = 0
    for image, box, label in zip(*(column.tolist() for column in labelled), strict=True):
        row = row_of.get((image, *box))
        if row is None:
            missing += 1
        elif person_ids[row] < 0:
            person_ids[row] = label
    count = len(labelled.labels)
    if missing > TOLERATED * count:
        raise AnnotationError(f'{path}: expected labelled boxes that are in Images.mat, {missing} of {count} are not')
    if missing:
        print_log(
            f'{path}: {missing} of {count} labelled boxes are not in Images.mat and carry no label',
            'current',
            logging.WARNING,
        )
    return person_ids
