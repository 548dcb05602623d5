"""Re-identification networks on crops: the teacher of DKD, and a detector's head alone, the teacher of HKD.

Shapes: N persons of a batch, C features, D embedding size, (h, w) size of a crop.
"""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from math import log
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from mmdet.models.reid import FcModule
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, get_box_tensor
from mmdet.utils import InstanceList
from mmengine.model import BaseModule, ModuleDict, ModuleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmps.models.detectors.base import PersonSearchDetector
from mmps.models.detectors.two_stage import TwoStagePersonSearch
from mmps.models.embedding_heads import RowNorm
from mmps.models.losses import OIMLoss
from mmps.models.memory import IdentityMemory
from mmps.registry import MODELS
from mmps.structures import jitter_boxes, person_boxes


@MODELS.register_module()
class ReIDNetwork(BaseModule):
    """Runs a backbone, averages its last map and applies fully connected layers.

    Its parts have the names of MMDetection's re-id models (``BaseReID`` with ``LinearReIDHead``), but they do not need
    MMPretrain. So a checkpoint of such a model loads into it, without its classifier:
    ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Args:
        backbone: Config of the backbone. Only its last map is used.
        in_channels: Channels of that map.
        out_channels: C.
        fc_channels: Widths of the hidden layers. A batch norm and a ReLU follow each.
    """

    def __init__(
        self, backbone: dict, in_channels: int, out_channels: int, fc_channels: Sequence[int] = (), init_cfg: dict | None = None
    ):
        super().__init__(init_cfg)
        widths = [in_channels, *fc_channels]
        self.out_channels = out_channels
        self.backbone = MODELS.build(backbone)
        self.head = ModuleDict(
            dict(
                fcs=ModuleList(FcModule(*sizes, norm_cfg=dict(type='BN1d')) for sizes in pairwise(widths)),
                fc_out=nn.Linear(widths[-1], out_channels),
            )
        )

    def forward(self, crops: Tensor) -> Tensor:
        """(N, 3, h, w) -> (N, C); N may be 0."""
        features = self.backbone(crops)[-1].mean((2, 3))
        for layer in self.head['fcs']:
            features = layer(features)
        return self.head['fc_out'](features)


