"""What a training set is: a hash of its data, and the settings of a pipeline that makes one image of each."""

import hashlib

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile, Pad, RandomFlip, Resize
from mmdet.datasets.transforms import LoadAnnotations as DetLoadAnnotations
from mmdet.datasets.transforms import PackDetInputs
from mmdet.datasets.transforms import Pad as DetPad
from mmdet.datasets.transforms import RandomFlip as DetRandomFlip
from mmdet.datasets.transforms import Resize as DetResize

from .base import PersonSearchDataset
from .transforms import LoadPersonAnnotations, PackPersonSearchInputs

# These give the same image and the same boxes every time, and say all their settings when printed.
REPEATABLE = {LoadImageFromFile, LoadAnnotations, DetLoadAnnotations, LoadPersonAnnotations, Resize, DetResize, Pad, DetPad}
FLIPS = {RandomFlip, DetRandomFlip}
PACKING = {PackDetInputs, PackPersonSearchInputs}


def fingerprint(dataset: PersonSearchDataset) -> str:
    """SHA-256 in hex over the data set's class, its images in order (img_id, name, width, height), and their boxes
    (original-image pixels), person_ids and ignore flags. The images' own bytes are not read.

    Raises:
        ValueError: It is no person-search data set of its own, but a wrapper around one, say.
    """
    _require_person_search(dataset)
    dataset.full_init()
    digest = hashlib.sha256(type(dataset).__name__.encode())
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        instances = info['instances']
        head = [info['img_id'], info['img_name'], int(info['width']), int(info['height']), len(instances)]
        numbers = [[*each['bbox'], each['person_id'], each['ignore_flag']] for each in instances]
        digest.update(f'\n{head}'.encode('utf-8', 'surrogateescape'))
        digest.update(np.array(numbers, dtype='<f8').tobytes())
    return digest.hexdigest()


def repeatable_settings(dataset: PersonSearchDataset) -> list[str]:
    """The settings of a training pipeline that makes one image of each, or that image and its mirror image.

    Left out is what does not change that image: how often it is mirrored, and how it is packed.

    Raises:
        ValueError: An image may come out in more ways than these two, or its sample would not tell which image it is and
            whether it is mirrored.
    """
    _require_person_search(dataset)
    *transforms, packing = dataset.pipeline.transforms or [None]
    if type(packing) not in PACKING or not {'img_id', 'flip', 'flip_direction'} <= set(packing.meta_keys):
        raise ValueError(
            'train_dataloader: expected a pipeline that ends with PackPersonSearchInputs, with img_id, flip and '
            f'flip_direction among its meta_keys, got {packing}'
        )
    if transforms and type(transforms[-1]) in FLIPS:
        flip = transforms.pop()
        if set(np.atleast_1d(flip.direction)) != {'horizontal'}:
            raise ValueError(f'train_dataloader: expected a RandomFlip that is horizontal, got {flip.direction}')
    for transform in transforms:
        if type(transform) in FLIPS:
            raise ValueError(
                'train_dataloader: expected RandomFlip once, as the last transform before packing: what follows '
                'it would not make the mirror image of the image that is not flipped'
            )
        if type(transform) not in REPEATABLE:
            name = getattr(transform, '__name__', type(transform).__name__)
            raise ValueError(
                f"train_dataloader: {name} may give another image each time, a teacher's cached embeddings are "
                'of one scale, crop and colouring (a fixed Resize and a horizontal RandomFlip can be cached)'
            )
    return [str(transform) for transform in transforms]


def _require_person_search(dataset: PersonSearchDataset) -> None:
    if not isinstance(dataset, PersonSearchDataset):
        raise ValueError(f'train_dataloader: expected a person-search data set of its own, got {type(dataset).__name__}')
