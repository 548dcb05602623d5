"""Base of all person-search data sets: caches flat annotations, and turns them into MMEngine's data list and a protocol.

G images, N boxes, Q queries, T targets, E gallery entries (all queries' galleries, one after another).
"""

import dataclasses
import gc
import logging
import os.path as osp
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import BaseDetDataset
from mmengine.logging import print_log

from mmps.evaluation.protocol import SearchProtocol
from mmps.evaluation.search import Search
from mmps.fileio.annotation_cache import cached, content_key

from .image_boxes import MIN_SIDE, TOLERATED


@dataclasses.dataclass
class Annotations:
    """One split of a data set as flat arrays. Boxes are xyxy in original-image pixels. Boxes of an image are consecutive.

    Attributes:
        images (G,): File names relative to the image folder.
        sizes (G, 2): Height and width; 0 if unknown.
        cameras (G,)
        box_images (N,): Ascending.
        boxes (N, 4): float32.
        person_ids (N,): -1 = unlabelled.
        ignored (N,): True for boxes that count neither as persons nor as background.
        num_identities (): Number of labelled identities.
        query_images (Q,), query_boxes (Q, 4), query_person_ids (Q,)
        hard_queries (H,): Indices of the queries that the data set marks as hard.
        target_queries (T,), target_images (T,), target_boxes (T, 4)
        gallery_images (E,): All queries' galleries, one after another.
        gallery_offsets (Q + 1,): Where each gallery starts. If empty, each query searches every other image, and every
            box there with its id is a target.
    """

    images: np.ndarray
    sizes: np.ndarray
    cameras: np.ndarray
    box_images: np.ndarray
    boxes: np.ndarray
    person_ids: np.ndarray
    ignored: np.ndarray
    num_identities: np.ndarray
    query_images: np.ndarray
    query_boxes: np.ndarray
    query_person_ids: np.ndarray
    hard_queries: np.ndarray
    target_queries: np.ndarray
    target_images: np.ndarray
    target_boxes: np.ndarray
    gallery_images: np.ndarray
    gallery_offsets: np.ndarray

    @classmethod
    def names(cls) -> set[str]:
        return {field.name for field in dataclasses.fields(cls)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(getattr(self, name)) for name in self.names()}

    def box_ends(self) -> np.ndarray:
        """Returns for each image the index (G,) after its last box."""
        return np.searchsorted(self.box_images, np.arange(len(self.images)), side='right')

    def protocol(self) -> SearchProtocol:
        images = self.images.tolist()
        if not len(self.gallery_offsets):
            ends = self.box_ends()[:-1]
            return SearchProtocol.from_identities(
                images,
                self.cameras,
                np.split(self.boxes, ends),
                np.split(self.person_ids, ends),
                self.images[self.query_images].tolist(),
                self.query_boxes,
                self.query_person_ids,
            )
        return SearchProtocol(
            images,
            self.cameras,
            self.query_images,
            self.query_boxes,
            self.query_person_ids,
            self.target_queries,
            self.target_images,
            self.target_boxes,
            np.split(self.gallery_images, self.gallery_offsets[1:-1]),
        )

    def only(self, kept: np.ndarray) -> 'Annotations':
        """Returns the annotations with only the boxes where ``kept`` (N,) is true."""
        rows = {name: getattr(self, name)[kept] for name in ('box_images', 'boxes', 'person_ids', 'ignored')}
        return dataclasses.replace(self, **rows)


def no_queries() -> dict[str, np.ndarray]:
    """Returns empty query, target and gallery fields, for a split without queries."""
    indices = (
        'query_images',
        'query_person_ids',
        'hard_queries',
        'target_queries',
        'target_images',
        'gallery_images',
        'gallery_offsets',
    )
    return {name: np.zeros(0, dtype=np.int64) for name in indices} | {
        name: np.zeros((0, 4), dtype=np.float32) for name in ('query_boxes', 'target_boxes')
    }


