"""A training step on random images, without a data set."""

from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from mmps.registry import MODELS

NUM_IDENTITIES = 100


def build_model(config: str | Path, changes: dict[str, Any] | None = None) -> BaseModel:
    """Builds the model of a config for training, with random weights. A teacher gets random weights too.

    Args:
        config: A config file.
        changes: Overrides of the config, by dotted names.
    """
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(changes or {})
    register_all_modules(init_default_scope=False)
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = None
    without_files(cfg.model)
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(cfg.model)
    memories = [module for module in model.modules() if hasattr(module, 'companions') and module.num_identities == 0]
    for memory in memories:
        if memory.num_identities == 0:
            memory.resize(NUM_IDENTITIES)
    for memory in memories:
        torch.nn.init.normal_(memory.lut)
    return model.train()


def without_files(part: Any) -> None:
    """Removes the files that pretrained weights would come from."""
    if isinstance(part, dict):
        if isinstance(part.get('init_cfg'), dict) and part['init_cfg'].get('type') == 'Pretrained':
            part['init_cfg'] = None
        for each in part.values():
            without_files(each)


def random_batch(images: int, size: tuple[int, int], persons: int, seed: int = 0) -> tuple[Tensor, list[DetDataSample]]:
    """Draws images (B, 3, H, W), and samples with ``persons`` boxes each. A fifth of the persons has no identity.

    Args:
        images: B.
        size: H and W.
        persons: In each image.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    samples = []
    for index in range(images):
        centres = torch.rand(persons, 2, generator=generator) * torch.tensor([width, height])
        sides = (0.1 + 0.3 * torch.rand(persons, 1, generator=generator)) * height * torch.tensor([0.4, 1.0])
        corners = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
        boxes = torch.stack([corners[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], dim=1)
        ids = torch.randint(NUM_IDENTITIES, (persons,), generator=generator)
        ids[:: max(persons, 5)] = index  # images share no person by chance alone
        ids[torch.rand(persons, generator=generator) < 0.2] = -1
        shape = dict(img_shape=size, batch_input_shape=size, pad_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=dict(img_id=index, img_path=f'{index}.jpg', flip=False, flip_direction=None, **shape))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(persons, dtype=torch.long), person_ids=ids)
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return torch.randn(images, 3, height, width, generator=generator), samples


def total_loss(model: BaseModel, images: Tensor, samples: list[DetDataSample]) -> Tensor:
    """Returns the sum of the losses of a batch."""
    total, _ = model.parse_losses(model(images, samples, mode='loss'))
    return total
