"""Gets and moves the boxes of a batch's persons, as one tensor per image. Shapes: N_i persons in image i."""

import torch
from mmdet.structures import SampleList
from torch import Tensor


def person_boxes(samples: SampleList) -> list[Tensor]:
    """Returns the ground-truth boxes of each image: list of (N_i, 4), x1 y1 x2 y2 in input-image pixels."""
    boxes = [sample.gt_instances.bboxes for sample in samples]
    return [getattr(image_boxes, 'tensor', image_boxes) for image_boxes in boxes]


def jitter_boxes(boxes: list[Tensor], amount: float) -> list[Tensor]:
    """Moves every edge randomly by up to ``amount`` times the box's width or height, uniformly.

    It imitates the errors of a detector. Boxes keep a positive size if ``amount`` < 0.5.
    """
    if amount == 0:
        return boxes
    return [move_edges(b, (torch.rand_like(b) * 2 - 1) * amount) for b in boxes]


def move_edges(boxes: Tensor, movements: Tensor) -> Tensor:
    """Moves the edges of boxes.

    Args:
        boxes: (..., 4), x1 y1 x2 y2.
        movements: (..., 4), how far each edge moves, as a fraction of the box's width (x) or height (y).

    Returns:
        (..., 4).
    """
    return boxes + movements * (boxes[..., 2:] - boxes[..., :2]).tile(2)


def mirror_movements(movements: Tensor) -> Tensor:
    """Mirrors edge movements (..., 4), so that they fit mirrored boxes: left and right swap places and change sign."""
    x1, y1, x2, y2 = movements.unbind(-1)
    return torch.stack([-x2, y1, -x1, y2], -1)


def mirror_boxes(boxes: Tensor, width: int) -> Tensor:
    """Mirrors boxes (..., 4) horizontally, in an image that is ``width`` pixels wide."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], -1)


def sample_background_boxes(boxes: list[Tensor]) -> list[Tensor]:
    """Samples for each box a background box of the same size.

    It is moved sideways by 0.5 to 1.5 of the width, and up or down by at most half the height. So it shows mostly background
    and partly the person, as a detector's hard negatives do.
    """
    moved = []
    for b in boxes:
        chance = torch.rand_like(b)[:, :3]
        sideways = (0.5 + chance[:, 0]) * (chance[:, 1] - 0.5).sign()
        moved.append(move_edges(b, torch.stack([sideways, chance[:, 2] - 0.5], dim=1).tile(2)))
    return moved


def with_area(boxes: Tensor) -> Tensor:
    """Returns boxes (N, 4) with every width and height raised to at least one pixel."""
    return torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], dim=1)
