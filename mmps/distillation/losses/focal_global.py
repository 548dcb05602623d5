"""FGD's loss. Shapes: B images, C channels, (H, W) size of a feature map, N_i persons of image i."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import ContextBlock
from torch import Tensor, nn

from mmps.dist import mean_over_ranks
from mmps.distillation.losses.feature import matched_maps, person_weights
from mmps.registry import MODELS


@MODELS.register_module()
class FGDLoss(nn.Module):
    """Compares feature maps by focal and global distillation (FGD, Yang et al., CVPR 2022, equations 3 to 12).

    - Focal: the squared difference of the maps, weighted with the teacher's spatial and channel attention and summed over the
      channels. It is summed over each person's cells with weight 1 / its area, and over the background with weight 1 / its
      number of cells. The absolute difference of the attentions of both maps is added.
    - Global: the squared difference of the maps after one context block each (GCNet, ICCV 2019). The distillation trains these
      blocks. At the start they add nothing to the maps.

    All terms are sums, divided by the number of images of all ranks, which is a collective of 8 bytes.

    The defaults are those of the authors' code. Its configs have these values for temperature and the four weights, in the
    order below: 0.5, 1e-3, 5e-4, 5e-4, 5e-6 for RetinaNet; 0.5, 5e-5, 2.5e-5, 5e-5, 5e-7 for Faster R-CNN; 0.8, 1.6e-3, 8e-4,
    8e-4, 8e-6 for FCOS. A person's cells are those that its box overlaps, as in :class:`PersonFeatureLoss`. The authors' code
    has one row and one column more.

    Args:
        channels: C.
        stride: Input-image pixels per cell of this level.
        temperature: T of the attentions' softmax.
        person_weight: Factor of the persons' term, alpha.
        background_weight: Factor of the background's term, beta.
        attention_weight: Factor of the attentions' term, gamma.
        relation_weight: Factor of the global term, lambda. With 0 there are no context blocks.
        loss_weight: Factor of the sum.
    """

    def __init__(
        self,
        channels: int,
        stride: float,
        temperature: float = 0.5,
        person_weight: float = 1e-3,
        background_weight: float = 5e-4,
        attention_weight: float = 1e-3,
        relation_weight: float = 5e-6,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        self.channels = channels
        self.stride = stride
        self.temperature = temperature
        self.person_weight = person_weight
        self.background_weight = background_weight
        self.attention_weight = attention_weight
        self.relation_weight = relation_weight
        self.loss_weight = loss_weight
        if relation_weight:
            self.student_context = ContextBlock(channels, ratio=1 / 2)
            self.teacher_context = ContextBlock(channels, ratio=1 / 2)

    def forward(self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C, H, W) twice, and one (N_i, 4) tensor of boxes per image, in input-image pixels -> scalar >= 0.

        A teacher's map of another (H, W) is averaged over the student's cells.

        Raises:
            ValueError: The maps differ in images or channels, or do not have C channels.
        """
        student, teacher = matched_maps('FGDLoss', student, teacher)
        if student.shape[1] != self.channels:
            raise ValueError(f'FGDLoss: channels={self.channels}, but the features are {tuple(student.shape)}')
        with torch.autocast(student.device.type, enabled=False):
            spatial, channel = self.attention(teacher)
            loss = self.focal(student, teacher, spatial, channel, boxes)
            loss = loss + self.attention_weight * sum(
                (ours - theirs).abs().sum() for ours, theirs in zip(self.attention(student), (spatial, channel), strict=True)
            )
            if self.relation_weight:
                difference = self.student_context(student) - self.teacher_context(teacher)
                loss = loss + self.relation_weight * difference.square().sum()
            return self.loss_weight * loss / mean_over_ranks(len(student))

    def focal(self, student: Tensor, teacher: Tensor, spatial: Tensor, channel: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Returns the persons' and the background's terms, weighted and summed over the images."""
        difference = spatial * torch.einsum('bchw,bc->bhw', (student - teacher).square(), channel)
        persons = person_weights(boxes, difference.shape[1:], self.stride)
        background = (persons == 0).to(difference)
        background = background / background.sum((1, 2), keepdim=True).clamp(min=1)
        return (difference * (self.person_weight * persons + self.background_weight * background)).sum()

    def attention(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> spatial (B, H, W) and channel (B, C) attention. The mean of each is 1."""
        magnitude = feature.abs()
        spatial = magnitude.mean(1)
        channel = magnitude.mean((2, 3))
        cells = spatial[0].numel()
        return (
            cells * F.softmax(spatial.flatten(1) / self.temperature, dim=1).view_as(spatial),
            self.channels * F.softmax(channel / self.temperature, dim=1),
        )
