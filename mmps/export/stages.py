"""The stages of detection with fixed shapes: a fixed number of rows for each image, some of which count.

Shapes: B images, N boxes or points, R RoIs, K detections and Q given boxes of each image, D embedding size. Boxes are x1 y1 x2
y2 in input-image pixels, sizes (B, 2) height and width of the images in them. A row that does not count has the score -1.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from mmps.models.dense_heads import AlignPSHead
from mmps.models.dense_heads.points import sample_points
from mmps.models.roi_heads import NormAwareRoIHead, PersonSearchRoIHead

from .operators import keep_by_nms, leading_rows

NOT_COUNTED = -1.0


@dataclass
class Rows:
    """Boxes (B, N, 4) and scores (B, N)."""

    boxes: Tensor
    scores: Tensor

    def at(self, places: Tensor, scores: Tensor) -> 'Rows':
        """Returns the rows at places (B, M), with other scores."""
        return Rows(rows_at(self.boxes, places), scores)


def best(scores: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Returns the highest scores (B, limit) and their places, also where there are fewer."""
    values, places = F.pad(scores, (0, limit), value=NOT_COUNTED).topk(limit)
    return values, places.clamp(max=scores.shape[1] - 1)


def rows_at(values: Tensor, places: Tensor) -> Tensor:
    """(B, N, C) and places (B, M) -> (B, M, C)."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clips boxes (B, N, 4) to their images."""
    limits = sizes.flip(1).repeat(1, 2)[:, None].to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limits)


def suppress(rows: Rows, cfg: dict, limit: int, apart: Tensor | None = None) -> tuple[Rows, Tensor]:
    """Non-maximum suppression: the rows that are kept, at most ``limit``, by decreasing score, and their places (B, limit).

    Args:
        cfg: As MMDetection's ``nms`` in ``test_cfg``.
        apart: (N,), numbers of groups; boxes of two groups do not suppress each other.
    """
    boxes = rows.boxes
    if apart is not None:
        boxes = boxes + (boxes.amax((1, 2), keepdim=True) + 1) * apart[:, None]
    kept = keep_by_nms(boxes, rows.scores, cfg['iou_threshold'], limit)
    scores, places = best(torch.where(kept > 0, rows.scores, NOT_COUNTED), limit)
    return rows.at(places, scores), places


def count_if(condition: Tensor, rows: Rows) -> Rows:
    """Returns the rows, of which those without the condition (B, N) do not count."""
    return Rows(rows.boxes, torch.where(condition, rows.scores, NOT_COUNTED))


def without_rest(rows: Rows) -> Rows:
    """Returns rows by decreasing score without those that count in no image, so that the next stage does not compute them. At
    least one is left."""
    boxes, scores = leading_rows(torch.cat([rows.boxes, rows.scores[..., None]], 2)).split([4, 1], 2)
    return Rows(boxes, scores.squeeze(2))


def padded(values: Tensor, count: int) -> Tensor:
    """(B, N, D) -> (B, count, D): the last row is repeated."""
    places = torch.arange(count, device=values.device).clamp(max=values.shape[1] - 1)
    return values[:, places]


def sides(boxes: Tensor) -> Tensor:
    """Returns widths and heights (B, N, 2)."""
    return boxes[..., 2:] - boxes[..., :2]


def propose(head: RPNHead, feats: tuple[Tensor, ...], sizes: Tensor) -> Rows:
    """Returns the proposals of an RPN, R of each image."""
    cfg, found, levels = head.test_cfg, [], []
    logits, deltas = head(feats)
    priors = head.prior_generator.grid_priors([level.shape[2:] for level in logits], device=sizes.device)
    for number, (of_level, distances, anchors) in enumerate(zip(logits, deltas, priors, strict=True)):
        scores, places = best(of_level.permute(0, 2, 3, 1).flatten(1).sigmoid(), cfg['nms_pre'])
        distances = rows_at(distances.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)), places)
        boxes = head.bbox_coder.decode(anchors[places].flatten(0, 1), distances.flatten(0, 1))
        found.append(Rows(clip(boxes.view_as(distances), sizes), scores))
        levels.append(scores.new_full((cfg['nms_pre'],), number))
    rows = Rows(torch.cat([each.boxes for each in found], 1), torch.cat([each.scores for each in found], 1))
    if cfg.get('min_bbox_size', -1) >= 0:
        rows = count_if((sides(rows.boxes) > cfg['min_bbox_size']).all(-1), rows)
    return suppress(rows, cfg['nms'], cfg['max_per_img'], torch.cat(levels))[0]


def as_rois(boxes: Tensor) -> Tensor:
    """(B, R, 4) -> (B * R, 5), with the index of the image first."""
    images = torch.arange(boxes.shape[0], dtype=boxes.dtype, device=boxes.device)
    return torch.cat([images[:, None, None].expand(-1, boxes.shape[1], 1), boxes], 2).flatten(0, 1)


def classify(head: StandardRoIHead, feats: tuple[Tensor, ...], proposals: Rows, sizes: Tensor, limit: int) -> Rows:
    """Returns the detections of Fast R-CNN's head."""
    rois = as_rois(proposals.boxes)
    results = head._bbox_forward(feats, rois)
    scores = results['cls_score'].softmax(1)[:, 0].view_as(proposals.scores)
    boxes = head.bbox_head.bbox_coder.decode(rois[:, 1:], results['bbox_pred']).view_as(proposals.boxes)
    found = count_if((proposals.scores > 0) & (scores > head.test_cfg['score_thr']), Rows(clip(boxes, sizes), scores))
    return suppress(found, head.test_cfg['nms'], limit)[0]


