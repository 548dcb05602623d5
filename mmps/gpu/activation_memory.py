"""Counts the memory that a training step keeps for its backward pass. Needs no GPU."""

from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from mmps.compat import torch_kernels
from mmps.gpu.random_step import total_loss

aten = torch.ops.aten
PRODUCTS = {aten.convolution, aten.mm, aten.addmm, aten.bmm, aten.baddbmm}
RESERVE = 2**30  # for CUDA itself, workspaces and the gradients of maps
BYTES_OF_OPTIMIZER = {'SGD': 4, 'Adam': 8, 'AdamW': 8}  # of each trained float32 weight, with momentum


class _Shapes(TorchDispatchMode):
    """Gives convolutions and matrix products zeros of the right shape: only their memory matters, and they take the time."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if operator.overloadpacket not in PRODUCTS or kwargs:
            return operator(*args, **(kwargs or {}))
        out = operator(*(each.to('meta') if isinstance(each, Tensor) else each for each in args))
        return torch.zeros_like(out, device='cpu')


def _deformed(feats: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, *_: Any) -> Tensor:
    """Takes the place of a deformable convolution, likewise."""
    return feats.new_zeros(len(feats), len(weight), *offset.shape[2:])


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

    Tensors that share memory count once; weights and buffers are counted apart. Workspaces of kernels are not seen. Products
    are not computed, so this takes seconds, and the losses mean nothing.

    Args:
        dtype: Of autocast, None = without.
        optimizer: Its type.
    """
    own = {StorageWeakRef(value.untyped_storage()).cdata for value in (*model.parameters(), *model.buffers())}
    # The references keep each identity unique, not the memory: there is no backward pass, so nothing has to be kept.
    saved: dict[int, tuple[StorageWeakRef, int]] = {}

    def note(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)
        if reference.cdata not in own:
            saved[reference.cdata] = reference, storage.nbytes()

    with (
        _Shapes(),
        patch.object(torch_kernels, 'deform_conv', _deformed),
        torch.autograd.graph.saved_tensors_hooks(note, lambda nothing: nothing),
        torch.autocast(images.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        total_loss(model, images, samples)
    activations = sum(size for _, size in saved.values())
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    stored = sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers()))
    return StepMemory(activations / len(images), stored + trained * (4 + BYTES_OF_OPTIMIZER[optimizer]))
