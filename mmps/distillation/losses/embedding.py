"""Distillation of person embeddings: relation-based and response-based.

Shapes: P persons of the batch, I labelled identities, D_s and D_t embedding sizes of student and teacher. Embeddings are
L2-normalised and come as one (N_i, D) tensor an image, as ``embed`` gives them, or as one (P, D) tensor.
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmps.registry import MODELS


def persons_of(embeddings: Tensor | Sequence[Tensor]) -> Tensor:
    """(P, D), float32."""
    return (embeddings if isinstance(embeddings, Tensor) else torch.cat(list(embeddings))).float()


def seen_by_both(name: str, student_lut: Tensor, teacher_lut: Tensor) -> Tensor:
    """(I,) mask of the identities that have a row in either lookup table.

    Raises:
        ValueError: The tables are of different identities.
    """
    if len(student_lut) != len(teacher_lut):
        raise ValueError(f'{name}: the student has num_persons={len(student_lut)}, the teacher {len(teacher_lut)}: '
                         'both must be trained on the same identities')
    return (student_lut != 0).any(1) & (teacher_lut != 0).any(1)


@MODELS.register_module()
class RelationLoss(nn.Module):
    """Relation-based distillation (GDPS): the persons' cosine similarities to each other, teacher's against student's.

    Smooth L1 off the diagonal of the P x P similarity matrices, averaged (RKD's view of relations, CVPR 2019, with
    similarities instead of distances). Where lookup tables are given, the P x I similarities to their rows are compared too.

    Args:
        beta: Where smooth L1 turns from squared to absolute; similarities differ by 2 at most.
        loss_weight: Factor of the loss.
    """

    def __init__(self, beta: float = 0.1, loss_weight: float = 1.0):
        super().__init__()
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor],
                student_lut: Tensor | None = None, teacher_lut: Tensor | None = None) -> Tensor:
        """(P, D_s) and (P, D_t), optionally (I, D_s) and (I, D_t) -> scalar >= 0; 0 for fewer than two persons."""
        student, teacher = persons_of(student), persons_of(teacher)
        with torch.autocast(student.device.type, enabled=False):
            count = len(student)
            other = ~torch.eye(count, dtype=torch.bool, device=student.device)
            loss = self.compare(student @ student.T, teacher @ teacher.T, other)
            if student_lut is not None and teacher_lut is not None:
                seen = seen_by_both('RelationLoss', student_lut, teacher_lut).expand(count, -1)
                loss = loss + self.compare(student @ student_lut.T, teacher @ teacher_lut.T, seen)
            return self.loss_weight * loss

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Mean over the masked entries."""
        difference = F.smooth_l1_loss(student, teacher, reduction='none', beta=self.beta)
        return (difference * mask).sum() / mask.sum().clamp(min=1)


@MODELS.register_module()
class ResponseLoss(nn.Module):
    """Response-based distillation (GDPS): how a person is distributed over the identities, teacher's against student's.

    KL(softmax(e_T . LUT_T^T / t) || softmax(e_S . LUT_S^T / t)) * t^2, averaged over all persons, unlabelled ones too
    (Hinton et al., 2015, section 2, on OIM's classifier), over the identities that both have seen.

    Args:
        temperature: t, for cosine similarities: OIM's own softmax has 1 / 30.
        loss_weight: Factor of the loss.
    """

    def __init__(self, temperature: float = 0.1, loss_weight: float = 1.0):
        super().__init__()
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor], student_lut: Tensor,
                teacher_lut: Tensor) -> Tensor:
        """(P, D_s), (P, D_t), (I, D_s) and (I, D_t) -> scalar >= 0; 0 for no persons."""
        unseen = ~seen_by_both('ResponseLoss', student_lut, teacher_lut)
        student, teacher = persons_of(student), persons_of(teacher)
        with torch.autocast(student.device.type, enabled=False):
            log_p_student, log_p_teacher = (
                F.log_softmax((embeddings @ lut.T / self.temperature).masked_fill(unseen, -1e4), dim=1)
                for embeddings, lut in ((student, student_lut), (teacher, teacher_lut)))
            total = F.kl_div(log_p_student, log_p_teacher, reduction='sum', log_target=True)
            return self.loss_weight * self.temperature**2 * total / max(len(student), 1)
