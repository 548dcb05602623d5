"""Counts the memory that a training step keeps for its backward pass. Needs no GPU."""

from dataclasses import dataclass

import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from torch import Tensor

from mmps.benchmark.random_step import total_loss

RESERVE = 2**30  # for CUDA itself, workspaces and the gradients of maps
BYTES_OF_OPTIMIZER = {'SGD': 4, 'Adam': 8, 'AdamW': 8}  # of each trained float32 weight, with momentum


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step.

    Attributes:
        saved: Tensors that the backward pass needs, for each image.
        weights: Weights and buffers, and gradients and the optimizer's state of the trained ones.
    """

    saved: float
    weights: int

    def images_that_fit(self, capacity: int) -> int:
        """Returns the largest batch whose tensors fit into ``capacity`` bytes, with a reserve of 1 GiB."""
        return max(int((capacity - RESERVE - self.weights) // self.saved), 0)


def step_memory(
    model: BaseModel,
    images: Tensor,
    samples: list[DetDataSample],
    dtype: torch.dtype | None = None,
    optimizer: str = 'SGD',
) -> StepMemory:
    """Runs the forward pass and the losses of a batch and counts the tensors that the backward pass needs.

    Tensors that share memory count once; weights and buffers are counted apart. Workspaces of kernels are not seen.

    Args:
        dtype: Of autocast, None = without.
        optimizer: Its type.
    """
    own = {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}  # holds the memory, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(images.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        loss = total_loss(model, images, samples)
    activations = sum(storage.nbytes() for storage in saved.values())
    del loss
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    stored = sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers()))
    return StepMemory(activations / len(images), stored + trained * (4 + BYTES_OF_OPTIMIZER[optimizer]))
