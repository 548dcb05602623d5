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
    return [b + (torch.rand_like(b) * 2 - 1) * amount * (b[:, 2:] - b[:, :2]).repeat(1, 2) for b in boxes]
