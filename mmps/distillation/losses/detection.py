"""Losses that distil a detector's logits and boxes. Shapes: M boxes of the batch, M_i of image i."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from torch import Tensor, nn

from mmps.dist import mean_over_ranks
from mmps.distillation.losses.full_precision import full_precision
from mmps.models.assignment import draw, pairwise_iou
from mmps.registry import MODELS
from mmps.structures import person_boxes


@MODELS.register_module()
class SoftTargetLoss(nn.Module):
    """Compares person logits as soft targets (Munjal, BMVC 2019, after Chen et al., NIPS 2017, equation 3).

    At every anchor or box, the term is t^2 KL(teacher || student) over the classes "person" and "background", where the
    background's part is multiplied by ``background_weight``. The sum of the terms is divided by the number of persons that
    the teacher expects: the sum of its probabilities, at least 1. Both sums are over the batch of all ranks, which costs a
    collective of 4 bytes.

    With a background weight w other than 1 (the published one is 1.5), the minimum is not at the teacher's logits: the
    student's logit is lower by t log w there, and the loss is below 0.

    With a background weight of 1, this loss is decoupled knowledge distillation (CVPR 2022), which DDPS (TMM 2024) applies to
    the detection head's logits: of two classes one is the target, so the term among the other classes is 0.

    Args:
        background_weight: Factor of the background's part.
        temperature: t.
        loss_weight: Factor of the loss.
        num_samples: If given, the loss is the mean over that many anchors of each image, as in Chen et al., whose RPN draws a
            minibatch of 256. At most half of them are persons, where the teacher's probability is above a half (there: where
            an anchor overlaps an annotated person). Logits without an image axis (P,) are those of one image.
    """

    def __init__(
        self,
        background_weight: float = 1.5,
        temperature: float = 1.0,
        loss_weight: float = 1.0,
        num_samples: int | None = None,
    ):
        super().__init__()
        self.background_weight = background_weight
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.num_samples = num_samples

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits of any shape, or one tensor per level, the finest first -> scalar, which is 0 without logits.

        If the student has more levels than the teacher, its coarser ones are ignored.

        Raises:
            ValueError: The shapes of a level differ, or the teacher has more levels.
        """
        students, teachers = ([logits] if isinstance(logits, Tensor) else list(logits) for logits in (student, teacher))
        shapes = [[tuple(level.shape) for level in levels] for levels in (students, teachers)]
        if shapes[0][: len(teachers)] != shapes[1]:
            raise ValueError(
                f'SoftTargetLoss: student logits {shapes[0]} and teacher logits {shapes[1]} are not of the same '
                'anchors: expected the same shapes level by level'
            )
        student, teacher = (
            full_precision(torch.cat([torch.atleast_2d(level).flatten(1) for level in levels], dim=1))
            for levels in (students[: len(teachers)], teachers)
        )
        with torch.autocast(student.device.type, enabled=False):
            if self.num_samples is None:
                sampled, count = torch.ones_like(teacher), teacher.sigmoid().sum()
            else:
                anchors, sampled = sample_anchors(teacher > 0, self.num_samples)
                student, teacher, count = student.gather(1, anchors), teacher.gather(1, anchors), sampled.sum()
            student, teacher = student / self.temperature, teacher / self.temperature
            person = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
            background = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
            total = (sampled * (person + self.background_weight * background)).sum()
            return self.loss_weight * self.temperature**2 * total / mean_over_ranks(count, at_least=1)


def sample_anchors(person: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Samples anchors of each image as an RPN does: persons up to half of ``count``, and background for the rest.

    Args:
        person: (B, N) mask of the anchors that are persons.
        count: How many anchors of an image are wanted.

    Returns:
        Indices of anchors (B, K), and a mask (B, K) of those that are sampled, at most ``count`` of an image.
    """
    persons, taken, others, filled = draw(person, ~person, count, count // 2)
    return torch.cat([persons, others], dim=1), torch.cat([taken, filled], dim=1)


@MODELS.register_module()
class BoundedRegressionLoss(nn.Module):
    """Regresses boxes, bounded by the teacher (Chen et al., NIPS 2017, equation 4; for person search Munjal, BMVC 2019).

    A refined box costs its squared error, or 0 if it is smaller than the teacher's by the margin. The error is summed over
    the four edges, in widths and heights of the target. The target is the person that the box overlapped most before it was
    refined. The loss is the mean over the boxes of all ranks whose IoU with their target is at least 0.5; other boxes do not
    count. The count is a collective of 8 bytes.

    Args:
        margin: How much better than the teacher the student must be to cost nothing.
        loss_weight: Factor of the loss, nu in equation 5.
    """

    def __init__(self, margin: float = 0.0, loss_weight: float = 0.5):
        super().__init__()
        self.margin = margin
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor], samples: SampleList) -> Tensor:
        """Returns a scalar >= 0, which is 0 if no box overlaps a person enough. The teacher gets no gradient.

        Args:
            student: (M, 4), the student's refined boxes, x1 y1 x2 y2 in input-image pixels, image by image.
            teacher: (M, 4), the teacher's refined boxes, in the same order.
            boxes: One (M_i, 4) tensor per image, the boxes before they were refined.
            samples: The images' samples, with the persons' boxes.

        Raises:
            ValueError: The number of refined boxes is not the number of boxes.
        """
        count = sum(len(image_boxes) for image_boxes in boxes)
        if student.shape != (count, 4) or teacher.shape != (count, 4):
            raise ValueError(
                f'BoundedRegressionLoss: boxes of the student {tuple(student.shape)} and of the teacher '
                f'{tuple(teacher.shape)}: expected ({count}, 4), one refined box per box'
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
    """Returns for each of M boxes the person that it overlaps most, (M, 4), and their IoU, (M,). Persons are (N, 4).

    Without persons, it returns the boxes themselves, with an IoU of 0.
    """
    if len(persons) == 0:
        return boxes, boxes.new_zeros(len(boxes))
    overlaps, index = pairwise_iou(boxes, persons).max(1)
    return persons[index], overlaps
