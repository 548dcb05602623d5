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
    """Runs SeqNet's two heads in sequence (Li and Miao, AAAI 2021, section 3): the second gets the boxes of the first.

    The first head detects. The second refines and embeds these detections and keeps their scores (first classification
    score). The embedding is multiplied by that score (confidence-weighted similarity).

    Args:
        first: A RoI head of MMDetection, e.g. ``StandardRoIHead``, that regresses one box per RoI.
        second: A :class:`~mmps.models.roi_heads.NormAwareRoIHead`.
        train_cfg: Assigner and sampler of both heads.
        test_cfg: Has the entries ``first`` and ``second``, the test_cfg of each head.
    """

    def __init__(self, first: dict, second: dict, train_cfg: dict | None = None, test_cfg: dict | None = None):
        super().__init__()
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.first, self.second = (
            MODELS.build({**head, 'train_cfg': train_cfg, 'test_cfg': test_cfg and test_cfg[name]})
            for name, head in (('first', first), ('second', second))
        )

    @property
    def reid_head(self) -> nn.Module:
        return self.second

    @property
    def reid_loss(self) -> nn.Module:
        return self.second.reid_loss

    def loss(self, x: tuple[Tensor, ...], proposals: InstanceList, batch_data_samples: SampleList) -> dict:
        """Computes the losses of the first head (``s0.*``), of the second (``s1.*``) and ``loss_reid``."""
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
        """Detects persons: bboxes in input-image pixels, scores, labels and embeddings."""
        found = self.first.predict(x, proposals, batch_data_samples)
        return self.second.refine(x, [each.bboxes for each in found], [each.scores for each in found], batch_data_samples)

    def refine_boxes(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns person logits (P,) and refined boxes (P, 4) of given boxes from the first head, which detects."""
        return assess_boxes(self.first, x, boxes)

    def embed(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """Embeds given boxes: list of (N_i, D), L2-normalized; N_i may be 0."""
        return self.second.embed(x, boxes)
