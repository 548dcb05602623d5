"""Reads a MOTChallenge folder (MOT15, 16, 17, 20) as a person-search data set. Each track is an identity."""

import configparser
import dataclasses
import os.path as osp
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmps.fileio.annotations import AnnotationError, check_names, expecting, finite, require_file, whole
from mmps.fileio.arrays import one_line
from mmps.registry import DATASETS

from .base import Annotations, PersonSearchDataset, no_queries
from .image_boxes import MIN_SIDE, clip, visible, xywh_to_xyxy

INFO = "the sequence's image folder and size"
PEDESTRIAN = 1
PEDESTRIAN_LIKE = (2, 7, 8, 12)  # on a vehicle, static, distractor, reflection


@DATASETS.register_module()
class MOTChallenge(PersonSearchDataset):
    """MOTChallenge: the first frames of each sequence are for training, the rest for testing.

    ``data_root`` holds ``<split>/<sequence>/{img1,gt/gt.txt,seqinfo.ini}``, or the sequences themselves, or is one sequence.
    Only frames whose image exists are used. Pedestrians that are marked to be ignored or hardly visible, and
    pedestrian-like classes, become ignored boxes without an id. Other classes are dropped.

    Every identity that appears again ``frame_gap`` frames or more after its first test frame is a query, from that frame.
    Its gallery is the test frames of all sequences, except those closer than ``frame_gap`` in its own sequence. Training and
    test frames show the same people, so scores here show that a pipeline works, not how well it finds unseen people.

    Args:
        split (str): The folder below ``data_root``.
        sequences (list[str], optional): Names of the sequences. By default all; of a scene that is listed once per detector
            (MOT17's -DPM, -FRCNN, -SDP) only the first.
        train_fraction (float): Fraction of each sequence's frames, from its start, used for training.
        min_visibility (float): Boxes less visible than this are ignored. MOT15 has no visibility: all its boxes count.
        frame_gap (int): Least distance between a query and its gallery frames in the same sequence, in frames.
        gallery_size (int, optional): If given, each gallery has all frames with the target, and random others up to this
            size.
        seed (int): Seed for drawing them.
    """

    METAINFO = {**PersonSearchDataset.METAINFO, 'dataset_type': 'MOTChallenge'}

    def __init__(
        self,
        data_root: str,
        test_mode: bool = False,
        split: str = 'train',
        sequences: list[str] | None = None,
        train_fraction: float = 0.5,
        min_visibility: float = 0.25,
        frame_gap: int = 30,
        gallery_size: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if not 0 <= train_fraction <= 1:
            raise ValueError(f'train_fraction: expected 0 to 1, got {train_fraction}')
        if frame_gap < 1:
            raise ValueError(f'frame_gap: expected at least 1 frame, got {frame_gap}')
        self.split = split
        self.sequences = sequences
        self.train_fraction = train_fraction
        self.min_visibility = min_visibility
        self.frame_gap = frame_gap
        self.gallery_size = gallery_size
        self.seed = seed
        super().__init__(data_root, test_mode, **kwargs)

    def image_folder(self) -> Path:
        """Returns the folder of the sequences."""
        root = Path(osp.abspath(self.data_root))
        if (root / 'seqinfo.ini').is_file():
            return root.parent
        return root / self.split if (root / self.split).is_dir() else root

    def sequence_folders(self) -> list[Path]:
        root, parent = Path(osp.abspath(self.data_root)), self.image_folder()
        if self.sequences is not None:
            check_names(self.sequences, parent)
            folders = [parent / name for name in self.sequences]
        elif parent == root.parent:
            folders = [root]
        else:
            scenes: dict[str, Path] = {}
            for path in sorted(parent.glob('*/seqinfo.ini')):
                scenes.setdefault(re.sub(r'-(DPM|FRCNN|SDP)$', '', path.parent.name), path.parent)
            folders = list(scenes.values())
        if not folders:
            raise FileNotFoundError(f'{parent}: no sequences; expected folders with seqinfo.ini, gt/gt.txt and img1')
        return folders

    def annotation_files(self) -> list[Path]:
        return [
            require_file(folder / name, what)
            for folder in self.sequence_folders()
            for name, what in (('seqinfo.ini', INFO), ('gt/gt.txt', 'its tracks'))
        ]

    def listed_folders(self) -> list[Path]:
        return [folder / _read_info(folder).image_folder for folder in self.sequence_folders()]

    def options(self) -> dict:
        return {
            name: getattr(self, name) for name in ('train_fraction', 'min_visibility', 'frame_gap', 'gallery_size', 'seed')
        } | {'sequences': [folder.name for folder in self.sequence_folders()]}

    def read_annotations(self) -> Annotations:
        parts = [self._read_sequence(i, folder) for i, folder in enumerate(self.sequence_folders())]
        images, sizes, frames, cameras = (np.concatenate([part[k] for part in parts]) for k in range(4))
        starts = np.cumsum([0, *(len(part[0]) for part in parts)])
        box_images = np.concatenate([part[4] + start for part, start in zip(parts, starts[:-1], strict=True)])
        boxes, tracks, ignored = (np.concatenate([part[k] for part in parts]) for k in range(5, 8))
        if not len(images):
            raise AnnotationError(
                f'{self.image_folder()}: expected {"test" if self.test_mode else "training"} frames, '
                f'found none (train_fraction={self.train_fraction})'
            )
        # A track's number is unique only within its sequence, which the camera stands for.
        people = np.stack([cameras[box_images], tracks])[:, ~ignored]
        labels, person_ids = np.unique(people, axis=1, return_inverse=True)
        all_ids = np.full(len(boxes), -1, dtype=np.int64)
        all_ids[~ignored] = person_ids.ravel()
        annotations = Annotations(
            images=images,
            sizes=sizes,
            cameras=cameras,
            box_images=box_images,
            boxes=boxes,
            person_ids=all_ids,
            ignored=ignored,
            num_identities=np.array(labels.shape[1]),
            **no_queries(),
        )
        return self._with_queries(annotations, frames) if self.test_mode else annotations

    def _read_sequence(self, camera: int, folder: Path) -> tuple[np.ndarray, ...]:
        """Returns images, sizes, frames, cameras, box_images, boxes, tracks and ignored of this split."""
        info = _read_info(folder)
        files = sorted(
            (int(path.stem), path.name)
            for path in (folder / info.image_folder).glob(f'*{info.extension}')
            if path.stem.isdecimal()
        )
        cut = round(len(files) * self.train_fraction)
        files = files[cut:] if self.test_mode else files[:cut]
        frames = np.array([frame for frame, _ in files], dtype=np.int64)
        images = np.array([f'{folder.name}/{info.image_folder}/{name}' for _, name in files], dtype=str)
        size = np.array([info.height, info.width], dtype=np.int32)

        rows, classes, visibility = _read_tracks(folder / 'gt/gt.txt')
        used = np.isin(rows[:, 0], frames) & np.isin(classes, (PEDESTRIAN, *PEDESTRIAN_LIKE))
        sizes = np.broadcast_to(size, (len(rows), 2))
        boxes = clip(xywh_to_xyxy(rows[:, 2:6] - [1, 1, 0, 0]), sizes)
        used[used] = visible(boxes[used], sizes[used], folder / 'gt/gt.txt')
        order = np.flatnonzero(used)[np.lexsort((rows[used, 1], rows[used, 0]))]
        rows, boxes = rows[order], boxes[order]
        ignored = (classes[order] != PEDESTRIAN) | (rows[:, 6] == 0) | (visibility[order] < self.min_visibility)
        return (
            images,
            np.tile(size, (len(images), 1)),
            frames,
            np.full(len(images), camera, dtype=np.int64),
            np.searchsorted(frames, rows[:, 0]),
            boxes,
            rows[:, 1].astype(np.int64),
            ignored,
        )

    def _with_queries(self, annotations: Annotations, frames: np.ndarray) -> Annotations:
        """Adds queries, targets and galleries. ``frames`` (G,) are the images' numbers in their sequence."""
        rng = np.random.default_rng(self.seed)
        cameras, box_images = annotations.cameras, annotations.box_images
        queries, targets, galleries = [], [], []
        by_person = np.argsort(annotations.person_ids, kind='stable')
        ends = np.searchsorted(annotations.person_ids[by_person], np.arange(int(annotations.num_identities) + 1))
        for rows in np.split(by_person, ends)[1:-1]:  # a loop, because each identity has its own gallery
            query = box_images[rows[0]]
            far = (cameras != cameras[query]) | (np.abs(frames - frames[query]) >= self.frame_gap)
            rows = np.concatenate([rows[:1], rows[far[box_images[rows]]]])
            if len(rows) == 1:
                continue
            gallery, sought = np.flatnonzero(far), np.unique(box_images[rows[1:]])
            if self.gallery_size is not None:
                others = np.setdiff1d(gallery, sought)
                drawn = min(len(others), max(self.gallery_size - len(sought), 0))
                gallery = np.union1d(sought, rng.choice(others, drawn, replace=False))
            queries.append(rows[0])
            targets.append(rows[1:])
            galleries.append(gallery)
        if not queries:
            raise AnnotationError(
                f'{self.image_folder()}: expected an identity in two test frames at least '
                f'frame_gap={self.frame_gap} apart, found none'
            )
        rows = np.concatenate(targets)
        return dataclasses.replace(
            annotations,
            query_images=box_images[queries],
            query_boxes=annotations.boxes[queries],
            query_person_ids=annotations.person_ids[queries],
            gallery_offsets=np.cumsum([0, *map(len, galleries)]),
            gallery_images=np.concatenate(galleries).astype(np.int32),
            target_images=box_images[rows],
            target_queries=np.repeat(np.arange(len(queries)), [len(found) for found in targets]),
            target_boxes=annotations.boxes[rows],
        )


class SequenceInfo(NamedTuple):
    """The part of ``seqinfo.ini`` that is used: image folder and extension, image size in pixels."""

    image_folder: str
    extension: str
    width: int
    height: int


def _read_info(folder: Path) -> SequenceInfo:
    path = require_file(folder / 'seqinfo.ini', INFO)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text())
        section = parser['Sequence']
        info = SequenceInfo(section['imDir'], section['imExt'], int(section['imWidth']), int(section['imHeight']))
        if not MIN_SIDE <= min(info.width, info.height) <= max(info.width, info.height) < 2**31:
            raise ValueError(f'a size of {info.width} x {info.height} pixels')
        if not re.fullmatch(r'\.\w+', info.extension):
            raise ValueError(f'imExt {info.extension!r}')
    except (configparser.Error, KeyError, ValueError) as error:
        reason = one_line(error)
        raise AnnotationError(f'{path}: expected [Sequence] with imDir, imExt, imWidth, imHeight ({reason})') from error
    check_names([info.image_folder], path)
    return info


def _read_tracks(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads rows (n, 7) of frame, track, x, y, w, h, flag; classes (n,); and visibility (n,).

    MOT15 has no class and visibility: its rows have ten columns, or -1 there. All its boxes count as visible pedestrians.
    """
    with expecting(path, 'rows of frame, id, x, y, w, h, flag, class, visibility'):
        rows = finite(np.loadtxt(path, delimiter=',', ndmin=2))
        if rows.shape[1] not in (9, 10):
            raise ValueError(f'{rows.shape[1]} columns')
        whole(rows[:, :2])
    if rows.shape[1] == 10:
        return rows[:, :7], np.full(len(rows), PEDESTRIAN), np.ones(len(rows))
    unclassed = rows[:, 7] == -1
    return rows[:, :7], np.where(unclassed, PEDESTRIAN, rows[:, 7]), np.where(unclassed, 1.0, rows[:, 8])
