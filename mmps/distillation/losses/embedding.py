"""Losses that distil person embeddings: the embeddings themselves, their relations, and their responses to identities.

Shapes: P persons of the batch, I labelled identities, D_s and D_t embedding sizes of student and teacher. Embeddings are
L2-normalized. They are one (N_i, D) tensor per image, which ``embed`` returns, or one (P, D) tensor.

The batch is that of all ranks, unless a loss says otherwise. A loss that is a mean over persons counts them with a collective
of 8 bytes. A loss that compares persons with each other gathers those of all ranks: their number and 4 P (D_s + D_t) bytes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmps.dist import gather_rows, mean_over_ranks
from mmps.distillation.losses.full_precision import full_precision
from mmps.registry import MODELS


def persons_of(embeddings: Tensor | Sequence[Tensor], person_ids: Tensor | None = None) -> Tensor:
    """Returns the embeddings of all images, (P, D), in float32 or float64. With ``person_ids`` only labelled persons."""
    together = full_precision(embeddings if isinstance(embeddings, Tensor) else torch.cat(list(embeddings)))
    return together if person_ids is None else together[person_ids >= 0]


def others(count: int, device: torch.device) -> Tensor:
    """Returns a (count, count) mask of the pairs of two different persons."""
    return ~torch.eye(count, dtype=torch.bool, device=device)


def seen_by_both(name: str, student_lut: Tensor, teacher_lut: Tensor) -> Tensor:
    """Returns an (I,) mask of the identities whose rows are non-zero in both lookup tables.

    Raises:
        ValueError: The tables have different numbers of identities.
    """
    if len(student_lut) != len(teacher_lut):
        raise ValueError(
            f'{name}: the student has num_identities={len(student_lut)}, the teacher {len(teacher_lut)}: '
            'both must be trained on the same identities'
        )
    return (student_lut != 0).any(1) & (teacher_lut != 0).any(1)


@MODELS.register_module()
class RelationLoss(nn.Module):
    """Compares the persons' cosine similarities to each other (relation-based distillation of GDPS).

    The loss is the mean of smooth L1 over the off-diagonal entries of the P x P similarity matrices of teacher and student
    (RKD's relations, CVPR 2019, with similarities instead of distances). If lookup tables are given, the P x I similarities
    to their rows are compared too.

    Args:
        beta: Where smooth L1 turns from squared to absolute. Similarities differ by at most 2: so with a beta of 2 or more,
            it is the squared error divided by 2 beta. With a beta of 2 and a weight of 4, it is the squared error between the
            matrices (DDPS, TMM 2024).
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
        """(P, D_s) and (P, D_t), optionally (I, D_s) and (I, D_t) -> scalar >= 0.

        Without lookup tables, it is 0 for fewer than two persons.
        """
        student, teacher = gather_rows(persons_of(student), persons_of(teacher))
        with torch.autocast(student.device.type, enabled=False):
            count = len(student)
            loss = self.compare(student @ student.T, teacher @ teacher.T, others(count, student.device))
            if student_lut is not None and teacher_lut is not None:
                seen = seen_by_both('RelationLoss', student_lut, teacher_lut).expand(count, -1)
                loss = loss + self.compare(student @ student_lut.T, teacher @ teacher_lut.T, seen)
            return self.loss_weight * loss

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Returns the mean of smooth L1 over the entries where the mask is True."""
        difference = F.smooth_l1_loss(student, teacher, reduction='none', beta=self.beta)
        return (difference * mask).sum() / mask.sum().clamp(min=1)


@MODELS.register_module()
class ResponseLoss(nn.Module):
    """Compares each person's probabilities of the identities (response-based distillation of GDPS).

    The loss is KL(softmax(s e_T . LUT_T^T / t) || softmax(s e_S . LUT_S^T / t)) * t^2, averaged over all persons (Hinton et
    al., 2015, section 2, on OIM's classifier). The softmax is over the identities that both lookup tables have seen.

    Args:
        temperature: t.
        loss_weight: Factor of the loss.
        symmetric: Adds the divergence in the other direction.
        scale: s, factor of the cosine similarities. OIM's logits have 30 (:func:`~mmps.distillation.distiller.follow_loss`).
    """

    def __init__(self, temperature: float = 0.1, loss_weight: float = 1.0, symmetric: bool = False, scale: float = 1.0):
        super().__init__()
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.symmetric = symmetric
        self.scale = scale

    def forward(
        self,
        student: Tensor | Sequence[Tensor],
        teacher: Tensor | Sequence[Tensor],
        student_lut: Tensor,
        teacher_lut: Tensor,
        person_ids: Tensor | None = None,
    ) -> Tensor:
        """(P, D_s), (P, D_t), (I, D_s) and (I, D_t) -> scalar >= 0, which is 0 without persons.

        With ``person_ids`` (P,), only labelled persons count.
        """
        seen = seen_by_both('ResponseLoss', student_lut, teacher_lut)
        student, teacher = persons_of(student, person_ids), persons_of(teacher, person_ids)
        with torch.autocast(student.device.type, enabled=False):
            logits = (self.scale * student @ student_lut.T, self.scale * teacher @ teacher_lut.T)
            total = divergence(*logits, seen, self.temperature, self.symmetric)
            return self.loss_weight * (total / mean_over_ranks(len(student), at_least=1))


@MODELS.register_module()
class RelationDivergenceLoss(nn.Module):
    """Compares the softmax of each person's similarities to the other persons of the batch (HKD, ACM MM 2023).

    The loss is KL(softmax(row_T / t) || softmax(row_S / t)) * t^2, averaged over the rows of the P x P similarity matrices.
    A row includes the person's similarity of 1 to itself, as in HKD's code.

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

    def forward(
        self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor], person_ids: Tensor | None = None
    ) -> Tensor:
        """(P, D_s) and (P, D_t) -> scalar >= 0, which is 0 for fewer than two persons.

        With ``person_ids`` (P,), only labelled persons count.
        """
        student, teacher = gather_rows(persons_of(student, person_ids), persons_of(teacher, person_ids))
        with torch.autocast(student.device.type, enabled=False):
            everybody = student.new_ones(len(student), dtype=torch.bool)
            total = divergence(student @ student.T, teacher @ teacher.T, everybody, self.temperature, self.symmetric)
            return self.loss_weight * (total / max(len(student), 1))


def divergence(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float, symmetric: bool) -> Tensor:
    """Returns t^2 KL(softmax(teacher / t) || softmax(student / t)), summed over the rows.

    The softmax of a row is over the entries where the mask is True. If symmetric, the other direction is added.
    """
    log_student, log_teacher = (
        F.log_softmax((similarities / temperature).masked_fill(~mask, -1e4), dim=1) for similarities in (student, teacher)
    )
    total = F.kl_div(log_student, log_teacher, reduction='sum', log_target=True)
    if symmetric:
        total = total + F.kl_div(log_teacher, log_student, reduction='sum', log_target=True)
    return temperature**2 * total


@MODELS.register_module()
class TripletRelationLoss(nn.Module):
    """Compares the angles between three persons' embeddings (triplet relations of DKD, AAAI 2021).

    In our reading of the paper, the loss is smooth L1 between the cosines of the angles (RKD, CVPR 2019, equation 7), averaged
    over the ordered triplets of three different persons. A difference of two embeddings is normalized to unit length, but if it
    is shorter than 0.01, it is multiplied by 100. This bounds the gradients of two persons who look alike.

    Memory grows with P^3: about 250 MB for 200 persons. So each rank compares only its own persons, and the average over the
    ranks is not the full-batch loss.

    Args:
        beta: Where smooth L1 turns from squared to absolute. Cosines differ by at most 2.
        loss_weight: Factor of the loss.
    """

    def __init__(self, beta: float = 0.1, loss_weight: float = 1.0):
        super().__init__()
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> Tensor:
        """(P, D_s) and (P, D_t) -> scalar >= 0, which is 0 for fewer than three persons."""
        student, teacher = persons_of(student), persons_of(teacher)
        with torch.autocast(student.device.type, enabled=False):
            count = len(student)
            difference = F.smooth_l1_loss(angles(student), angles(teacher), reduction='none', beta=self.beta)
            # Both cosines are 0 if the vertex is one of the other two persons.
            total = (difference * others(count, student.device)).sum()
            return self.loss_weight * total / max(count * (count - 1) * (count - 2), 1)


def angles(embeddings: Tensor) -> Tensor:
    """(P, D) -> (P, P, P): at [i, j, k] the cosine of the angle at i between j and k, or 0 if i = j or i = k."""
    directions = F.normalize(embeddings - embeddings[:, None], dim=2, eps=0.01)
    return directions @ directions.mT


@MODELS.register_module()
class EmbeddingLoss(nn.Module):
    """Compares the embeddings themselves (HKD, ACM MM 2023).

    The loss is 1 - cosine of a person's two embeddings, averaged over the persons.

    Args:
        loss_weight: Factor of the loss.
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> Tensor:
        """(P, D) twice -> scalar from 0 to 2, which is 0 without persons.

        Raises:
            ValueError: The embedding sizes differ.
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
