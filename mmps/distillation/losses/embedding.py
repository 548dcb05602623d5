"""Losses that distil person embeddings: the embeddings themselves, their relations, and their responses to identities.

Shapes: P persons of the batch, I labelled identities, D_s and D_t embedding sizes of student and teacher. Embeddings are
L2-normalized. They are one (N_i, D) tensor per image, which ``embed`` returns, or one (P, D) tensor.

The batch is that of all ranks, unless a loss says otherwise. A loss that is a mean over persons counts them with a collective
of 8 bytes. A loss that compares persons with each other gathers those of all ranks: their number and 4 P (D_s + D_t) bytes.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmps.dist import gather_rows, mean_over_ranks
from mmps.distillation.losses.full_precision import full_precision
from mmps.registry import MODELS


def persons_of(embeddings: Tensor | Sequence[Tensor]) -> Tensor:
    """Returns the embeddings of all images, (P, D), in float32 or float64."""
    return full_precision(embeddings if isinstance(embeddings, Tensor) else torch.cat(list(embeddings)))


def who_counts(persons: Tensor, person_ids: Tensor | None) -> Tensor:
    """Returns a mask (P,) of the persons that count: all, or with ``person_ids`` the labelled ones.

    A mask, because the host would have to wait for the number of those that are left.
    """
    return persons.new_ones(len(persons), dtype=torch.bool) if person_ids is None else person_ids >= 0


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
        normalize_rows: Whether each row of a matrix, with its diagonal, is first divided by its norm (pairs of DKD, AAAI 2021;
            Tung and Mori, ICCV 2019). The mean is then over all P^2 entries.
    """

    def __init__(self, beta: float = 0.1, loss_weight: float = 1.0, normalize_rows: bool = False):
        super().__init__()
        self.beta = beta
        self.loss_weight = loss_weight
        self.normalize_rows = normalize_rows

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
            mask = others(count, student.device) | self.normalize_rows
            loss = self.compare(student @ student.T, teacher @ teacher.T, mask)
            if student_lut is not None and teacher_lut is not None:
                seen = seen_by_both('RelationLoss', student_lut, teacher_lut).expand(count, -1)
                loss = loss + self.compare(student @ student_lut.T, teacher @ teacher_lut.T, seen)
            return self.loss_weight * loss

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Returns the mean of smooth L1 over the entries where the mask is True."""
        if self.normalize_rows:
            student, teacher = F.normalize(student * mask), F.normalize(teacher * mask)
        difference = F.smooth_l1_loss(student, teacher, reduction='none', beta=self.beta)
        return (difference * mask).sum() / mask.sum().clamp(min=1)


@MODELS.register_module()
class ResponseLoss(nn.Module):
    """Compares each person's probabilities of the identities (response-based distillation of GDPS).

    The loss is KL(softmax(s e_T . LUT_T^T / t) || softmax(s e_S . LUT_S^T / t)) * t^2, averaged over all persons (Hinton et
    al., 2015, section 2, on OIM's classifier). The softmax is over the identities that both lookup tables have seen. Rows of
    the tables are scaled to unit length (AlignPS's are not), so that all similarities are cosines.

    Args:
        temperature: t. None = such that the teacher hesitates between 3 identities (:func:`temperature_of`): s is then 1.
        loss_weight: Factor of the loss.
        symmetric: Adds the divergence in the other direction.
        reverse: Takes the divergence in the other direction, KL(student || teacher) (DKD, AAAI 2021).
        scale: s, factor of the cosine similarities. OIM's logits have 30 (:func:`~mmps.distillation.distiller.follow_loss`).
    """

    def __init__(
        self,
        temperature: float | None = None,
        loss_weight: float = 1.0,
        symmetric: bool = False,
        reverse: bool = False,
        scale: float = 1.0,
    ):
        super().__init__()
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.symmetric = symmetric
        self.reverse = reverse
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
        student, teacher = persons_of(student), persons_of(teacher)
        counts = who_counts(teacher, person_ids)
        with torch.autocast(student.device.type, enabled=False):
            student_lut, teacher_lut = F.normalize(student_lut), F.normalize(teacher_lut)
            temperature: float | Tensor | None = self.temperature
            scale = 1.0 if temperature is None else self.scale
            if temperature is None:
                everybody, everybody_counts = gather_rows(teacher, counts)
                temperature = temperature_of(everybody @ teacher_lut.T, seen, everybody_counts)
            student, teacher = scale * student @ student_lut.T, scale * teacher @ teacher_lut.T
            if self.reverse:
                student, teacher = teacher, student
            total = divergence(student, teacher, seen, temperature, self.symmetric, counts)
            return self.loss_weight * (total / mean_over_ranks(counts.sum(), at_least=1))


@torch.no_grad()
def temperature_of(similarities: Tensor, mask: Tensor, counts: Tensor | None = None, perplexity: float = 3.0) -> Tensor:
    """Returns the temperature at which the softmax of the rows has a perplexity, e to the mean entropy (SNE, NIPS 2002).

    With a fixed temperature, a teacher's answers are about the more identities the more there are: at 0.1 the same teacher has
    a perplexity of 3 with 80 drawn identities, and of 26 with 400. With 3 for both, the own one gets 0.72 and 0.67.

    Args:
        similarities: (P, I) cosine similarities.
        mask: (I,), True for the identities that count.
        counts: (P,), True for the persons that count. None = all.
        perplexity: Greater than 1.

    Returns:
        A scalar from 0.01 to 1: 1 also without persons, and with fewer identities than the perplexity.
    """
    lower, upper = similarities.new_full((), 0.01).log(), similarities.new_zeros(())
    rows = similarities.new_ones(len(similarities)) if counts is None else counts.to(similarities)
    for _ in range(14):  # halves the range of a factor 100 down to 0.03 %; no value goes to the host
        middle = (lower + upper) / 2
        p = (similarities / middle.exp()).masked_fill(~mask, -1e4).softmax(dim=1)
        too_soft = (torch.special.entr(p).sum(dim=1) * rows).sum() / rows.sum() > math.log(perplexity)  # False without any
        lower, upper = torch.where(too_soft, lower, middle), torch.where(too_soft, middle, upper)
    return upper.exp()


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
        student, teacher = persons_of(student), persons_of(teacher)
        student, teacher, counts = gather_rows(student, teacher, who_counts(teacher, person_ids))
        with torch.autocast(student.device.type, enabled=False):
            total = divergence(student @ student.T, teacher @ teacher.T, counts, self.temperature, self.symmetric, counts)
            return self.loss_weight * (total / counts.sum().clamp(min=1))


def divergence(
    student: Tensor, teacher: Tensor, mask: Tensor, temperature: float | Tensor, symmetric: bool, counts: Tensor
) -> Tensor:
    """Returns t^2 KL(softmax(teacher / t) || softmax(student / t)), summed over the rows that count.

    The softmax of a row is over the entries where the mask is True. If symmetric, the other direction is added.
    """
    log_student, log_teacher = (
        F.log_softmax((similarities / temperature).masked_fill(~mask, -1e4), dim=1) for similarities in (student, teacher)
    )
    total = F.kl_div(log_student, log_teacher, reduction='none', log_target=True)
    if symmetric:
        total = total + F.kl_div(log_teacher, log_student, reduction='none', log_target=True)
    return temperature**2 * (total * counts[:, None]).sum()


@MODELS.register_module()
class TripletRelationLoss(nn.Module):
    """Pulls a person's embedding to the teacher's, away from the teacher's of other persons (triplets of DKD, AAAI 2021).

    The loss is ``max(0, margin + |s_i - t_i| - min over j != i of |s_i - t_j|)``, averaged over the persons i, with the
    Euclidean distances between embeddings of the student (s) and of the teacher (t). As printed, another sighting of the same
    identity counts as another person.

    Embeddings of another size than the student's are first projected by a fixed random matrix with orthonormal rows or columns,
    and normalized. (There both have one size.)

    Args:
        margin: How much nearer than the others the person's own teacher embedding must be. Distances are 0 to 2.
        loss_weight: Factor of the loss.
    """

    def __init__(self, margin: float = 0.3, loss_weight: float = 1.0):
        super().__init__()
        self.margin = margin
        self.loss_weight = loss_weight

    def forward(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> Tensor:
        """(P, D_s) and (P, D_t) -> scalar >= 0, which is 0 for fewer than two persons."""
        student, teacher = gather_rows(persons_of(student), persons_of(teacher))
        with torch.autocast(student.device.type, enabled=False):
            teacher = projected(teacher, student.shape[1])
            count = len(student)
            if count < 2:
                return student.sum() * 0
            distances = torch.cdist(student, teacher, compute_mode='donot_use_mm_for_euclid_dist')
            nearest = distances.masked_fill(~others(count, student.device), float('inf')).amin(1)
            return self.loss_weight * (self.margin + distances.diagonal() - nearest).clamp(min=0).mean()


def projected(embeddings: Tensor, dims: int) -> Tensor:
    """Projects embeddings (P, D) by a fixed random orthonormal matrix to (P, dims) and normalizes them, if D is not dims."""
    size = embeddings.shape[1]
    if size == dims:
        return embeddings
    columns = orthonormal(max(size, dims), min(size, dims), embeddings.device).to(embeddings.dtype)
    return F.normalize(embeddings @ (columns if size > dims else columns.T))


@lru_cache
def orthonormal(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Returns a fixed random matrix (rows, columns) with orthonormal columns, float64. It is the same on every machine."""
    noise = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix, triangle = torch.linalg.qr(noise)
    return (matrix * triangle.diagonal().sign()).to(device)


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
