"""CUHK-SYSU, from its own files.

Xiao et al., "Joint Detection and Identification Feature Learning for Person Search", CVPR 2017.
"""
import logging
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmps.registry import DATASETS

from .base import Annotations, PersonSearchDataset, no_queries
from .reading import (
    AnnotationError,
    check_names,
    expecting,
    finite,
    image_sizes,
    read_mat,
    require_file,
    strings,
    xywh_to_xyxy,
)


@DATASETS.register_module()
class CUHKSYSU(PersonSearchDataset):
    """18,184 scenes: 11,206 to train (5,532 identities), 6,978 to test (2,900 queries, each with a gallery of its own).

    ``data_root`` holds ``Image/SSM`` and ``annotation``. In training, identity i is the i-th of ``Train.mat``. In test
    mode the box of query i, and those of its targets, have id i; all others have none. Zero-sized boxes are dropped.

    Args:
        gallery_size (int): Which of the published galleries, ``TestG{gallery_size}.mat``; used in test mode only.
    """

    METAINFO = {**PersonSearchDataset.METAINFO, 'dataset_type': 'CUHKSYSU'}
    IMAGE_FOLDER = 'Image/SSM'

    def __init__(self, data_root: str, test_mode: bool = False, gallery_size: int = 100, **kwargs) -> None:
        self.gallery_size = gallery_size
        super().__init__(data_root, test_mode, **kwargs)

    def annotation_files(self) -> list[Path]:
        folder = Path(self.data_root) / 'annotation'
        last = f'TestG{self.gallery_size}.mat' if self.test_mode else 'Train.mat'
        return [require_file(folder / 'Images.mat', 'all scenes and their boxes'),
                require_file(folder / 'pool.mat', 'the names of the test scenes'),
                require_file(folder / 'test/train_test' / last, 'the queries' if self.test_mode else 'the identities')]

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
        index = {name: i for i, name in enumerate(images)}
        if self.test_mode:
            split, labelled = _read_queries(last_file, f'TestG{self.gallery_size}', index)
        else:
            split, labelled = _read_identities(last_file, index)
        annotations = Annotations(
            images=np.array(images, dtype=str), sizes=image_sizes(self.image_folder(), images),
            cameras=np.zeros(len(images), dtype=np.int64), box_images=box_images, boxes=xywh_to_xyxy(boxes),
            person_ids=_person_ids(box_images, boxes, *labelled, last_file),
            ignored=np.zeros(len(boxes), dtype=bool), **split)
        return annotations.without_boxes((boxes[:, 2:] <= 0).any(axis=1))


def _find(index: dict[str, int], name: str, path: Path, where: str) -> int:
    if name not in index:
        raise AnnotationError(f'{path}: expected an image among {where}, got {name!r}')
    return index[name]


def _read_scenes(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """Each scene's name and (n, 4) boxes [x y w h]."""
    names, boxes = [], []
    with expecting(path, "'Img' rows of name, count and boxes [x y w h]"):
        for name, _, scene in read_mat(path, 'Img').ravel():
            names.append(str(name.ravel()[0]))
            boxes.append(finite([box[0].ravel() for box in scene.ravel()]).reshape(-1, 4))
    check_names(names, path)
    return names, boxes


def _read_identities(path: Path, index: dict[str, int]) -> tuple[dict, tuple]:
    """Split fields, and the (image, box [x y w h], person_id) of every labelled box."""
    images, boxes, person_ids = [], [], []
    with expecting(path, "'Train' cells of identities with scenes (image name, box [x y w h])"):
        identities = read_mat(path, 'Train').ravel()
        for person_id, identity in enumerate(identities):
            for scene in identity.ravel()[0][2].ravel():
                images.append(_find(index, str(scene[0].ravel()[0]), path, 'the training images'))
                boxes.append(scene[1].ravel())
                person_ids.append(person_id)
        boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return no_queries() | {'num_persons': np.array(len(identities))}, (images, boxes, person_ids)


def _read_queries(path: Path, key: str, index: dict[str, int]) -> tuple[dict, tuple]:
    """Split fields (queries, galleries, targets), and the (image, box [x y w h], query) of every query and target."""
    query_images, query_boxes, entries, offsets = [], [], [], [0]
    target_queries, target_images, target_boxes = [], [], []
    with expecting(path, f'{key!r} rows of Query (image name, box) and Gallery (image name, box or empty)'):
        for query_id, row in enumerate(read_mat(path, key).ravel()):
            query, gallery = row['Query'].ravel()[0], row['Gallery'].ravel()
            query_images.append(_find(index, str(query[0].ravel()[0]), path, 'the test images of pool.mat'))
            query_boxes.append(query[1].ravel())
            name_field, box_field = gallery.dtype.names[:2]
            scenes = [_find(index, name.item(), path, 'the test images of pool.mat') for name in gallery[name_field]]
            for scene, box in zip(scenes, gallery[box_field], strict=True):
                if box.size:
                    target_queries.append(query_id)
                    target_images.append(scene)
                    target_boxes.append(box.ravel())
            entries.extend(scenes)
            offsets.append(len(entries))
        query_boxes = np.array(query_boxes, dtype=np.float64).reshape(-1, 4)
        target_boxes = np.array(target_boxes, dtype=np.float64).reshape(-1, 4)
    query_images, query_ids = np.array(query_images, dtype=np.int64), np.arange(len(query_images))
    target_queries, target_images = np.array(target_queries, dtype=np.int64), np.array(target_images, dtype=np.int64)
    split = {'query_images': query_images, 'query_boxes': xywh_to_xyxy(query_boxes), 'query_person_ids': query_ids,
                 'num_persons': np.array(len(query_ids)), 'gallery_offsets': np.array(offsets),
                 'gallery_images': np.array(entries, dtype=np.int32), 'target_queries': target_queries,
                 'target_images': target_images, 'target_boxes': xywh_to_xyxy(target_boxes)}
    labelled = (np.concatenate([query_images, target_images]), np.concatenate([query_boxes, target_boxes]),
                np.concatenate([query_ids, target_queries]))
    return split, labelled


def _person_ids(box_images, boxes, images, labelled_boxes, labels, path: Path) -> np.ndarray:
    """(N,) the label of each box [x y w h] that equals a labelled one in the same image, else -1.

    Of several equal boxes the first is the labelled one, and of several labels the first counts.
    """
    person_ids = np.full(len(boxes), -1, dtype=np.int64)
    row = {}  # by hash, box after box: the rules for equal ones need their order
    for i, (image, box) in enumerate(zip(box_images.tolist(), boxes.tolist(), strict=True)):
        row.setdefault((image, *box), i)
    missing = 0
    for image, box, label in zip(images, labelled_boxes.tolist(), labels, strict=True):
        i = row.get((image, *box))
        if i is None:
            missing += 1
        elif person_ids[i] < 0:
            person_ids[i] = label
    if missing:
        print_log(f'{path}: {missing} of {len(labels)} labelled boxes are not in Images.mat and carry no label',
                  'current', logging.WARNING)
    return person_ids
