"""Detectors that find somebody in random images, and what PyTorch finds."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmps.models.detectors.base import PersonSearchDetector

# An export needs all three. The tests that import this file are skipped where one is missing.
for package in ('onnx', 'onnxscript', 'onnxruntime'):
    pytest.importorskip(package, reason=f'{package} is not installed')

KINDS = ('fpn', 'c4', 'nae', 'seqnet', 'alignps', 'alignps-roi')  # of build_detector
GIVEN = np.array([[4, 6, 24, 58], [34, 10, 50, 50], [0, 0, 30.5, 44]], np.float32)


def find_somebody(detector: PersonSearchDetector) -> PersonSearchDetector:
    """Spreads a detector's weights, and makes it prone to see persons."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in detector.named_parameters():
        if weight.ndim > 1 and 'memory' not in name:
            weight.data += 0.02 * torch.randn(weight.shape, generator=generator)
    for name, module in detector.named_modules():
        if name.endswith('conv_cls'):
            module.bias.data.zero_()
        elif name.endswith('fc_cls'):
            module.bias.data[:] = torch.tensor([1.0, -1.0])
    return detector.eval()


def random_images(count: int, height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def predict(detector: PersonSearchDetector, images: list[np.ndarray], given: np.ndarray = GIVEN) -> list[DetDataSample]:
    """Returns what PyTorch finds in images, which are not resized."""
    samples = []
    for image in images:
        size = image.shape[:2]
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
        sample.query_instances = InstanceData(bboxes=torch.from_numpy(given.copy()), query_ids=torch.arange(len(given)))
        samples.append(sample)
    with torch.no_grad():
        return detector.test_step(
            dict(inputs=[torch.from_numpy(each).permute(2, 0, 1) for each in images], data_samples=samples)
        )


def config_for_export(model: dict, scale: tuple[int, int] = (128, 96), **entries) -> Config:
    """Returns a config with what an export reads of it."""
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=scale, keep_ratio=True)]
    return Config(dict(model=model, test_dataloader=dict(dataset=dict(pipeline=pipeline)), **entries))
