"""Assigns boxes to persons and samples them like MMDetection, with fixed shapes: the host does not wait for a GPU.

Shapes: N boxes (anchors or proposals) and G persons of one image, K sampled boxes.
"""

from typing import Any

import torch
from mmdet.models.task_modules import BboxOverlaps2D, MaxIoUAssigner, RandomSampler
from torch import Tensor


def fits(assigner: Any, sampler: Any) -> bool:
    """Returns whether the functions below do what MMDetection's assigner and sampler do, for all that their configs say."""
    return (
        type(assigner) is MaxIoUAssigner
        and type(assigner.iou_calculator) is BboxOverlaps2D
        and assigner.ignore_wrt_candidates
        and assigner.gpu_assign_thr <= 0
        and assigner.perm_repeat_gt_cfg is None
        and (assigner.gt_max_assign_all or not assigner.match_low_quality)
        and type(sampler) is RandomSampler
        and sampler.neg_pos_ub < 0
    )


def areas_of(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def intersections(one: Tensor, other: Tensor) -> Tensor:
    """Returns the area that each box of (N, 4) has in common with each of (M, 4): (N, M)."""
    low, high = torch.max(one[:, None, :2], other[:, :2]), torch.min(one[:, None, 2:], other[:, 2:])
    return (high - low).clamp(min=0).prod(2)


def pairwise_iou(one: Tensor, other: Tensor) -> Tensor:
    """(N, 4) and (M, 4) -> (N, M), bit for bit MMDetection's ``bbox_overlaps``."""
    common = intersections(one, other)
    return common / (areas_of(one)[:, None] + areas_of(other) - common).clamp(min=1e-6)


def assign(
    boxes: Tensor,
    persons: Tensor,
    assigner: MaxIoUAssigner,
    ignored: Tensor | None = None,
    usable: Tensor | None = None,
) -> Tensor:
    """Assigns each box to a person, as ``MaxIoUAssigner`` does.

    Args:
        boxes: (N, 4).
        persons: (G, 4).
        ignored: (M, 4), regions of the image: a box does not count if more than ``ignore_iof_thr`` of it is in one of them.
        usable: (N,), False for boxes that must not be used. None = all are.

    Returns:
        (N,): 1 + the index of its person, 0 for background, -1 for a box that does not count.
    """
    if len(persons) == 0:
        background = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        return background if usable is None else background.masked_fill(~usable, -1)
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.long, device=boxes.device)
    overlaps = pairwise_iou(persons, boxes)
    if usable is not None:
        overlaps = overlaps.masked_fill(~usable, -1)
    if ignored is not None and len(ignored) and assigner.ignore_iof_thr > 0:
        inside = (intersections(boxes, ignored) / areas_of(boxes)[:, None].clamp(min=1e-6)).amax(1)
        overlaps = overlaps.masked_fill(inside > assigner.ignore_iof_thr, -1)
    most, person = overlaps.max(0)
    low, high = assigner.neg_iou_thr if isinstance(assigner.neg_iou_thr, tuple) else (0, assigner.neg_iou_thr)
    assigned = torch.full_like(person, -1).masked_fill((most >= low) & (most < high), 0)
    assigned = torch.where(most >= assigner.pos_iou_thr, person + 1, assigned)
    if assigner.match_low_quality:  # a person gets its best boxes, however small the overlap; of two persons the later one
        best = overlaps.amax(1, keepdim=True)
        gets = (overlaps == best) & (best >= assigner.min_pos_iou)
        number = torch.arange(1, len(persons) + 1, device=boxes.device)[:, None]
        claimed = (gets * number).amax(0)
        assigned = torch.where(claimed > 0, claimed, assigned)
    return assigned


def draw(positive: Tensor, negative: Tensor, count: int, most_positives: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples boxes of each image at random: positives up to ``most_positives``, and negatives for the rest of ``count``.

    Args:
        positive: (B, N) mask.
        negative: (B, N) mask.

    Returns:
        Indices of positives (B, K) and a mask of those that are sampled, and the same of negatives (B, K').
    """
    chance = torch.rand(positive.shape, device=positive.device)
    positives = chance.masked_fill(~positive, -1).topk(min(most_positives, positive.shape[1]))
    negatives = chance.masked_fill(~negative, -1).topk(min(count, positive.shape[1]))
    taken = positives.values >= 0
    wanted = count - taken.sum(1, keepdim=True)
    filled = (negatives.values >= 0) & (torch.arange(negatives.values.shape[1], device=positive.device) < wanted)
    return positives.indices, taken, negatives.indices, filled


def sampled(assigned: Tensor, sampler: RandomSampler) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples the boxes of one image as ``RandomSampler`` does: indices and masks like :func:`draw`, without the B."""
    most_positives = int(sampler.num * sampler.pos_fraction)
    chosen, taken, others, filled = draw(assigned[None] > 0, assigned[None] == 0, sampler.num, most_positives)
    return chosen[0], taken[0], others[0], filled[0]


def most_sightings(person_ids: Tensor) -> Tensor:
    """Returns how often the most frequent identity occurs in (N,) ids. Negative ids are none. A scalar; N may be 0."""
    ids = person_ids.sort().values
    place = torch.arange(len(ids), device=ids.device)
    first = place.where(ids != ids.roll(1), 0)  # roll compares the first id with the last: its start is 0 in either case
    sightings = (place - first.cummax(0).values + 1).masked_fill(ids < 0, 0)
    return torch.cat([sightings, sightings.new_zeros(1)]).amax()
