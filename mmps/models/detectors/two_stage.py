import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.structures import DetDataSample, SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmps.models.memory import IdentityMemory
from mmps.registry import MODELS


@MODELS.register_module()
class TwoStagePersonSearch(TwoStageDetector):
    """A two-stage person-search detector: MMDetection's, with an embedding for every detection and every query box.

    Its RoI head must have ``embed`` and a ``reid_loss`` that owns the identity memory.
    """

    @property
    def memory(self) -> IdentityMemory:
        return self.roi_head.reid_loss.memory

    def embed(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """The embeddings of given boxes.

        Args:
            feats: What :meth:`extract_feat` returned.
            boxes: One (N_i, 4) tensor an image, x1 y1 x2 y2 in input-image pixels; N_i may be 0.

        Returns:
            list of (N_i, D), L2-normalised.
        """
        return self.roi_head.embed(feats, boxes)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """(B, 3, H, W) images and their samples -> named losses."""
        return self.loss_from_feats(self.extract_feat(batch_inputs), batch_data_samples)

    def loss_from_feats(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """The losses from features that are already there: a distiller needs them too, and computes them once."""
        proposal_cfg = self.train_cfg.get('rpn_proposal', self.test_cfg.rpn)
        # The only class is 0, as the RPN expects: the samples can be shared as they are.
        rpn_losses, proposals = self.rpn_head.loss_and_predict(feats, batch_data_samples, proposal_cfg=proposal_cfg)
        losses = {name if 'rpn' in name else f'rpn_{name}': value for name, value in rpn_losses.items()}
        return losses | self.roi_head.loss(feats, proposals, batch_data_samples)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Detections with embeddings, and the embeddings of given boxes, from one pass over the images.

        Returns:
            The samples with ``pred_instances`` (bboxes (N, 4), scores (N,), labels (N,), embeddings (N, D)) and, where
            there are ``query_instances`` or ``gt_instances`` with boxes, their ``embeddings``. Boxes are in
            original-image pixels if ``rescale``, as those of queries and of annotated persons always are in a test.
        """
        feats = self.extract_feat(batch_inputs)
        proposals = self.rpn_head.predict(feats, batch_data_samples, rescale=False)
        results = self.roi_head.predict(feats, proposals, batch_data_samples, rescale=False)
        scales = [result.bboxes.new_tensor(sample.scale_factor).repeat(2)
                  for result, sample in zip(results, batch_data_samples, strict=True)]
        given = [_instances_with_boxes(sample) for sample in batch_data_samples]
        embeddings = self.embed(feats, [
            torch.cat([result.bboxes, *(_plain(instances.bboxes) * scale for instances in of_sample)])
            for result, of_sample, scale in zip(results, given, scales, strict=True)])
        for result, of_sample, scale, embedding in zip(results, given, scales, embeddings, strict=True):
            for instances, part in zip([result, *of_sample],
                                       embedding.split([len(result), *map(len, of_sample)]), strict=True):
                instances.embeddings = part
            if rescale:
                result.bboxes = result.bboxes / scale
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        # A distilled student's checkpoint also holds what its distillation needs to be resumed.
        for key in [key for key in state_dict if key.startswith(f'{prefix}distiller.')]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)


def _instances_with_boxes(sample: DetDataSample) -> list[InstanceData]:
    """The boxes that a test sample carries: of queries, of annotated persons, of neither."""
    instances = [sample.get(name) for name in ('query_instances', 'gt_instances') if name in sample]
    return [each for each in instances if 'bboxes' in each]


def _plain(boxes) -> Tensor:
    return getattr(boxes, 'tensor', boxes)
