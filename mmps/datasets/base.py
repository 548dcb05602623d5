"""What every person-search data set shares: flat annotations, cached, turned into MMEngine's data list and a protocol.

G images, N boxes, Q queries, T targets, E gallery entries (all queries' galleries, one after another).
"""

import dataclasses
import gc
import logging
import os.path as osp
from collections.abc import Callable
from functools import partial
from pathlib import Path

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
    """One split of a data set as flat arrays. Boxes are xyxy in original-image pixels, an image's boxes consecutive.

    Attributes:
        images (G,): Names below the image folder.
        sizes (G, 2): Height and width; 0 where unknown.
        cameras (G,)
        box_images (N,): Ascending.
        boxes (N, 4): float32.
        person_ids (N,): -1 unlabelled.
        ignored (N,): Neither persons to find nor background.
        num_identities (): Labelled identities.
        query_images (Q,), query_boxes (Q, 4), query_person_ids (Q,)
        hard_queries (H,): Those that the data set marks as hard.
        target_queries (T,), target_images (T,), target_boxes (T, 4)
        gallery_images (E,): All queries' galleries, one after another.
        gallery_offsets (Q + 1,): Where each gallery starts; empty when every other image is a query's gallery, and
            every box there with its id a target.
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
        """(G,) one past the last box of each image."""
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
        """With the boxes where ``kept`` (N,) is true."""
        rows = {name: getattr(self, name)[kept] for name in ('box_images', 'boxes', 'person_ids', 'ignored')}
        return dataclasses.replace(self, **rows)


def no_queries() -> dict[str, np.ndarray]:
    """The query, target and gallery fields of a split without any."""
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

    A subclass says which files hold its annotations and how they read; ids are mapped there, once: 0..num_identities-1
    for labelled persons, -1 for the others. ``metainfo`` has ``dataset_type``; ``cbgm``, the k1 and k2 with which a search
    is re-ranked by context; in training ``num_identities``; and in test mode ``protocol``, a :class:`SearchProtocol` over the
    images in the order of their ``img_id``. That is the search by which the data set is known; ``search_names`` and
    ``search`` give all that it offers.

    An image that is there but cannot be used (empty, damaged, or with a side of fewer than 8 pixels) is an error in test mode:
    scores without it would be others. In training the next image comes in its place, and a warning counts it, once;
    more than 1 percent of the images are an error. What OpenCV decodes counts as sound: a JPEG that is damaged in its middle,
    and before OpenCV 5 one that is cut off. A missing image always is an error, since it mostly means a wrong folder.

    Args:
        data_root (str): The data set's own folder.
        test_mode (bool): The test split with its queries instead of the training split.
        kwargs: As for :class:`mmdet.datasets.BaseDetDataset`; ``filter_cfg`` knows ``filter_empty_gt`` (no box, or only
            ignored ones) and ``min_size``.

    Raises:
        FileNotFoundError: A missing data root or annotation file, or, when it is read, an image.
        ValueError: An annotation file that does not hold what it should, or images that cannot be used. All messages are one
            line and name the file.
    """

    METAINFO = {'classes': ('person',), 'palette': [(220, 20, 60)], 'cbgm': {'k1': 30, 'k2': 4}}
    IMAGE_FOLDER = ''

    def __init__(self, data_root: str, test_mode: bool = False, **kwargs) -> None:
        kwargs.setdefault('data_prefix', {'img': self.IMAGE_FOLDER})
        super().__init__(data_root=data_root, test_mode=test_mode, **kwargs)

    def full_init(self) -> None:
        """As mmdet's, but out of reach of the garbage collector, which takes most of the time searching what stays."""
        if self._fully_initialized:
            return
        collecting, frozen = gc.isenabled(), gc.get_freeze_count()
        gc.disable()
        gc.freeze()
        try:
            super().full_init()
            # Of each image whether it was left out. Data workers share it, and it outlives them.
            self._left_out = torch.zeros(len(self), dtype=torch.bool).share_memory_()
        finally:
            if not frozen:
                gc.unfreeze()
            if collecting:
                gc.enable()

    def search_names(self) -> list[str]:
        """The searches that ``search`` knows; raises ValueError in training.

        Unless a subclass says otherwise: 'all cameras', 'other cameras', and 'camera 1' and so on, where images come from
        several cameras and a target is left; otherwise 'all'.
        """
        return list(self._test_searches())

    @property
    def headline(self) -> str:
        """The name of the search by which the data set is known; raises ValueError in training."""
        return self.search_names()[0]

    def search(self, name: str) -> Search:
        """A search by its name, over the images and query embeddings of ``metainfo['protocol']``.

        Raises:
            FileNotFoundError, ValueError: No such search, or a file of it that is missing or does not hold what it should.
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

    # What a subclass says

    def annotation_files(self) -> list[Path]:
        """Every file that ``read_annotations`` takes something from; raises FileNotFoundError for a missing one."""
        raise NotImplementedError

    def read_annotations(self) -> Annotations:
        raise NotImplementedError

    def searches(self) -> dict[str, Callable[[], Search]]:
        """What makes each search, by name. In test mode, when the data set is loaded; itself it reads no large file."""
        protocol = self._metainfo['protocol']
        numbers = np.unique(protocol.cameras).tolist()
        if len(numbers) == 1:
            return {'all': partial(Search, protocol)}
        cameras = {'other cameras': 'other'} | {f'camera {number}': number for number in numbers}
        return {'all cameras': partial(Search, protocol)} | {
            name: partial(Search, protocol, cameras=chosen) for name, chosen in cameras.items() if protocol.sought(chosen).any()
        }

    def options(self) -> dict:
        """The arguments, beside ``test_mode``, that decide what ``read_annotations`` gives."""
        return {}

    def image_folder(self) -> Path:
        """The folder that image names are relative to."""
        return Path(self.data_prefix['img'])

    def listed_folders(self) -> list[Path]:
        """The folders that hold images."""
        return [self.image_folder()]

    # What the base makes of it

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
        # MMDetection's data list is a dict a box: this is where the flat arrays have to be taken apart.
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
        """As MMDetection: in training only, and only what ``filter_cfg`` asks for."""
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

    def prepare_data(self, idx: int):
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
        return self.prepare_data((idx + 1) % len(self))  # no random draw: everything else stays as it would be

    def _damage(self, path: str) -> str | None:
        """Why an image file cannot be used, if it cannot."""
        if osp.getsize(path) == 0:
            return 'empty file'
        loaders = [each for each in self.pipeline.transforms if isinstance(each, LoadImageFromFile)]
        try:
            height, width = (loaders or [LoadImageFromFile()])[0]({'img_path': path})['img'].shape[:2]
        except Exception:  # decoders fail in many ways on a damaged file; all of them mean the same
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
