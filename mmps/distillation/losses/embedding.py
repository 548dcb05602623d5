"""Distillation of person embeddings: the embeddings themselves, relation-based and response-based.

Shapes: P persons of the batch, I labelled identities, D_s and D_t embedding sizes of student and teacher. Embeddings are
L2-normalized and come as one (N_i, D) tensor an image, as ``embed`` gives them, or as one (P, D) tensor.

The batch is that of all ranks, unless a loss says otherwise. Where a loss is a mean over persons, their number is a collective
of 8 bytes; where persons are compared with each other, those of all ranks are gathered: their number and 4 P (D_s + D_t) bytes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmps.dist import gather_rows, mean_over_ranks
from mmps.distillation.losses.precision import full_precision
from mmps.registry import MODELS


def persons_of(embeddings: Tensor | Sequence[Tensor]) -> Tensor:
    """(P, D), float32 at least."""
    return full_precision(embeddings if isinstance(embeddings, Tensor) else torch.cat(list(embeddings)))


def others(count: int, device: torch.device) -> Tensor:
    """(count, count) mask of the pairs of two different persons."""
    return ~torch.eye(count, dtype=torch.bool, device=device)


def seen_by_both(name: str, student_lut: Tensor, teacher_lut: Tensor) -> Tensor:
    """(I,) mask of the identities that have a row in either lookup table.

    Raises:
        ValueError: The tables are of different identities.
    """
    if len(student_lut) != len(teacher_lut):
        raise ValueError(
            f'{name}: the student has num_identities={len(student_lut)}, the teacher {len(teacher_lut)}: '
            'both must be trained on the same identities'
        )
    return (student_lut != 0).any(1) & (teacher_lut != 0).any(1)


@MODELS.register_module()
class RelationLoss(nn.Module):
    """Relation-based distillation (GDPS): the persons' cosine similarities to each other, teacher's against student's.

    Smooth L1 off the diagonal of the P x P similarity matrices, averaged (RKD's view of relations, CVPR 2019, with
    similarities instead of distances). Where lookup tables are given, the P x I similarities to their rows are compared too.

    Args:
        beta: Where smooth L1 turns from squared to absolute. Similarities differ by 2 at most: from 2 on it is the squared
            error divided by 2 beta, with 2 and a weight of 4 the squared error between the matrices (DDPS, TMM 2024).
        loss_weight: Factor of the loss.
    """

    def __init__(self, beta: float = 0.1, loss_weight: float = 1.0):
        super().__init__()
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(
        self,
        student: Tensor | Sequence[Tensor],
        teacher: Tensor | Sequence[Tensor],
        student_lut: Tensor | None = None,
        teacher_lut: Tensor | None = None,
    ) -> Tensor:
        """(P, D_s) and (P, D_t), optionally (I, D_s) and (I, D_t) -> scalar >= 0; 0 for fewer than two persons."""
        student, teacher = gather_rows(persons_of(student), persons_of(teacher))
        with torch.autocast(student.device.type, enabled=False):
            count = len(student)
            loss = self.compare(student @ student.T, teacher @ teacher.T, others(count, student.device))
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
        temperature: t, for cosine similarities: OIM's own softmax has 1 / 30. (HKD's t of 2 on OIM's logits, which are
            similarities times 30, is 2 / 30 here, and its weight 900 times as large.)
        loss_weight: Factor of the loss.
        symmetric: Adds the divergence in the other direction.
    """

    def __init__(self, temperature: float = 0.1, loss_weight: float = 1.0, symmetric: bool = False):
        super().__init__()
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.symmetric = symmetric

    def forward(
        self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor], student_lut: Tensor, teacher_lut: Tensor
    ) -> Tensor:
        """(P, D_s), (P, D_t), (I, D_s) and (I, D_t) -> scalar >= 0; 0 for no persons."""
        seen = seen_by_both('ResponseLoss', student_lut, teacher_lut)
        student, teacher = persons_of(student), persons_of(teacher)
        with torch.autocast(student.device.type, enabled=False):
            total = divergence(student @ student_lut.T, teacher @ teacher_lut.T, seen, self.temperature, self.symmetric)
            return self.loss_weight * (total / mean_over_ranks(len(student), at_least=1))


