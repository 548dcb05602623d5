"""Counts how often a training step makes the host wait for a GPU, on a pretended one."""

from pathlib import Path
from typing import Any

from mmps.gpu.pretended_device import Record, device, pretended_device, to_pretended
from mmps.gpu.random_step import build_model, random_batch, total_loss


def record_step(
    config: str | Path, images: int, size: tuple[int, int], persons: int, changes: dict[str, Any] | None = None
) -> Record:
    """Records forward pass, losses and backward pass of a config's second training step: the first fills caches.

    Args:
        images: Of the batch.
        size: H and W of an image.
        persons: In each image.
        changes: Overrides of the config.

    Returns:
        What a GPU with compiled operators would have been asked for. The copy of the batch and the optimizer do not count.
    """
    device()
    model = to_pretended(build_model(config, changes))
    batch, samples = random_batch(images, size, persons)
    with pretended_device():
        batch, samples = batch.to(device()), [sample.to(device()) for sample in samples]
        total_loss(model, batch, samples).backward()
    with pretended_device() as record:
        total_loss(model, batch, samples).backward()
    return record