class CropEmbedder(PersonSearchDetector):
    """Base class of networks that embed crops of persons.

    They are trained and tested on person-search data like a detector, but they do not detect. Their detections are the
    annotated persons with score 1. So a test measures the re-id quality behind a perfect detector. Their features are the
    images themselves, and a box is embedded by cutting it out of them. Parts of a crop outside the image are zero. In a
    training batch of fewer than two persons all batch norms use running statistics.

    A subclass implements :meth:`embed_crops` and has a ``reid_loss``, which is called with embeddings (N, D) and person_ids
    (N,) and owns the identity memory as ``memory``.

    Args:
        crop_size: Height and width (h, w) in pixels.
        box_jitter: How far the edges of a training box move at most, as a fraction of its width or height (DKD's image-level
            spatial-invariant augmentation).
        erasing: Probability that a rectangle of a training crop is erased (:func:`erase_rectangles`).
    """

    reid_loss: OIMLoss

    # It has no detection head: a distiller that records one of these members raises an error.
    dense_head: None = None  # type: ignore[assignment]  # None is the contract's word for "has no such part"
    run_dense_head: None = None  # type: ignore[assignment]  # the same
    refine_boxes: None = None  # type: ignore[assignment]  # the same

    def __init__(
        self,
        crop_size: Sequence[int] = (256, 128),
        box_jitter: float = 0.0,
        erasing: float = 0.0,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.box_jitter, self.erasing = box_jitter, erasing
        self.crop = RoIAlign(tuple(crop_size), spatial_scale=1.0, sampling_ratio=0, aligned=True)

    @abstractmethod
    def embed_crops(self, crops: Tensor) -> Tensor:
        """(N, 3, h, w) -> (N, D), L2-normalized; N may be 0."""

    @property
    def memory(self) -> IdentityMemory:
        return self.reid_loss.memory

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor]:
        """Returns the images (B, 3, H, W) unchanged."""
        return (batch_inputs,)

    def loss_from_feats(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        person_ids = torch.cat([sample.gt_instances.person_ids for sample in batch_data_samples])
        for name, part in self.named_children():
            part.train(self.training and (len(person_ids) > 1 or name == 'reid_loss'))
        crops = self.cut(feats, jitter_boxes(person_boxes(batch_data_samples), self.box_jitter))
        return dict(loss_reid=self.reid_loss(self.embed_crops(erase_rectangles(crops, self.erasing)), person_ids))

    def embed_boxes(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> list[Tensor]:
        return list(self.embed_crops(self.cut(feats, boxes)).split([len(of_image) for of_image in boxes]))

    def cut(self, feats: tuple[Tensor, ...], boxes: list[Tensor]) -> Tensor:
        """Cuts the boxes of all images out of them: crops (N, 3, h, w)."""
        return self.crop(feats[0].float(), bbox2roi(boxes))

    def detect(self, feats: tuple[Tensor, ...], batch_data_samples: SampleList) -> InstanceList:
        """Returns the annotated persons of each image. An image without annotations has none."""
        results = []
        for sample in batch_data_samples:
            annotated = sample.get('gt_instances', {})
            boxes = get_box_tensor(annotated.bboxes) if 'bboxes' in annotated else feats[0].new_zeros(0, 4)
            boxes = boxes * boxes.new_tensor(sample.scale_factor).repeat(2)
            results.append(
                InstanceData(
                    bboxes=boxes, scores=boxes.new_ones(len(boxes)), labels=boxes.new_zeros(len(boxes), dtype=torch.long)
                )
            )
        return results

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple[Tensor]:
        """Treats the images as crops and returns their embeddings (B, D)."""
        return (self.embed_crops(batch_inputs),)


@MODELS.register_module()
class CropReID(CropEmbedder):
    """Embeds crops of persons with a re-id network, as the teacher of DKD does (Zhang et al., AAAI 2021).

    Args:
        reid: Network from crops (N, 3, h, w) to features (N, D), e.g. :class:`ReIDNetwork`. A batch norm over persons and
            L2-normalization follow: the loss and the search read the feature after the batch norm, as with BNNeck (Luo et al.,
            CVPRW 2019).
        reid_loss: The loss, with the identity memory.
        **kwargs: Arguments of :class:`CropEmbedder`.

    Raises:
        ValueError: Network and identity memory have different embedding sizes.
    """

    def __init__(self, reid: dict, reid_loss: dict, **kwargs: Any):
        super().__init__(**kwargs)
        self.reid = MODELS.build(reid)
        self.reid_loss = MODELS.build(reid_loss)
        out_channels, embed_dims = getattr(self.reid, 'out_channels', None), self.memory.embed_dims
        if out_channels not in (None, embed_dims):
            raise ValueError(
                f'CropReID: reid has out_channels={out_channels}, reid_loss embed_dims={embed_dims}: they must agree'
            )
        self.norm = RowNorm(embed_dims)

    def embed_crops(self, crops: Tensor) -> Tensor:
        return F.normalize(self.norm(self.reid(crops).float()))


@MODELS.register_module()
class CropReIDHead(CropEmbedder):
    """Trains a two-stage detector's re-id head on crops, before it teaches in a distillation (HKD, ACM MM 2023).

    A crop goes through the detector's backbone and neck, and the head pools the whole crop as one box. RPN, box heads and
    SeqNet's first head are dropped. The parts keep the detector's names, so backbone and neck load its checkpoint.

    Args:
        detector: Config of a :class:`TwoStagePersonSearch`.
        **kwargs: Arguments of :class:`CropEmbedder`, except the preprocessor, which is the detector's.

    Raises:
        ValueError: The detector has no RoI head that embeds.
    """

    def __init__(self, detector: dict, **kwargs: Any):
        whole = MODELS.build(detector)
        if not isinstance(whole, TwoStagePersonSearch):
            raise ValueError(f'CropReIDHead: detector is of type {type(whole).__name__}: expected TwoStagePersonSearch')
        super().__init__(data_preprocessor=whole.data_preprocessor, **kwargs)
        self.backbone = whole.backbone
        self.neck = whole.neck if whole.with_neck else nn.Identity()
        self.roi_head = whole.roi_head.reid_head
        self.roi_head.drop_boxes()
        self.reid_loss = self.roi_head.reid_loss
        del self.roi_head.reid_loss

    def embed_crops(self, crops: Tensor) -> Tensor:
        # Without a person, an empty crop runs: distributed training waits for the gradient of every weight.
        run = crops if len(crops) else crops.new_zeros(1, *crops.shape[1:])
        height, width = crops.shape[2:]
        boxes = [crops.new_tensor([[0, 0, width, height]])] * len(run)
        return torch.cat(self.roi_head.embed(self.neck(self.backbone(run)), boxes))[: len(crops)]


def erase_rectangles(
    crops: Tensor,
    probability: float,
    area: tuple[float, float] = (0.02, 0.4),
    ratio: tuple[float, float] = (0.3, 1 / 0.3),
) -> Tensor:
    """Sets a random rectangle of a crop to zero (random erasing, Zhong et al., AAAI 2020), the mean of normalized images.

    Each rectangle's share of the crop's area is uniform in ``area``, and the logarithm of its height / width is uniform in
    ``ratio``. A rectangle that would be larger than the crop is cut to its size.

    Args:
        crops: (N, 3, h, w).
        probability: Of each crop.

    Returns:
        (N, 3, h, w). The input is not changed.
    """
    if probability == 0:
        return crops
    size = crops.new_tensor(crops.shape[2:])
    chance, share, shape, *place = torch.rand(5, len(crops), device=crops.device)
    pixels = (area[0] + share * (area[1] - area[0])) * size.prod()
    aspect = (log(ratio[0]) + shape * log(ratio[1] / ratio[0])).exp()
    sides = torch.minimum(torch.stack([(pixels * aspect).sqrt(), (pixels / aspect).sqrt()]), size[:, None])
    starts = torch.stack(place) * (size[:, None] - sides)
    rows, columns = (
        (places := torch.arange(length, device=crops.device) + 0.5).ge(start[:, None]) & places.le((start + side)[:, None])
        for length, start, side in zip(crops.shape[2:], starts, sides, strict=True)
    )
    erased = rows[:, :, None] & columns[:, None] & (chance < probability)[:, None, None]
    return crops.masked_fill(erased[:, None], 0)
