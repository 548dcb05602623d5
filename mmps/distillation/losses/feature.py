"""Shapes: B images, C channels, (H, W) a feature map, P persons of the batch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn

from mmps.dist import mean_over_ranks
from mmps.distillation.losses.precision import full_precision
from mmps.registry import MODELS


def matched_maps(name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both (B, C, H, W), in float32 at least: a teacher's map of another (H, W) is averaged over the student's cells.

    Raises:
        ValueError: They differ in images or channels.
    """
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            f'{name}: student features {tuple(student.shape)} and teacher features {tuple(teacher.shape)} '
            'differ in images or channels; a connector must match their channels'
        )
    student, teacher = full_precision(student), full_precision(teacher)
    return student, teacher if teacher.shape == student.shape else F.adaptive_avg_pool2d(teacher, student.shape[2:])


def person_weights(boxes: Sequence[Tensor], size: tuple[int, int], stride: float) -> Tensor:
    """(B, H, W): at a cell that persons cover 1 / area of the smallest of them in cells, elsewhere 0.

    Args:
        boxes: One (N_i, 4) tensor an image, x1 y1 x2 y2 in input-image pixels.
        size: (H, W).
        stride: Input-image pixels a cell.
    """
    height, width = size
    image = torch.cat([torch.full((len(b),), i, device=b.device) for i, b in enumerate(boxes)])
    x1, y1, x2, y2 = (torch.cat(list(boxes)) / stride).T[:, :, None]
    columns = torch.arange(width, device=image.device)
    rows = torch.arange(height, device=image.device)
    # A cell is covered if the box overlaps it: a box thinner than a cell is not lost between two cell centres.
    inside = ((rows + 1 > y1) & (rows < y2))[:, :, None] & ((columns + 1 > x1) & (columns < x2))[:, None, :]
    weights = inside / inside.sum((1, 2), keepdim=True).clamp(min=1)
    flat = weights.new_zeros(len(boxes), height * width)
    flat.scatter_reduce_(0, image[:, None].expand(-1, height * width), weights.flatten(1), 'amax')
    return flat.view(-1, height, width)


@MODELS.register_module()
class PersonFeatureLoss(nn.Module):
    """Feature-based distillation with persons and background weighed apart (GDPS; the split is FGD's, CVPR 2022, eq. 5 to 8).

    Both maps are standardised a channel first, over the batch, so that the loss compares patterns and not magnitudes (PKD,
    NeurIPS 2022, eq. 3). Then the mean squared difference over channels is averaged over each person's cells and over the
    persons, and over the background cells: every person counts alike, whatever its area. The batch is that of all ranks: for
    the channels' statistics each map takes two collectives of 4 C bytes, the student's two more in the backward pass, and
    there are four of 4 bytes.

    Args:
        stride: Input-image pixels a cell of this level.
        person_weight: Factor of the persons' term.
        background_weight: Factor of the background's term.
        loss_weight: Factor of the sum.
    """

    def __init__(self, stride: float, person_weight: float = 1.0, background_weight: float = 0.5, loss_weight: float = 1.0):
        super().__init__()
        self.stride = stride
        self.person_weight = person_weight
        self.background_weight = background_weight
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C, H, W) twice, and one (N_i, 4) tensor of boxes an image, input-image pixels -> scalar >= 0.

        A teacher's map of another (H, W) is averaged over the student's cells.
        """
        student, teacher = matched_maps('PersonFeatureLoss', student, teacher)
        with torch.autocast(student.device.type, enabled=False):
            difference = F.mse_loss(standardise(student), standardise(teacher), reduction='none').mean(1)
            weights = person_weights(boxes, difference.shape[1:], self.stride)
            background = (weights == 0).to(difference)
            persons = (difference * weights).sum() / mean_over_ranks(weights.sum(), at_least=1e-6)
            rest = (difference * background).sum() / mean_over_ranks(background.sum(), at_least=1)
            return self.loss_weight * (self.person_weight * persons + self.background_weight * rest)


def standardise(feature: Tensor) -> Tensor:
    """(B, C, H, W) -> the same, every channel with mean 0 and variance 1 over the batch of all ranks."""
    if get_world_size() == 1:
        return F.batch_norm(feature, None, None, training=True)
    cells = mean_over_ranks(feature.new_full((), feature[:, 0].numel()))
    mean = mean_over_ranks(feature.sum((0, 2, 3))) / cells
    centred = feature - mean[:, None, None]
    variance = mean_over_ranks(centred.square().sum((0, 2, 3))) / cells
    return centred * (variance + 1e-5).rsqrt()[:, None, None]
