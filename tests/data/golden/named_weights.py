"""Draws weights from tensor names, so that two implementations can be given the same network without a checkpoint file."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

# Last layers, scaled down so that boxes stay sensible.
DAMPED = ('rpn.head.cls_logits.weight', 'rpn.head.bbox_pred.weight', 'faster_rcnn_predictor.bbox_pred.weight')


def fill(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, np.ndarray]:
    """Returns float32 arrays that depend only on name, shape and seed. Activations stay of order one through a ResNet.

    Args:
        shapes: Shape of each tensor of a state dict, by its name.
        seed: Another seed draws other weights.
    """
    weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        noise = rng.standard_normal(tuple(shape))
        if name.endswith('num_batches_tracked'):
            value = np.zeros(tuple(shape))
        elif name.endswith('running_mean'):
            value = 0.1 * noise
        elif name.endswith('running_var'):
            value = 1.0 + 0.1 * np.abs(noise)
        elif len(shape) >= 2:
            value = noise * np.sqrt(1.6 / int(np.prod(shape[1:])))
        elif name.endswith('weight'):
            value = 0.5 + 0.05 * noise
        elif name.endswith('scale'):
            value = 1.0 + 0.05 * noise
        else:
            value = 0.05 * noise
        if any(part in name for part in DAMPED):
            value = 0.1 * value
        weights[name] = value.astype(np.float32)
    return weights


def image(seed: int = 0, height: int = 224, width: int = 320) -> np.ndarray:
    """Returns a test picture, uint8 (H, W, 3) RGB."""
    rng = np.random.default_rng([seed, height, width])
    coarse = rng.uniform(0, 255, size=(height // 16, width // 16, 3))
    picture = coarse.repeat(16, axis=0).repeat(16, axis=1) + rng.normal(scale=20, size=(height, width, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)
