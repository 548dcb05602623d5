"""Writes a teacher's embeddings to a folder that :class:`~mmps.distillation.CachedTeacher` reads."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from mmps.datasets import PersonSearchDataset
from mmps.datasets.fingerprint import FLIPS, fingerprint, repeatable_settings
from mmps.distillation import PersonSearchDistill
from mmps.distillation.teachers.cache_files import FORMAT, CacheWriter, Header, TeacherCache, command, create_cache
from mmps.distillation.teachers.image_conversion import normalization
from mmps.fileio.checkpoint import read_weights, weights_fingerprint
from mmps.registry import DATASETS, MODELS
from mmps.structures.persons import mirror_boxes, move_edges, person_boxes


def cache_teacher(cfg: Config, out: Path, jitters: int | None = None, seed: int = 0) -> TeacherCache:
    """Writes the embeddings that a distilled run's teacher gives the persons of the training set.

    A call that was interrupted is continued by the next one with the same folder. The teacher sees one image at a time, and its
    mirror image, in float32. The student's preprocessor makes the images, which are then converted to the teacher's
    normalization.

    Args:
        cfg: Config of the distilled run: teacher, teacher_ckpt, box_jitter and the student's training pipeline.
        out: Folder for the cache.
        jitters: How many sets of moved boxes are embedded; ``None``: 4, or 1 if box_jitter is 0.
        seed: The movements of the boxes are drawn with it.

    Returns:
        The finished cache, opened.

    Raises:
        OSError: A file is missing or cannot be written.
        ValueError: The config has no teacher that can be cached, or the folder holds a cache of something else.
    """
    box_jitter, jitters = check_config(cfg, jitters)
    with DefaultScope.overwrite_default_scope('mmps'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        model = MODELS.build(cfg.model).to(get_device()).eval()
    header = describe(cfg, dataset, model, box_jitter=box_jitter, jitters=jitters, seed=seed)
    if not (out / 'header.json').is_file():
        create_cache(out, header, lut=model.teacher.memory.lut.cpu().numpy(), **start(dataset, header))
    cache = TeacherCache(out)
    cache.command = command(out, header)
    cache.require(**{name: value for name, value in asdict(header).items() if name not in ('teacher', 'config')})

    missing, writer = np.flatnonzero(~cache.done), CacheWriter(cache)
    images = load_images(dataset, missing, cfg.train_dataloader.get('num_workers', 0))
    done = len(dataset) - len(missing)
    progress = tqdm(images, desc='teacher', unit='image', initial=done, total=len(dataset), mininterval=1)
    for position, packed in zip(missing, progress, strict=True):
        movements = cache.movements[:, cache.offsets[position] : cache.offsets[position + 1]]
        writer.write(int(position), embed_image(model, packed, torch.from_numpy(movements.copy())))
    return TeacherCache(out)


def check_config(cfg: Config, jitters: int | None) -> tuple[float, int]:
    """Returns box_jitter and the number of sets of boxes.

    Raises:
        ValueError: The config has no teacher to run, or ``jitters`` does not fit it.
    """
    model = cfg.get('model', {})
    if not model.get('teacher') or not model.get('teacher_ckpt'):
        raise ValueError(f'{name_of(cfg)}: expected the config of a distilled run, with model.teacher and model.teacher_ckpt')
    # If the student embeds the boxes that it detects, the teacher embeds the annotated ones.
    box_jitter = model.get('box_jitter', 0.0) if model.get('student_boxes', 'shared') == 'shared' else 0.0
    if jitters is None:
        jitters = 4 if box_jitter else 1
    if jitters < 1 or (jitters > 1 and not box_jitter):
        raise ValueError(f"--jitters {jitters}: expected 1 or more; 1 where the teacher's boxes do not move")
    return box_jitter, jitters


def name_of(cfg: Config) -> str:
    return os.path.relpath(cfg.filename)


def describe(cfg: Config, dataset: PersonSearchDataset, model: PersonSearchDistill, **settings: Any) -> Header:
    """Returns the header of the cache that is asked for.

    Args:
        settings: box_jitter, jitters and seed.

    Raises:
        ValueError: The teacher has no embeddings, or the student's images differ from one epoch to the next.
    """
    teacher: Any = model.teacher.network  # of any class: what is asked of it is checked here
    preprocessor = model.student.data_preprocessor
    if not hasattr(teacher, 'embed'):
        raise ValueError(
            f'{name_of(cfg)}: the teacher is a {type(teacher).__name__}, which has no re-id branch: expected a '
            'person-search detector'
        )
    if getattr(preprocessor, 'batch_augments', None):
        raise ValueError(
            f"{name_of(cfg)}: the student's data_preprocessor has batch_augments, which give other images each "
            'time: cached embeddings are of one scale'
        )
    mean, std = (values.flatten().tolist() for values in normalization(teacher.data_preprocessor))
    identities, embed_dims = teacher.memory.lut.shape
    return Header(
        format=FORMAT,
        data=fingerprint(dataset),
        transforms=repeatable_settings(dataset),
        weights=weights_fingerprint(read_weights(cfg.model.teacher_ckpt, 'teacher_ckpt')),
        normalization=dict(
            mean=mean,
            std=std,
            other_channel_order=teacher.data_preprocessor._channel_conversion,
            pad_size_divisor=preprocessor.pad_size_divisor,
        ),
        images=len(dataset),
        boxes=int(count_persons(dataset).sum()),
        identities=identities,
        embed_dims=embed_dims,
        teacher=cfg.model.teacher.get('cfg_path') or cfg.model.teacher.type,
        config=name_of(cfg),
        **settings,
    )


def count_persons(dataset: PersonSearchDataset) -> np.ndarray:
    """Returns (M,) the number of persons of each image. Ignored boxes do not count, as in training samples."""
    return np.array(
        [sum(not each['ignore_flag'] for each in dataset.get_data_info(index)['instances']) for index in range(len(dataset))]
    )


def start(dataset: PersonSearchDataset, header: Header) -> dict[str, np.ndarray]:
    """Returns the cache's arrays that need no teacher. An image without persons counts as done."""
    counts, amount = count_persons(dataset), header.box_jitter
    return {
        'image_ids': np.array([dataset.get_data_info(index)['img_id'] for index in range(len(dataset))]),
        'offsets': np.concatenate([[0], counts.cumsum()]),
        'movements': np.random.default_rng(header.seed).uniform(-amount, amount, (header.jitters, header.boxes, 4)),
        'done': counts == 0,
    }