@MODELS.register_module()
class RelationDivergenceLoss(nn.Module):
    """How a person's similarity is distributed over the other persons of the batch, teacher's against student's (HKD, ACM MM
    2023, on similarities).

    KL(softmax(row_T / t) || softmax(row_S / t)) * t^2 of the rows of the P x P similarity matrices, averaged. The person
    itself is left out: its similarity of 1 is no relation. (HKD's code leaves it in.)

    Args:
        temperature: t, for cosine similarities.
        symmetric: Adds the divergence in the other direction.
        loss_weight: Factor of the loss.
    """

    def __init__(self, temperature: float = 4.0, symmetric: bool = False, loss_weight: float = 1.0):
        super().__init__()
        self.temperature = temperature
        self.symmetric = symmetric
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> Tensor:
        """(P, D_s) and (P, D_t) -> scalar >= 0; 0 for fewer than three persons."""
        student, teacher = gather_rows(persons_of(student), persons_of(teacher))
        with torch.autocast(student.device.type, enabled=False):
            total = divergence(
                student @ student.T, teacher @ teacher.T, others(len(student), student.device), self.temperature, self.symmetric
            )
            return self.loss_weight * (total / max(len(student), 1))


def divergence(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float, symmetric: bool) -> Tensor:
    """t^2 KL(softmax(teacher / t) || softmax(student / t)) over the masked entries of each row, summed over the rows; if
    symmetric, plus that of the other direction."""
    log_student, log_teacher = (
        F.log_softmax((similarities / temperature).masked_fill(~mask, -1e4), dim=1) for similarities in (student, teacher)
    )
    total = F.kl_div(log_student, log_teacher, reduction='sum', log_target=True)
    if symmetric:
        total = total + F.kl_div(log_teacher, log_student, reduction='sum', log_target=True)
    return temperature**2 * total


@MODELS.register_module()
class TripletRelationLoss(nn.Module):
    """Triplet relations (DKD, AAAI 2021): the angle that two persons make at a third, teacher's against student's.

    The paper's formula in our reading: smooth L1 between the cosines of the angles (RKD, CVPR 2019, equation 7), averaged over
    the ordered triplets of three different persons. A difference of two embeddings shorter than 0.01 has no direction to speak
    of: it counts as its hundredfold, so that two persons who look alike do not make gradients without bounds.

    Memory grows with P^3: some 250 MB for 200 persons. So on several ranks each compares its own persons only, and what DDP
    averages is not the loss of one process with the whole batch.

    Args:
        beta: Where smooth L1 turns from squared to absolute; cosines differ by 2 at most.
        loss_weight: Factor of the loss.
    """

    def __init__(self, beta: float = 0.1, loss_weight: float = 1.0):
        super().__init__()
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> Tensor:
        """(P, D_s) and (P, D_t) -> scalar >= 0; 0 for fewer than three persons."""
        student, teacher = persons_of(student), persons_of(teacher)
        with torch.autocast(student.device.type, enabled=False):
            count = len(student)
            difference = F.smooth_l1_loss(angles(student), angles(teacher), reduction='none', beta=self.beta)
            # Both cosines are 0 where the third person is one of the two.
            total = (difference * others(count, student.device)).sum()
            return self.loss_weight * total / max(count * (count - 1) * (count - 2), 1)


def angles(embeddings: Tensor) -> Tensor:
    """(P, D) -> (P, P, P), at [i, j, k] the cosine of the angle at i between j and k; 0 for i = j and i = k."""
    directions = F.normalize(embeddings - embeddings[:, None], dim=2, eps=0.01)
    return directions @ directions.mT


@MODELS.register_module()
class EmbeddingLoss(nn.Module):
    """The teacher's embeddings as such (HKD, ACM MM 2023): 1 - cosine of a person's two embeddings, averaged over the persons.

    Args:
        loss_weight: Factor of the loss.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> Tensor:
        """(P, D) twice -> scalar, 0 to 2; 0 for no persons.

        Raises:
            ValueError: The embeddings are of different sizes.
        """
        student, teacher = persons_of(student), persons_of(teacher)
        if student.shape[1] != teacher.shape[1]:
            raise ValueError(
                f'EmbeddingLoss: the student has embed_dims={student.shape[1]}, the teacher {teacher.shape[1]}: '
                'expected the same'
            )
        with torch.autocast(student.device.type, enabled=False):
            difference = 1 - F.cosine_similarity(student, teacher)
            return self.loss_weight * difference.sum() / mean_over_ranks(len(student), at_least=1)
