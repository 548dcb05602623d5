"""Writing a teacher's embeddings to a folder that :class:`~mmps.distillation.CachedTeacher` reads."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

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
    """Writes what the teacher of a distilled run says of its training set's persons, or goes on where a former call ended.

    The teacher sees each image alone and its mirror image, as the student's preprocessor and the conversion to its own
    normalization give them, in float32.

    Args:
        cfg: Config of the distilled run: teacher, teacher_ckpt, box_jitter and the student's training pipeline.
        out: Folder.
        jitters: How many sets of boxes are embedded; None = 4, or 1 where box_jitter is 0.
        seed: With which their movements are drawn.

    Raises:
        OSError, ValueError: Something is missing, cannot be cached or does not fit what the folder holds. One line.
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
        writer.write(position, embed_image(model, packed, torch.from_numpy(movements.copy())))
    return TeacherCache(out)


def check_config(cfg: Config, jitters: int | None) -> tuple[float, int]:
    """How far the teacher's boxes move, and in how many ways; raises ValueError for a config without a teacher to run, and
    for a number that does not fit."""
    model = cfg.get('model', {})
    if not model.get('teacher') or not model.get('teacher_ckpt'):
        raise ValueError(f'{name_of(cfg)}: expected the config of a distilled run, with model.teacher and model.teacher_ckpt')
    # A student that embeds the boxes that it detects has a teacher that embeds the true ones.
    box_jitter = model.get('box_jitter', 0.0) if model.get('student_boxes', 'shared') == 'shared' else 0.0
    if jitters is None:
        jitters = 4 if box_jitter else 1
    if jitters < 1 or (jitters > 1 and not box_jitter):
        raise ValueError(f"--jitters {jitters}: expected 1 or more; 1 where the teacher's boxes do not move")
    return box_jitter, jitters


def name_of(cfg: Config) -> str:
    return os.path.relpath(cfg.filename)


def describe(cfg: Config, dataset: PersonSearchDataset, model: PersonSearchDistill, **settings) -> Header:
    """The header of the cache that is asked for; settings: box_jitter, jitters, seed."""
    teacher, preprocessor = model.teacher.network, model.student.data_preprocessor
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
    """(M,) the persons of each image that training samples have: ignored boxes are packed apart."""
    return np.array(
        [sum(not each['ignore_flag'] for each in dataset.get_data_info(index)['instances']) for index in range(len(dataset))]
    )


def start(dataset: PersonSearchDataset, header: Header) -> dict[str, np.ndarray]:
    """A cache's arrays that need no teacher. An image without persons is done."""
    counts, amount = count_persons(dataset), header.box_jitter
    return {
        'image_ids': np.array([dataset.get_data_info(index)['img_id'] for index in range(len(dataset))]),
        'offsets': np.concatenate([[0], counts.cumsum()]),
        'movements': np.random.default_rng(header.seed).uniform(-amount, amount, (header.jitters, header.boxes, 4)),
        'done': counts == 0,
    }


def load_images(dataset: PersonSearchDataset, positions: np.ndarray, num_workers: int) -> Iterator[dict]:
    """The samples at these positions of the data set, as its pipeline makes them when it mirrors none.

    Raises:
        ValueError: An image cannot be read; MMEngine gives another one in its place.
    """
    dataset.pipeline.transforms = [each for each in dataset.pipeline.transforms if type(each) not in FLIPS]
    loader = DataLoader(Subset(dataset, positions.tolist()), batch_size=None, num_workers=num_workers)
    for position, packed in zip(positions, loader, strict=True):
        info = dataset.get_data_info(position)
        if packed['data_samples'].img_id != info['img_id']:
            raise ValueError(f'{info["img_path"]}: expected an image that can be read')
        yield packed


@torch.no_grad()
def embed_image(model: PersonSearchDistill, packed: dict, movements: Tensor) -> np.ndarray:
    """The embeddings of an image's persons, their boxes moved, from one pass over the image and its mirror image.

    Args:
        packed: The image's sample.
        movements: (J, N, 4).

    Returns:
        (2, J, N, D).
    """
    image, sample = packed['inputs'], packed['data_samples']
    batch = model.student.data_preprocessor({'inputs': [image, image.flip(-1)], 'data_samples': [sample, sample]})
    boxes = person_boxes(batch['data_samples'])[0]
    if len(boxes) != movements.shape[1]:
        raise ValueError(f'{sample.img_path}: found {len(boxes)} persons, expected the {movements.shape[1]} that are annotated')
    boxes = move_edges(boxes, movements.to(boxes.device))
    teacher = model.teacher.network
    feats = teacher.extract_feat(model.teacher.convert(batch['inputs'], batch['data_samples']))
    embeddings = teacher.embed(feats, [each.flatten(0, 1) for each in (boxes, mirror_boxes(boxes, sample.img_shape[1]))])
    return torch.stack(embeddings).unflatten(1, movements.shape[:2]).float().cpu().numpy()
