"""The RoI head of OIM.

Shapes: R RoIs of a batch, N persons, D embedding size, P = sum of N_i. A list of boxes holds one (N_i, 4) tensor per image,
x1 y1 x2 y2 in input-image pixels.
"""

from typing import Any

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import InstanceList
from torch import Tensor

from mmps.dist import losses_over_ranks
from mmps.models.roi_heads.sampling import SampledRoIs, positive_ids, positives, sample_rois
from mmps.registry import MODELS
from mmps.structures import jitter_boxes


@MODELS.register_module()
class PersonSearchRoIHead(StandardRoIHead):
    """MMDetection's RoI head with an additional re-id branch, as in OIM (Xiao et al., CVPR 2017, section 3).

    In training the re-id loss gets the embeddings of the positive RoIs. :meth:`embed` embeds detected and other given boxes.

    Args:
        embedding_head: Config of the head that turns pooled features into embeddings.
        reid_loss: Called with embeddings (N, D) and person_ids (N,); owns the identity memory as ``memory``.
        reid_roi_extractor: Pools the features of the re-id branch; None = it shares the pooled features of the box branch.
        reid_jitter: How far the edges of the RoIs that train the re-id branch move at most, as a fraction of their width or
            height. Above 0, these RoIs are pooled anew (DKD's feature-level spatial-invariant augmentation, AAAI 2021).

    Raises:
        ValueError: Embedding head and identity memory have different embedding sizes.
    """

    def __init__(
        self,
        *args: Any,
        embedding_head: dict,
        reid_loss: dict,
        reid_roi_extractor: dict | None = None,
        reid_jitter: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.reid_jitter = reid_jitter
        self.embedding_head = MODELS.build(embedding_head)
        self.reid_loss = MODELS.build(reid_loss)
        self.reid_roi_extractor = MODELS.build(reid_roi_extractor) if reid_roi_extractor else None
        of_head, of_memory = self.embedding_head.embed_dims, self.reid_loss.memory.embed_dims
        if of_head != of_memory:
            raise ValueError(
                f'{type(self).__name__}: embedding_head has embed_dims={of_head}, reid_loss embed_dims={of_memory}: '
                'they must agree'
            )

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """Computes the box losses, averaged over the RoIs of all ranks, and ``loss_reid``."""
        return self.loss_from_rois(x, sample_rois(self, rpn_results_list, batch_data_samples), batch_data_samples)

    def loss_from_rois(self, x: tuple[Tensor, ...], samples: list[SampledRoIs], batch_data_samples: SampleList) -> dict:
        """Computes the losses of the sampled RoIs. A teaching head (HKD) reads the arguments."""
        bbox_results = loss_of_boxes(self, x, samples)
        if self.reid_roi_extractor is None and not self.reid_jitter:
            embeddings = self.embedding_head(bbox_results['bbox_feats'][positives(samples)])
        else:
            embeddings = self.embed_positives(x, samples)
        loss_reid = self.reid_loss(
            embeddings, positive_ids(samples, batch_data_samples), most_sightings=samples[0].most_sightings
        )
        return dict(bbox_results['loss_bbox'], loss_reid=loss_reid)

    @property
    def embedding_roi_extractor(self) -> SingleRoIExtractor:
        """Returns the extractor of the features that are embedded."""
        return self.reid_roi_extractor or self.bbox_roi_extractor

    @property
    def reid_head(self) -> 'PersonSearchRoIHead':
        """Returns the RoI head that embeds."""
        return self

    def drop_boxes(self) -> None:
        """Removes the box branch. The rest still embeds given boxes."""
        del self.bbox_head

    def embed_positives(self, x: tuple[Tensor, ...], samples: list[SampledRoIs]) -> Tensor:
        """Embeds the positive RoIs of all images: (N, D)."""
        return torch.cat(self.embed(x, jitter_boxes([sample.pos_priors for sample in samples], self.reid_jitter)))

    def refine_boxes(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns person logits (P,) and refined boxes (P, 4) of given boxes."""
        return assess_boxes(self, x, boxes)

    def embed(self, x: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        """Embeds given boxes: list of (N_i, D), L2-normalized; N_i may be 0."""
        extractor = self.embedding_roi_extractor
        roi_feats = extractor(x[: extractor.num_inputs], bbox2roi(boxes))
        if self.with_shared_head:
            roi_feats = self.shared_head(roi_feats)
        return list(self.embedding_head(roi_feats).split([len(image_boxes) for image_boxes in boxes]))


def loss_of_boxes(head: StandardRoIHead, x: tuple[Tensor, ...], samples: list[SampledRoIs]) -> dict:
    """Runs ``bbox_loss`` of a head and averages its losses over the RoIs of all ranks, with one collective of 8 bytes."""
    results = head.bbox_loss(x, samples)
    losses = results['loss_bbox']
    if len(results['cls_score']) == 0:  # MMDetection then omits the loss, but other ranks wait for its gradients
        losses['loss_cls'] = results['cls_score'].sum()
    return dict(results, loss_bbox=losses_over_ranks(losses, len(results['cls_score'])))


def assess_boxes(head: StandardRoIHead, x: tuple[Tensor, ...], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns person logits (P,) and refined boxes (P, 4) from MMDetection's box head.

    Its softmax over person and background equals the sigmoid of the difference of their logits.
    """
    results = head._bbox_forward(x, bbox2roi(boxes))
    person, background = results['cls_score'].unbind(1)
    return person - background, head.bbox_head.bbox_coder.decode(torch.cat(list(boxes)), results['bbox_pred'])