def embed(head: PersonSearchRoIHead | NormAwareRoIHead, feats: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Embeds boxes (B, N, 4) with the re-id branch of a RoI head: (B, N, D)."""
    rois = as_rois(boxes)
    if isinstance(head, NormAwareRoIHead):
        embeddings = head.describe(feats, rois).embeddings
    else:
        extractor = head.embedding_roi_extractor
        pooled = extractor(feats[: extractor.num_inputs], rois)
        embeddings = head.embedding_head(head.shared_head(pooled) if head.with_shared_head else pooled)
    return embeddings.unflatten(0, boxes.shape[:2])


def refine(
    head: NormAwareRoIHead, feats: tuple[Tensor, ...], rows: Rows, given: Tensor, sizes: Tensor, limit: int, keep_scores: bool
) -> tuple[Rows, Tensor, Tensor]:
    """Runs the head of NAE: detections, their embeddings (B, limit, D) and those of the given boxes (B, Q, D).

    Args:
        keep_scores: Keep the rows' scores. Otherwise the norms of the embeddings give them.
    """
    boxes = torch.cat([rows.boxes, given], 1)
    outputs = head.describe(feats, as_rois(boxes))
    embeddings = outputs.embeddings.unflatten(0, boxes.shape[:2])
    own, others = embeddings.split([rows.boxes.shape[1], given.shape[1]], 1)
    scores = rows.scores if keep_scores else outputs.logits.sigmoid().view(boxes.shape[:2])[:, : rows.boxes.shape[1]]
    refined = head.bbox_head.bbox_coder.decode(boxes.flatten(0, 1), outputs.deltas).view_as(boxes)
    refined = clip(refined[:, : rows.boxes.shape[1]], sizes)
    counts = (rows.scores > 0) & (scores > head.test_cfg['score_thr']) & (sides(refined) >= 1e-2).all(-1)
    found, places = suppress(count_if(counts, Rows(refined, scores)), head.test_cfg['nms'], limit)
    own = rows_at(own, places)
    return found, own * found.scores[..., None] if head.confidence_weighted else own, others


def detect_densely(head: AlignPSHead, feats: tuple[Tensor, ...], sizes: Tensor, limit: int) -> tuple[Rows, Tensor, Tensor]:
    """Runs the head of AlignPS: detections, their embeddings (B, limit, D), and the re-id map (B, D, H, W)."""
    cfg = head.test_cfg
    logits, distances, centernesses, reid_map = head(feats[:1])
    probabilities = logits[0].flatten(1).sigmoid()
    scores, places = best(probabilities * centernesses[0].flatten(1).sigmoid(), cfg['nms_pre'])
    points = head._points(reid_map).flatten(0, 1)[places]
    distances = rows_at(distances[0].flatten(2).transpose(1, 2), places)
    boxes = head.bbox_coder.decode(points.flatten(0, 1), distances.flatten(0, 1)).view_as(distances)
    passed = probabilities.gather(1, places) > cfg['score_thr']
    found, of_best = suppress(count_if(passed, Rows(clip(boxes, sizes), scores)), cfg['nms'], limit)
    values = rows_at(reid_map.flatten(2).transpose(1, 2), places.gather(1, of_best))
    return found, describe(head, values), reid_map


def describe(head: AlignPSHead, values: Tensor) -> Tensor:
    """Turns values (B, N, D) of the re-id map into embeddings."""
    return head.describe(values.flatten(0, 1)).view_as(values)


def embed_in_map(head: AlignPSHead, reid_map: Tensor, given: Tensor, found: Rows, embeddings: Tensor) -> Tensor:
    """Embeds given boxes (B, Q, 4) as the head's ``embed_from`` says: (B, Q, D)."""
    at_centres = describe(head, sample_points(reid_map, (given[..., :2] + given[..., 2:]) / 2, head.strides[0]))
    if head.embed_from == 'centre':
        return at_centres
    overlaps, nearest = (bbox_overlaps(given, found.boxes) * (found.scores > 0)[:, None]).max(2)
    return torch.where(overlaps[..., None] > 0, rows_at(embeddings, nearest), at_centres)


def preprocess(preprocessor: DetDataPreprocessor, images: Tensor, sizes: Tensor) -> Tensor:
    """Turns images uint8 (B, H, W, 3), BGR, into the detector's input (B, 3, H, W), which is 0 beyond the images' sizes.

    Rows of 3 W numbers are computed as a whole. Runtimes are slow where the last dimension has a size of 3.
    """
    width = images.shape[2]
    mean, std = (each.view(3) for each in (preprocessor.mean, preprocessor.std))
    if preprocessor._channel_conversion:
        mean, std = mean.flip(0), std.flip(0)
    rows = torch.arange(images.shape[1], device=images.device) < sizes[:, :1]
    columns = torch.arange(3 * width, device=images.device) < 3 * sizes[:, 1:]
    values = (images.flatten(2).float() - mean.repeat(width)) / std.repeat(width) * (rows[:, :, None] & columns[:, None])
    planes = values.unflatten(2, (width, 3)).permute(0, 3, 1, 2)
    return planes.flip(1) if preprocessor._channel_conversion else planes
