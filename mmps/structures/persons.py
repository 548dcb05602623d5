"""The persons of a batch, as the lists that detectors and distillers work on. Shapes: N_i persons of image i."""

import torch
from mmdet.structures import SampleList
from torch import Tensor


def person_boxes(samples: SampleList) -> list[Tensor]:
    """The ground-truth boxes of each image: list of (N_i, 4), x1 y1 x2 y2 in input-image pixels."""
    boxes = [sample.gt_instances.bboxes for sample in samples]
    return [getattr(image_boxes, 'tensor', image_boxes) for image_boxes in boxes]


def jitter_boxes(boxes: list[Tensor], amount: float) -> list[Tensor]:
    """Moves every edge by up to ``amount`` of the box's width or height, uniformly (DKD's spatial-invariant augmentation,
    AAAI 2021, section 3.3). A box keeps a positive size for ``amount`` < 0.5."""
    if amount == 0:
        return boxes
    return [move_edges(b, (torch.rand_like(b) * 2 - 1) * amount) for b in boxes]


def move_edges(boxes: Tensor, movements: Tensor) -> Tensor:
    """Moves the edges of boxes.

    Args:
        boxes: (..., 4), x1 y1 x2 y2.
        movements: (..., 4), how far each edge moves, as a part of the box's width (x) or height (y).

    Returns:
        (..., 4).
    """
    return boxes + movements * (boxes[..., 2:] - boxes[..., :2]).tile(2)


def mirror_movements(movements: Tensor) -> Tensor:
    """(..., 4) movements of edges -> those that move the box's mirror image to the mirror image of the moved box: left and
    right change places and direction."""
    x1, y1, x2, y2 = movements.unbind(-1)
    return torch.stack([-x2, y1, -x1, y2], -1)


def mirror_boxes(boxes: Tensor, width: int) -> Tensor:
    """(..., 4) boxes in an image of ``width`` pixels -> the same in its mirror image."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], -1)


def sample_background_boxes(boxes: list[Tensor]) -> list[Tensor]:
    """For each box one of its size, moved sideways by half its width to one and a half, and up or down by up to half its
    height: mostly background, partly the person, as what a detector must tell apart."""
    moved = []
    for b in boxes:
        chance = torch.rand_like(b)[:, :3]
        sideways = (0.5 + chance[:, 0]) * (chance[:, 1] - 0.5).sign()
        moved.append(move_edges(b, torch.stack([sideways, chance[:, 2] - 0.5], dim=1).tile(2)))
    return moved


def with_area(boxes: Tensor) -> Tensor:
    """(N, 4) boxes, those narrower or lower than a pixel made that large."""
    return torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], dim=1)
