from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmps.models.roi_heads.norm_aware_roi_head import decode
from mmps.models.roi_heads.person_search_roi_head import assess_boxes, loss_of_boxes
from mmps.models.roi_heads.sampling import sample_rois
from mmps.registry import MODELS


@MODELS.register_module()
class SequentialRoIHead(BaseModule):
    """SeqNet's two heads, one after the other (Li and Miao, AAAI 2021, section 3): the boxes of the first feed the second.

    The first detects; the second refines and embeds what it found, and keeps the first one's score (first classification
    score), by which the embedding is multiplied (confidence-weighted similarity).

    Args:
        first: A RoI head of MMDetection, e.g. ``StandardRoIHead``, that regresses one box a RoI.
        second: A :class:`~mmps.models.roi_heads.NormAwareRoIHead`.
        train_cfg: Assigner and sampler, of both.
        test_cfg: ``first`` and ``second``, each the head's own.
    """

    def __init__(self, first: dict, second: dict, train_cfg: dict | None = None, test_cfg: dict | None = None):
        super().__init__()
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.first, self.second = (
            MODELS.build({**head, 'train_cfg': train_cfg, 'test_cfg': test_cfg and test_cfg[name]})
            for name, head in (('first', first), ('second', second))
        )

    @property
    def reid_loss(self) -> nn.Module:
        return self.second.reid_loss

    def loss(self, x: tuple[Tensor, ...], proposals: InstanceList, batch_data_samples: SampleList) -> dict:
        """The first head's losses (``s0.*``), the second's (``s1.*``) and ``loss_reid``."""
        samples = sample_rois(self.first, proposals, batch_data_samples)
        outputs = loss_of_boxes(self.first, x, samples)
        deltas = outputs['bbox_pred'].detach().split([len(each.priors) for each in samples])
        refined = [
            InstanceData(bboxes=decode(self.first, each.priors, of_image, sample))
            for each, of_image, sample in zip(samples, deltas, batch_data_samples, strict=True)
        ]
        losses = self.second.loss(x, refined, batch_data_samples)
        return dict(
            {f's0.{name}': value for name, value in outputs['loss_bbox'].items()},
            loss_reid=losses.pop('loss_reid'),
            **{f's1.{name}': value for name, value in losses.items()},
        )

    def predict(self, x: tuple[Tensor, ...], proposals: InstanceList, batch_data_samples: SampleList) -> InstanceList:
        """Detections in input-image pixels: bboxes, scores, labels and embeddings."""
        found = self.first.predict(x, proposals, batch_data_samples)
        return self.second.refine(x, [each.bboxes for each in found], [each.scores for each in found], batch_data_samples)

    def refine_boxes(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Person logits (P,) and refined boxes (P, 4) of given boxes: the first head's, which detects."""
        return assess_boxes(self.first, x, boxes)

    def embed(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """The embeddings of given boxes: list of (N_i, D), L2-normalized. An image may have none."""
        return self.second.embed(x, boxes)
