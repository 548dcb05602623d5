"""Identifies a training set: by a hash of its data and by the settings of its pipeline."""

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

# These transforms are deterministic, and their repr shows all their settings.
REPEATABLE = {LoadImageFromFile, LoadAnnotations, DetLoadAnnotations, LoadPersonAnnotations, Resize, DetResize, Pad, DetPad}
FLIPS = {RandomFlip, DetRandomFlip}
PACKING = {PackDetInputs, PackPersonSearchInputs}


def fingerprint(dataset: PersonSearchDataset) -> str:
    """Returns a SHA-256, in hex, of the annotations. The bytes of the images are not read.

    It covers the data set's class, its images in order (img_id, name, width, height), and their boxes (original-image
    pixels), person_ids and ignore flags.

    Raises:
        ValueError: It is not a person-search data set itself, for example a wrapper around one.
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
    """Returns the settings of a training pipeline whose output for an image is always the same, but for mirroring.

    Settings that do not change the image are left out: how often it is mirrored, and how it is packed.

    Raises:
        ValueError: The pipeline may change an image in other ways, or its samples do not say which image they show and
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
                'train_dataloader: expected RandomFlip once, as the last transform before packing: later '
                'transforms may treat an image and its mirror image differently'
            )
        if type(transform) not in REPEATABLE:
            name = getattr(transform, '__name__', type(transform).__name__)
            raise ValueError(
                f"train_dataloader: {name} may return a different image each time, but a teacher's cached "
                'embeddings are of one scale, crop and colouring (a fixed Resize and a horizontal RandomFlip can be cached)'
            )
    return [str(transform) for transform in transforms]


def _require_person_search(dataset: PersonSearchDataset) -> None:
    if not isinstance(dataset, PersonSearchDataset):
        raise ValueError(f'train_dataloader: expected a person-search data set of its own, got {type(dataset).__name__}')
