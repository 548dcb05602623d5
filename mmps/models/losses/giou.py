import torch
from mmdet.models.losses.utils import weight_reduce_loss
from torch import Tensor, nn

from mmps.registry import MODELS


@MODELS.register_module()
class BoxGIoULoss(nn.Module):
    """MMDetection's ``GIoULoss`` (Rezatofighi et al., CVPR 2019), bit for bit, which does not make the host wait for a GPU.

    Args:
        eps: Smallest area that is divided by.
        reduction: 'mean', 'sum' or 'none'.
        loss_weight: Factor of the loss.
    """

    def __init__(self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0):
        super().__init__()
        self.eps = eps
        self.reduction = reduction
        self.loss_weight = loss_weight

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """Boxes (N, 4) twice, x1 y1 x2 y2, and weights (N,) -> scalar, or (N,) without reduction; N may be 0."""
        common = self._area(torch.max(pred[:, :2], target[:, :2]), torch.min(pred[:, 2:], target[:, 2:]))
        hull = self._area(torch.min(pred[:, :2], target[:, :2]), torch.max(pred[:, 2:], target[:, 2:])).clamp(min=self.eps)
        areas = ((each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (pred, target))
        union = (sum(areas) - common).clamp(min=self.eps)
        loss = 1 - (common / union - (hull - union) / hull)
        return self.loss_weight * weight_reduce_loss(loss, weight, self.reduction, avg_factor)

    @staticmethod
    def _area(low: Tensor, high: Tensor) -> Tensor:
        sides = (high - low).clamp(min=0)
        return sides[:, 0] * sides[:, 1]
