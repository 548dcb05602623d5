"""Reads PRW from its original files.

Zheng et al., "Person Re-identification in the Wild", CVPR 2017.
"""

import re
from pathlib import Path

import numpy as np

from mmps.fileio.annotations import AnnotationError, check_names, expecting, finite, read_mat, require_file, strings, whole
from mmps.registry import DATASETS

from .base import Annotations, PersonSearchDataset, no_queries
from .image_boxes import clip, image_sizes, require_visible, visible, xywh_to_xyxy

BOX_KEYS = ('box_new', 'anno_file', 'anno_previous')


@DATASETS.register_module()
class PRW(PersonSearchDataset):
    """PRW: 11,816 frames of six cameras, 5,704 to train (482 identities) and 6,112 to test (2,057 queries).

    ``data_root`` holds ``frames``, ``annotations``, ``frame_train.mat``, ``frame_test.mat`` and ``query_info.txt``.
    Each split's ids are made contiguous in sorted order. A query searches every other test frame. Boxes and query boxes are
    clipped to the frame, whose size is read from its header. If the frame is missing, only negative coordinates are clipped.
    """

    METAINFO = {**PersonSearchDataset.METAINFO, 'dataset_type': 'PRW'}
    IMAGE_FOLDER = 'frames'

    def annotation_files(self) -> list[Path]:
        root = Path(self.data_root)
        split = 'test' if self.test_mode else 'train'
        files = [require_file(root / f'frame_{split}.mat', f'the names of the {split} frames')]
        if self.test_mode:
            files.append(require_file(root / 'query_info.txt', 'the queries'))
        return files + sorted((root / 'annotations').glob('*.mat'))

    def read_annotations(self) -> Annotations:
        root = Path(self.data_root)
        images = _read_frames(self.annotation_files()[0], 'img_index_test' if self.test_mode else 'img_index_train')
        sizes = image_sizes(self.image_folder(), images)
        rows_of_images = [_read_boxes(root / 'annotations' / f'{name}.mat') for name in images]
        box_images = np.repeat(np.arange(len(images)), [len(rows) for rows in rows_of_images])
        rows = np.concatenate([np.zeros((0, 5)), *rows_of_images])
        ids = rows[:, 0].astype(np.int64)
        boxes = clip(xywh_to_xyxy(rows[:, 1:]), sizes[box_images])
        if self.test_mode:
            query_ids, query_boxes, query_images = _read_queries(root / 'query_info.txt', images)
            require_visible(xywh_to_xyxy(query_boxes), sizes[query_images], root / 'query_info.txt', 'queries')
            labels = np.unique(np.concatenate([ids[ids >= 0], query_ids]))
            queries = {
                'query_images': query_images,
                'query_person_ids': np.searchsorted(labels, query_ids),
                'query_boxes': clip(xywh_to_xyxy(query_boxes), sizes[query_images]),
            }
        else:
            labels, queries = np.unique(ids[ids >= 0]), {}
        annotations = Annotations(
            images=np.array(images, dtype=str),
            sizes=sizes,
            cameras=np.array([_camera(name) for name in images], dtype=np.int64),
            box_images=box_images,
            boxes=boxes,
            ignored=np.zeros(len(boxes), dtype=bool),
            person_ids=np.where(ids >= 0, np.searchsorted(labels, ids), -1),
            num_identities=np.array(len(labels)),
            **{**no_queries(), **queries},
        )
        return annotations.only(visible(boxes, sizes[box_images], root / 'annotations'))


def _read_frames(path: Path, key: str) -> list[str]:
    with expecting(path, f'{key!r}, a cell array of frame names'):
        frames = strings(read_mat(path, key))
    check_names(frames, path)
    return [_image_name(frame) for frame in frames]


def _image_name(frame: str) -> str:
    return frame if frame.endswith('.jpg') else f'{frame}.jpg'


def _read_boxes(path: Path) -> np.ndarray:
    """Reads a frame's rows (n, 5): [id x y w h]."""
    rows = read_mat(path, *BOX_KEYS)
    with expecting(path, 'rows [id x y w h]'):
        rows = finite(rows)
        if rows.size and (rows.ndim != 2 or rows.shape[1] != 5):
            raise ValueError(f'an array {rows.shape}')
        whole(rows[:, :1])
        return rows.reshape(-1, 5)


def _camera(name: str) -> int:
    match = re.match(r'c(\d)', Path(name).name)
    if match is None:
        raise AnnotationError(f'{name}: expected a frame name that starts with c and the camera, as in c1s1_000151.jpg')
    return int(match.group(1))


def _read_queries(path: Path, images: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads the queries: ids (Q,) as in the file, boxes (Q, 4) [x y w h], and indices (Q,) of their images."""
    index = {name: i for i, name in enumerate(images)}
    ids, boxes, query_images = [], [], []
    with expecting(path, 'text'):
        lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        with expecting(path, f'"id x y w h frame" in line {number}'):
            person_id, x, y, w, h, frame = line.split()
            ids.append(int(person_id))
            if not 0 <= ids[-1] < 2**53:
                raise ValueError(f'id {person_id}')
            boxes.append(finite([float(x), float(y), float(w), float(h)]))
        if _image_name(frame) not in index:
            raise AnnotationError(f'{path}: expected one of the test frames of frame_test.mat in line {number}, got {frame!r}')
        query_images.append(index[_image_name(frame)])
    return np.array(ids, dtype=np.int64), np.array(boxes).reshape(-1, 4), np.array(query_images, dtype=np.int64)