class PersonSearchDataset(BaseDetDataset):
    """Base of the person-search data sets, read from their original files.

    A subclass names its annotation files and reads them. It maps the ids once: 0..num_identities-1 for labelled persons, -1
    for the others. ``metainfo`` has ``dataset_type``; ``cbgm``, the k1 and k2 for re-ranking by context; in training
    ``num_identities``; and in test mode ``protocol``, a :class:`SearchProtocol` over the images in the order of their
    ``img_id``. This protocol is the data set's main search. ``search_names`` and ``search`` give all its searches.

    An image that exists but cannot be used (empty, damaged, or with a side of fewer than 8 pixels) is an error in test mode,
    because the scores would change without it. In training the next image replaces it, and a warning counts it once; more
    than 1 percent of such images are an error. An image that OpenCV decodes counts as usable, such as a JPEG that is damaged
    in its middle or, before OpenCV 5, cut off. A missing image is always an error, since it mostly means a wrong folder.

    Args:
        data_root (str): The data set's own folder.
        test_mode (bool): Whether to load the test split with its queries instead of the training split.
        kwargs: Arguments of :class:`mmdet.datasets.BaseDetDataset`. ``filter_cfg`` supports ``filter_empty_gt`` (no box, or
            only ignored ones) and ``min_size``.

    Raises:
        FileNotFoundError: The data root, an annotation file or (when it is read) an image is missing.
        ValueError: An annotation file has wrong content, or images cannot be used. All messages are one line and name the
            file.
    """

    METAINFO = {'classes': ('person',), 'palette': [(220, 20, 60)], 'cbgm': {'k1': 30, 'k2': 4}}
    IMAGE_FOLDER = ''
    _left_out: torch.Tensor
    _hard_queries: np.ndarray

    def __init__(self, data_root: str, test_mode: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault('data_prefix', {'img': self.IMAGE_FOLDER})
        super().__init__(data_root=data_root, test_mode=test_mode, **kwargs)

    def full_init(self) -> None:
        """Loads the data set as MMDetection does, but pauses garbage collection, which would take most of the time."""
        if self._fully_initialized:
            return
        collecting, frozen = gc.isenabled(), gc.get_freeze_count()
        gc.disable()
        gc.freeze()
        try:
            super().full_init()
            # Which images were left out. The data workers share this tensor, and it outlives them.
            self._left_out = torch.zeros(len(self), dtype=torch.bool).share_memory_()
        finally:
            if not frozen:
                gc.unfreeze()
            if collecting:
                gc.enable()

    def search_names(self) -> list[str]:
        """Returns the names that ``search`` accepts. Raises ValueError in training.

        By default these are 'all' for a single camera, else 'all cameras', 'other cameras', 'camera 1' and so on. A camera
        search that has no target is left out.
        """
        return list(self._test_searches())

    @property
    def headline(self) -> str:
        """The name of the data set's main search. Raises ValueError in training."""
        return self.search_names()[0]

    def search(self, name: str) -> Search:
        """Returns a search by its name, over the images and query embeddings of ``metainfo['protocol']``.

        Raises:
            FileNotFoundError: A file of the search is missing.
            ValueError: There is no such search, or a file of it has wrong content.
        """
        searches = self._test_searches()
        if name not in searches:
            raise ValueError(f'{self.data_root}: expected one of the searches {list(searches)}, got {name!r}')
        return searches[name]()

    def _test_searches(self) -> dict[str, Callable[[], Search]]:
        if not self.test_mode:
            raise ValueError(f'{self.data_root}: searches are those of the test split; expected test_mode=True')
        self.full_init()
        return self.searches()

    # For subclasses to implement or override

    def annotation_files(self) -> list[Path]:
        """Returns every file that ``read_annotations`` reads. Raises FileNotFoundError if one is missing."""
        raise NotImplementedError

    def read_annotations(self) -> Annotations:
        """Reads the split from the annotation files."""
        raise NotImplementedError

    def searches(self) -> dict[str, Callable[[], Search]]:
        """Returns a function per search name that builds the search. Needs a loaded test set and reads no large file."""
        protocol = self._metainfo['protocol']
        numbers = np.unique(protocol.cameras).tolist()
        if len(numbers) == 1:
            return {'all': partial(Search, protocol)}
        cameras = {'other cameras': 'other'} | {f'camera {number}': number for number in numbers}
        return {'all cameras': partial(Search, protocol)} | {
            name: partial(Search, protocol, cameras=chosen) for name, chosen in cameras.items() if protocol.sought(chosen).any()
        }

    def options(self) -> dict:
        """Returns the arguments, beside ``test_mode``, that change the result of ``read_annotations``."""
        return {}

    def image_folder(self) -> Path:
        """Returns the folder that image names are relative to."""
        return Path(self.data_prefix['img'])

    def listed_folders(self) -> list[Path]:
        """Returns the folders that hold images."""
        return [self.image_folder()]

    # Implemented here

    def load_data_list(self) -> list[dict]:
        if not osp.isdir(self.data_root):
            raise FileNotFoundError(f'{self.data_root}: no such folder; expected the data root of {type(self).__name__}')
        options = f'{type(self).__name__} test_mode={self.test_mode} {sorted(self.options().items())}'
        key = content_key(options, self.annotation_files(), self.listed_folders())
        annotations = Annotations(**cached(key, Annotations.names(), lambda: self.read_annotations().arrays()))
        if self.test_mode:
            self._metainfo['protocol'] = annotations.protocol()
            self._hard_queries = annotations.hard_queries
        else:
            self._metainfo['num_identities'] = int(annotations.num_identities)
        return self._data_list(annotations)

    def _data_list(self, annotations: Annotations) -> list[dict]:
        # MMDetection expects one dict per box.
        instances = [
            {'bbox': box, 'bbox_label': 0, 'ignore_flag': int(ignored), 'person_id': person_id}
            for box, ignored, person_id in zip(
                annotations.boxes.tolist(), annotations.ignored.tolist(), annotations.person_ids.tolist(), strict=True
            )
        ]
        ends = annotations.box_ends().tolist()
        data_list, start = [], 0
        folder, images = self.image_folder(), annotations.images.tolist()
        for img_id, (name, (height, width), camera, end) in enumerate(
            zip(images, annotations.sizes.tolist(), annotations.cameras.tolist(), ends, strict=True)
        ):
            info = {
                'img_path': osp.join(folder, name),
                'img_id': img_id,
                'img_name': name,
                'cam_id': camera,
                'height': height,
                'width': width,
                'instances': instances[start:end],
            }
            data_list.append(info)
            start = end
        for query_id, (image, box) in enumerate(
            zip(annotations.query_images.tolist(), annotations.query_boxes.tolist(), strict=True)
        ):
            data_list[image].setdefault('queries', []).append({'bbox': box, 'query_id': query_id})
        return data_list

    def filter_data(self) -> list[dict]:
        """Filters by ``filter_cfg``, in training only, as MMDetection does."""
        if self.test_mode or not self.filter_cfg:
            return self.data_list
        filter_empty, min_size = self.filter_cfg.get('filter_empty_gt', False), self.filter_cfg.get('min_size', 0)
        kept = [
            info
            for info in self.data_list
            if not (filter_empty and all(instance['ignore_flag'] for instance in info['instances']))
            and min(info['height'] or min_size, info['width'] or min_size) >= min_size
        ]
        if not kept:
            raise ValueError(
                f'{self.data_root}: expected training images that pass filter_cfg={self.filter_cfg}, '
                f'none of {len(self.data_list)} does'
            )
        return kept

    def prepare_data(self, idx: int) -> dict | None:
        try:
            return super().prepare_data(idx)
        except Exception as error:
            path = self.get_data_info(idx)['img_path']
            expected = f'expected an image of {type(self).__name__}'
            if not osp.isfile(path):
                raise FileNotFoundError(f'{path}: no such file; {expected}') from error
            damage = self._damage(path)
            if damage is None:
                raise
            if self.test_mode:
                raise ValueError(f'{path}: {damage}; {expected}') from error
            self._leave_out(idx, f'{path}: {damage}')
        return self.prepare_data((idx + 1) % len(self))  # not a random image: that would change all later random numbers

    def _damage(self, path: str) -> str | None:
        """Returns why an image file cannot be used, or None if it can."""
        if osp.getsize(path) == 0:
            return 'empty file'
        loaders = [each for each in self.pipeline.transforms if isinstance(each, LoadImageFromFile)]
        try:
            height, width = (loaders or [LoadImageFromFile()])[0]({'img_path': path})['img'].shape[:2]
        except Exception:  # decoders raise many types for a damaged file
            return 'damaged image'
        return None if min(height, width) >= MIN_SIDE else f'{width} x {height} pixels'

    def _leave_out(self, idx: int, damage: str) -> None:
        if self._left_out[idx]:
            return
        self._left_out[idx] = True
        count = int(self._left_out.sum())
        if count > TOLERATED * len(self):
            raise ValueError(
                f'{damage}; expected images of {type(self).__name__}, but {count} of {len(self)} so far cannot '
                f'be used, more than {TOLERATED:.0%}'
            )
        print_log(f'skipped, {count} of {len(self)} images so far: {damage}', 'current', logging.WARNING)
