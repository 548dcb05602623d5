"""A person-search detector as one function from images to a fixed number of persons.

Shapes: B images of (H, W) pixels with their padding, K persons and Q given boxes of each image, D embedding size. Boxes are
x1 y1 x2 y2 in the pixels of the input.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmps.models.detectors import QEEPS, AlignPS, TwoStagePersonSearch
from mmps.models.detectors.base import PersonSearchDetector
from mmps.models.roi_heads import NormAwareRoIHead, PersonSearchRoIHead, SequentialRoIHead

from . import stages
from .modules import exportable
from .stages import Rows


class Outputs(NamedTuple):
    """What :class:`PersonSearchGraph` returns: the persons by decreasing score; rows from the count on are 0."""

    boxes: Tensor  # (B, K, 4)
    scores: Tensor  # (B, K)
    embeddings: Tensor  # (B, K, D)
    counts: Tensor  # (B,), int64
    given_embeddings: Tensor  # (B, Q, D)


class PersonSearchGraph(nn.Module):
    """Finds at most K persons in each image, and embeds them and given boxes, in one pass and with fixed shapes.

    Args:
        detector: OIM, NAE, SeqNet, AlignPS or RoI-AlignPS. It is copied.
        persons: K.
        unroll: Compute deformable convolutions without their operator.

    Raises:
        ValueError: It is another detector, or uses another suppression than plain NMS.
    """

    def __init__(self, detector: PersonSearchDetector, persons: int, unroll: bool = False) -> None:
        super().__init__()
        if not isinstance(detector, AlignPS | TwoStagePersonSearch) or isinstance(detector, QEEPS):
            raise ValueError(
                f'{type(detector).__name__}: expected OIM, NAE, SeqNet, AlignPS or RoI-AlignPS: no other is exported'
            )
        check_suppression(detector.test_cfg)
        self.detector = exportable(detector, unroll)
        self.persons = persons

    def forward(self, images: Tensor, sizes: Tensor, given_boxes: Tensor) -> Outputs:
        """Runs the detector.

        Args:
            images: uint8 (B, H, W, 3), BGR. H and W are multiples of the preprocessor's divisor.
            sizes: int64 (B, 2), height and width of each image. What is beyond is padding.
            given_boxes: float (B, Q, 4), boxes to embed.
        """
        feats = self.detector.extract_feat(stages.preprocess(self.detector.data_preprocessor, images, sizes))
        detect = self._detect_densely if isinstance(self.detector, AlignPS) else self._detect_in_two_stages
        found, embeddings, given_embeddings = detect(feats, sizes, given_boxes)
        counted = (found.scores > 0)[..., None]
        return Outputs(
            found.boxes * counted, found.scores.clamp(min=0), embeddings * counted, counted.sum((1, 2)), given_embeddings
        )

    def _detect_densely(self, feats: tuple[Tensor, ...], sizes: Tensor, given: Tensor) -> tuple[Rows, Tensor, Tensor]:
        head = self.detector.bbox_head
        found, embeddings, reid_map = stages.detect_densely(head, feats, sizes, self.persons)
        if self.detector.with_roi_head:
            return self._embed(self.detector.roi_head, feats[-1:], found, given)
        return found, embeddings, stages.embed_in_map(head, reid_map, given, found, embeddings)

    def _detect_in_two_stages(self, feats: tuple[Tensor, ...], sizes: Tensor, given: Tensor) -> tuple[Rows, Tensor, Tensor]:
        proposals, head = stages.propose(self.detector.rpn_head, feats, sizes), self.detector.roi_head
        if isinstance(head, SequentialRoIHead):
            found = stages.classify(head.first, feats, proposals, sizes, self.persons)
            return stages.refine(head.second, feats, stages.without_rest(found), given, sizes, self.persons, keep_scores=True)
        if isinstance(head, NormAwareRoIHead):
            return stages.refine(head, feats, proposals, given, sizes, self.persons, keep_scores=False)
        found = stages.classify(head, feats, proposals, sizes, self.persons)
        return self._embed(head, feats, found, given)

    def _embed(
        self, head: PersonSearchRoIHead, feats: tuple[Tensor, ...], found: Rows, given: Tensor
    ) -> tuple[Rows, Tensor, Tensor]:
        """Embeds detections and given boxes together."""
        persons = stages.without_rest(found).boxes
        embeddings = stages.embed(head, feats, torch.cat([persons, given], 1))
        own, others = embeddings.split([persons.shape[1], given.shape[1]], 1)
        return found, stages.padded(own, self.persons), others


def check_suppression(test_cfg: dict) -> None:
    """Raises a ValueError if a stage of a ``test_cfg`` suppresses boxes in another way than by plain NMS."""
    for name, value in test_cfg.items():
        if name == 'nms' and value.get('type', 'nms') != 'nms':
            raise ValueError(f"nms: expected type 'nms', got {value['type']!r}: it is not exported")
        if isinstance(value, dict):
            check_suppression(value)


def most_persons(detector: PersonSearchDetector) -> int:
    """Returns how many persons of an image the detector's ``test_cfg`` keeps at most."""
    cfg = detector.test_cfg
    if isinstance(detector, TwoStagePersonSearch):
        cfg = cfg['rcnn'].get('second', cfg['rcnn'])
    return int(cfg['max_per_img'])
