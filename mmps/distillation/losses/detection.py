"""Distillation of what a detector says about anchors and boxes. Shapes: M boxes of the batch, M_i of image i."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor, nn

from mmps.dist import mean_over_ranks
from mmps.distillation.losses.precision import full_precision
from mmps.registry import MODELS
from mmps.structures import person_boxes


@MODELS.register_module()
class SoftTargetLoss(nn.Module):
    """Soft targets for person logits (Munjal, BMVC 2019, after Chen et al., NIPS 2017, equation 3).

    KL(teacher || student) of "person" and "background" at every anchor or box, the background's part times
    ``background_weight``, times t^2; summed and divided by the number of persons that the teacher expects, which is the sum
    of its probabilities, at least 1. Both are sums over the batch of all ranks, at the cost of a collective of 4 bytes.

    As published, a background weight w other than 1 does not leave the student at the teacher: the minimum is where its
    logit is lower by t log w, and is below 0.

    Decoupled knowledge distillation (CVPR 2022), which DDPS (TMM 2024) has on the detection head's logits, is this loss
    with a background weight of 1: of two classes one is the target, and the term among the others is 0.

    Args:
        background_weight: Factor of the background's part.
        temperature: t.
        loss_weight: Factor of the loss.
    """

    def __init__(self, background_weight: float = 1.5, temperature: float = 1.0, loss_weight: float = 1.0):
        super().__init__()
        self.background_weight = background_weight
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits of any shape, or of every level from the finest on -> scalar; 0 for no logits.

        Of a student with more levels than the teacher the coarser ones are left out.

        Raises:
            ValueError: A level's shapes differ, or the teacher has more levels.
        """
        students, teachers = ([logits] if isinstance(logits, Tensor) else list(logits) for logits in (student, teacher))
        shapes = [[tuple(level.shape) for level in levels] for levels in (students, teachers)]
        if shapes[0][: len(teachers)] != shapes[1]:
            raise ValueError(
                f'SoftTargetLoss: student logits {shapes[0]} and teacher logits {shapes[1]} are not of the same '
                'anchors: expected the same shapes level by level'
            )
        student, teacher = (
            full_precision(torch.cat([level.flatten() for level in levels])) for levels in (students[: len(teachers)], teachers)
        )
        with torch.autocast(student.device.type, enabled=False):
            expected = mean_over_ranks(teacher.sigmoid().sum(), at_least=1)
            student, teacher = student / self.temperature, teacher / self.temperature
            person = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
            background = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
            total = (person + self.background_weight * background).sum()
            return self.loss_weight * self.temperature**2 * total / expected


@MODELS.register_module()
class BoundedRegressionLoss(nn.Module):
    """Teacher-bounded box regression (Chen et al., NIPS 2017, equation 4; for person search Munjal, BMVC 2019).

    The squared error of a refined box where it is not less than the teacher's by the margin, elsewhere 0. The error is that
    of the four edges, in widths and heights of the target, summed; the target is the person whom the box that was to
    be refined overlaps most. Averaged over the boxes, of all ranks, that overlap theirs by an IoU of 0.5 at least; the others
    do not count. Their number is a collective of 8 bytes.

    Args:
        margin: By how much the student must be better than the teacher to be left alone.
        loss_weight: Factor of the loss; nu in equation 5.
    """

    def __init__(self, margin: float = 0.0, loss_weight: float = 0.5):
        super().__init__()
        self.margin = margin
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor], samples: SampleList) -> Tensor:
        """-> scalar >= 0; 0 where no box overlaps a person enough. The teacher gets no gradient.

        Args:
            student: (M, 4), refined boxes: x1 y1 x2 y2 in input-image pixels, all images' one after the other.
            teacher: (M, 4), the teacher's of the same boxes.
            boxes: One (M_i, 4) tensor an image, the boxes that were refined.
            samples: The images' samples, with the persons' boxes.

        Raises:
            ValueError: Not as many refined boxes as boxes.
        """
        count = sum(len(image_boxes) for image_boxes in boxes)
        if student.shape != (count, 4) or teacher.shape != (count, 4):
            raise ValueError(
                f'BoundedRegressionLoss: boxes of the student {tuple(student.shape)} and of the teacher '
                f'{tuple(teacher.shape)}: expected ({count}, 4), one for each box to refine'
            )
        student, teacher = full_precision(student), full_precision(teacher)
        with torch.autocast(student.device.type, enabled=False):
            matches = [most_overlapped(*image) for image in zip(boxes, person_boxes(samples), strict=True)]
            targets, overlaps = (torch.cat(parts) for parts in zip(*matches, strict=True))
            size = (targets[:, 2:] - targets[:, :2]).clamp(min=1e-6).repeat(1, 2)
            error, bound = (((refined - targets) / size).square().sum(1) for refined in (student, teacher))
            counts = overlaps >= 0.5
            total = error.where(counts & (error + self.margin > bound), 0).sum()
            return self.loss_weight * total / mean_over_ranks(counts.sum(), at_least=1)


def most_overlapped(boxes: Tensor, persons: Tensor) -> tuple[Tensor, Tensor]:
    """(M, 4) and (N, 4) -> (M, 4), for each box the person that it overlaps most, and (M,), their IoU.

    Where there are no persons it is the box itself, with an IoU of 0.
    """
    if len(persons) == 0:
        return boxes, boxes.new_zeros(len(boxes))
    overlaps, index = bbox_overlaps(boxes, persons).max(1)
    return persons[index], overlaps