def load_images(dataset: PersonSearchDataset, positions: np.ndarray, num_workers: int) -> Iterator[dict]:
    """Yields the samples at these positions of the data set. The pipeline runs without its flips.

    Raises:
        ValueError: An image cannot be read. MMEngine would return another one instead.
    """
    dataset.pipeline.transforms = [each for each in dataset.pipeline.transforms if type(each) not in FLIPS]
    loader: DataLoader = DataLoader(Subset(dataset, positions.tolist()), batch_size=None, num_workers=num_workers)
    for position, packed in zip(positions, loader, strict=True):
        info = dataset.get_data_info(position)
        if packed['data_samples'].img_id != info['img_id']:
            raise ValueError(f'{info["img_path"]}: expected an image that can be read')
        yield packed


@torch.no_grad()
def embed_image(model: PersonSearchDistill, packed: dict, movements: Tensor) -> np.ndarray:
    """Embeds an image's persons with moved boxes, in one pass over the image and its mirror image.

    Args:
        model: The distilled run's model, of which the teacher is asked.
        packed: The image's sample.
        movements: (J, N, 4), in parts of the boxes' sizes.

    Returns:
        (2, J, N, D).
    """
    image, sample = packed['inputs'], packed['data_samples']
    batch = model.student.data_preprocessor({'inputs': [image, image.flip(-1)], 'data_samples': [sample, sample]})
    boxes = person_boxes(batch['data_samples'])[0]
    if len(boxes) != movements.shape[1]:
        raise ValueError(f'{sample.img_path}: found {len(boxes)} persons, expected the {movements.shape[1]} that are annotated')
    boxes = move_edges(boxes, movements.to(boxes.device))
    teacher: Any = model.teacher.network
    feats = teacher.extract_feat(model.teacher.convert(batch['inputs'], batch['data_samples']))
    embeddings = teacher.embed(
        feats, [each.flatten(0, 1) for each in (boxes, mirror_boxes(boxes, sample.img_shape[1]))], in_place=True
    )
    return torch.stack(embeddings).unflatten(1, movements.shape[:2]).float().cpu().numpy()
