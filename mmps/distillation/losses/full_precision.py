import torch
from torch import Tensor, nn

from mmps.models.precision import float32


def full_precision(tensor: Tensor) -> Tensor:
    """Converts half-precision types to float32. Keeps float32 and float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def guard_losses(losses: nn.ModuleDict) -> None:
    """Makes all losses of a distiller, MMRazor's too, get their inputs in float32.

    Otherwise MMRazor's ``L2Loss`` would sum the squares of whole maps in float16, whose largest number is 65,504.
    """
    for loss in losses.values():
        loss.register_forward_pre_hook(_float32_inputs, with_kwargs=True)


def _float32_inputs(loss: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return float32(args), float32(kwargs)
