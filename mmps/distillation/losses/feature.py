"""Loss that distils feature maps. Shapes: B images, C channels, (H, W) size of a feature map, N_i persons of image i."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn

from mmps.dist import mean_over_ranks
from mmps.distillation.losses.full_precision import full_precision
from mmps.registry import MODELS


def matched_maps(name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both maps, (B, C, H, W), in float32 or float64. A teacher's map of another (H, W) is resized by averaging.

    Raises:
        ValueError: The maps differ in images or channels.
    """
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            f'{name}: student features {tuple(student.shape)} and teacher features {tuple(teacher.shape)} '
            'differ in images or channels: a connector must match their channels'
        )
    student, teacher = full_precision(student), full_precision(teacher)
    if teacher.shape != student.shape:
        teacher = F.adaptive_avg_pool2d(teacher, (student.shape[2], student.shape[3]))
    return student, teacher


def image_cells(feature: Tensor, sizes: Sequence[Sequence[int]] | None, stride: float) -> Tensor | None:
    """Returns the mask (B, H, W) of the cells that show the image and not its padding. None = no image is padded.

    Args:
        feature: The map (B, C, H, W).
        sizes: Height and width of each image without padding, in input-image pixels. None = no image is padded.
        stride: Input-image pixels per cell.
    """
    height, width = feature.shape[2:]
    if sizes is None or all(h > (height - 1) * stride and w > (width - 1) * stride for h, w in sizes):
        return None
    rows, columns = (torch.arange(count, device=feature.device) * stride for count in (height, width))
    return torch.stack([(rows < h)[:, None] & (columns < w) for h, w in sizes])


def person_weights(boxes: Sequence[Tensor], size: Sequence[int], stride: float, cells: Tensor | None = None) -> Tensor:
    """Returns the weight of each cell, (B, H, W).

    If persons cover the cell, it is 1 / area of the smallest of them, in cells. Otherwise it is 0.

    Args:
        boxes: One (N_i, 4) tensor per image, x1 y1 x2 y2 in input-image pixels.
        size: (H, W).
        stride: Input-image pixels per cell.
        cells: Mask of the cells that count (:func:`image_cells`), None = all.
    """
    height, width = size
    image = torch.cat([torch.full((len(b),), i, device=b.device) for i, b in enumerate(boxes)])
    x1, y1, x2, y2 = (torch.cat(list(boxes)) / stride).T[:, :, None]
    columns = torch.arange(width, device=image.device)
    rows = torch.arange(height, device=image.device)
    # A box covers every cell that it overlaps. With cell centres instead, a box thinner than a cell could cover none.
    inside = ((rows + 1 > y1) & (rows < y2))[:, :, None] & ((columns + 1 > x1) & (columns < x2))[:, None, :]
    if cells is not None:
        inside = inside & cells[image]
    weights = inside / inside.sum((1, 2), keepdim=True).clamp(min=1)
    flat = weights.new_zeros(len(boxes), height * width)
    flat.scatter_reduce_(0, image[:, None].expand(-1, height * width), weights.flatten(1), 'amax')
    return flat.view(-1, height, width)


@MODELS.register_module()
class PersonFeatureLoss(nn.Module):
    """Compares feature maps, with separate weights for persons and background (feature-based distillation of GDPS).

    The split is that of FGD (CVPR 2022, eq. 5 to 8). First, every channel of both maps is standardised over the batch, so the
    loss compares patterns and not magnitudes (PKD, NeurIPS 2022, eq. 3). Then the squared difference is averaged over the
    channels. The persons' term is its mean over each person's cells and over the persons, so every person counts the same,
    whatever its area. The background's term is its mean over the background cells. The padding of an image does not count.

    The batch is that of all ranks. For the statistics of the channels, each map needs two collectives of 4 C bytes, and the
    student's map two more in the backward pass. There are four more collectives of 4 bytes.

    Args:
        stride: Input-image pixels per cell of this level.
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

    def forward(
        self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor], sizes: Sequence[Sequence[int]] | None = None
    ) -> Tensor:
        """(B, C, H, W) twice, and one (N_i, 4) tensor of boxes per image, in input-image pixels -> scalar >= 0.

        A teacher's map of another (H, W) is averaged over the student's cells.

        Args:
            sizes: Height and width of each image without padding, in input-image pixels. None = no image is padded.

        Raises:
            ValueError: The maps differ in images or channels.
        """
        student, teacher = matched_maps('PersonFeatureLoss', student, teacher)
        cells = image_cells(student, sizes, self.stride)
        with torch.autocast(student.device.type, enabled=False):
            difference = F.mse_loss(standardise(student, cells), standardise(teacher, cells), reduction='none').mean(1)
            weights = person_weights(boxes, difference.shape[1:], self.stride, cells)
            background = (weights == 0 if cells is None else (weights == 0) & cells).to(difference)
            persons = (difference * weights).sum() / mean_over_ranks(weights.sum(), at_least=1e-6)
            rest = (difference * background).sum() / mean_over_ranks(background.sum(), at_least=1)
            return self.loss_weight * (self.person_weight * persons + self.background_weight * rest)


def standardise(feature: Tensor, cells: Tensor | None = None) -> Tensor:
    """Scales every channel of (B, C, H, W) maps to mean 0 and variance 1 over the batch of all ranks.

    Args:
        cells: Mask (B, H, W) of the cells that count, None = all. The others become 0.
    """
    if get_world_size() == 1 and cells is None:
        return F.batch_norm(feature, None, None, training=True)
    inside = torch.ones_like(feature[:, 0]) if cells is None else cells.to(feature)
    count = mean_over_ranks(inside.sum(), at_least=1)
    mean = cast(Tensor, mean_over_ranks((feature * inside[:, None]).sum((0, 2, 3)))) / count  # a tensor for a tensor
    centred = (feature - mean[:, None, None]) * inside[:, None]
    variance = cast(Tensor, mean_over_ranks(centred.square().sum((0, 2, 3)))) / count
    return centred * (variance + 1e-5).rsqrt()[:, None, None]
