"""Points of a map and the boxes that they belong to.

Shapes: B images, P = H x W points of a map, G the largest number of persons in an image, N_i boxes of image i, K positive
points of a batch, D channels of the map. Boxes are in input-image pixels.
"""

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmps.models.assignment import most_sightings


def pad_rows(rows: list[Tensor]) -> Tensor:
    """One (N_i, ...) tensor per image -> (B, G + 1, ...), padded with at least one row of zeros per image."""
    return pad_sequence(
        [torch.cat([of_image, of_image.new_zeros(1, *of_image.shape[1:])]) for of_image in rows], batch_first=True
    )


def assign_points(points: Tensor, boxes: Tensor, radius: float) -> Tensor:
    """Assigns points to boxes as FCOS with centre sampling does (Tian et al., arXiv 2006.09214), for boxes of all sizes.

    Args:
        points: (P, 2).
        boxes: (B, G, 4), G > 0. Boxes without an area get no points.
        radius: Pixels.

    Returns:
        (B, P): the index of the smallest box that contains the point and whose centre is nearer than the radius along both
        axes, or -1 if there is none.
    """
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    low = torch.maximum(boxes[..., :2], centres - radius)[:, None]
    high = torch.minimum(boxes[..., 2:], centres + radius)[:, None]
    inside = ((points[:, None] > low) & (points[:, None] < high)).all(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)[:, None]
    area, person = areas.where(inside, torch.inf).min(-1)
    return person.masked_fill(area.isinf(), -1)


def counts_of(person: Tensor, person_ids: Tensor) -> tuple[int, int]:
    """Returns the number of positive points, and how many of them the most frequent identity has. The host waits once.

    Args:
        person: (B, H, W), the index of each point's person, -1 for background.
        person_ids: (B, G), -1 = unlabelled.
    """
    flat = person.flatten(1)
    ids = person_ids.gather(1, flat.clamp(min=0)).where(flat >= 0, -1)
    count, sightings = torch.stack([(flat >= 0).sum(), most_sightings(ids.flatten())]).tolist()
    return count, sightings


def centerness_of(before: Tensor, after: Tensor) -> Tensor:
    """Returns FCOS's centerness (K,) of points, given their distances (K, 2) to the first and to the last edges."""
    return (torch.minimum(before, after) / torch.maximum(before, after)).prod(1).sqrt()


def sample_at_centres(reid_map: Tensor, boxes: list[Tensor], stride: int) -> Tensor:
    """(B, D, H, W) and one (N_i, 4) tensor per image -> (sum of N_i, D): samples the map at the box centres, image by image."""
    padded = pad_rows(boxes)
    sampled = sample_points(reid_map, (padded[..., :2] + padded[..., 2:]) / 2, stride)
    return torch.cat([rows[: len(of_image)] for rows, of_image in zip(sampled, boxes, strict=True)])


def sample_points(reid_map: Tensor, points: Tensor, stride: int) -> Tensor:
    """(B, D, H, W) and points (B, N, 2), x y in pixels -> (B, N, D).

    Point i of the map is at pixel (i + 0.5) * stride. Values are bilinear between points. Beyond the outermost points they are
    theirs.
    """
    height, width = (cells * stride for cells in reid_map.shape[2:])
    x, y = points.unbind(-1)
    grid = 2 * torch.stack([x / width, y / height], dim=-1) - 1  # with align_corners=False, -1 and 1 are the map's outer edges
    sampled = F.grid_sample(reid_map.float(), grid[:, None].float(), padding_mode='border', align_corners=False)
    return sampled.squeeze(2).transpose(1, 2)


def embeddings_of_best(boxes: Tensor, detections: InstanceData, otherwise: Tensor) -> Tensor:
    """Returns for each of N boxes the embedding of the detection with the highest IoU, or ``otherwise`` if all are 0."""
    if len(detections) == 0:
        return otherwise
    overlap, best = bbox_overlaps(boxes, detections.bboxes).max(1)
    return torch.where(overlap[:, None] > 0, detections.embeddings[best], otherwise)
