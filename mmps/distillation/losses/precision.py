import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Half types become float32; float32 and float64 stay."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
