import torch
from torch import Tensor, nn

from mmps.models.precision import float32


def full_precision(tensor: Tensor) -> Tensor:
    """Half types become float32; float32 and float64 stay."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def guard_losses(losses: nn.ModuleDict) -> None:
    """A distiller's losses, MMRazor's too, get float32 under autocast: its ``L2Loss`` would sum the squares of whole maps in
    float16, which ends at 65,504."""
    for loss in losses.values():
        loss.register_forward_pre_hook(_float32_inputs, with_kwargs=True)


def _float32_inputs(loss: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return float32(args), float32(kwargs)
