"""FGD's loss. Shapes: B images, C channels, (H, W) size of a feature map, N_i persons of image i."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import ContextBlock
from torch import Tensor, nn

from mmps.dist import mean_over_ranks
from mmps.distillation.losses.feature import image_cells, matched_maps, person_weights, standardise
from mmps.registry import MODELS


@MODELS.register_module()
class FGDLoss(nn.Module):
    """Compares feature maps by focal and global distillation (FGD, Yang et al., CVPR 2022, equations 3 to 12).

    - Focal: the squared difference of the maps, weighted with the teacher's spatial and channel attention and summed over the
      channels. It is summed over each person's cells with weight 1 / its area, and over the background with weight 1 / its
      number of cells. The absolute difference of the attentions of both maps is added.
    - Global: the squared difference of the maps after one context block each (GCNet, ICCV 2019). The distillation trains these
      blocks. At the start they add nothing to the maps.

    All terms are sums, divided by the number of images of all ranks, which is a collective of 8 bytes. The padding of an image
    does not count.

    The attention is a softmax of mean magnitudes, so it depends on the scale of the maps. On maps with large values it falls on
    one channel only, and the squared differences drown the student's own losses: AlignPS's maps have a mean magnitude of about
    15 after 31 steps from scratch. With ``standardised``, every channel of both maps is first scaled to mean 0 and variance 1
    over the batch (:func:`~mmps.distillation.losses.feature.standardise`), so that the same weights fit any detector.

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
        standardised: Whether the maps are standardised first. The authors do not do it.
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
        standardised: bool = False,
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
        self.standardised = standardised
        self.loss_weight = loss_weight
        if relation_weight:
            self.student_context = ContextBlock(channels, ratio=1 / 2)
            self.teacher_context = ContextBlock(channels, ratio=1 / 2)

    def forward(
        self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor], sizes: Sequence[Sequence[int]] | None = None
    ) -> Tensor:
        """(B, C, H, W) twice, and one (N_i, 4) tensor of boxes per image, in input-image pixels -> scalar >= 0.

        A teacher's map of another (H, W) is averaged over the student's cells.

        Args:
            sizes: Height and width of each image without padding, in input-image pixels. None = no image is padded.

        Raises:
            ValueError: The maps differ in images or channels, or do not have C channels.
        """
        student, teacher = matched_maps('FGDLoss', student, teacher)
        if student.shape[1] != self.channels:
            raise ValueError(f'FGDLoss: channels={self.channels}, but the features are {tuple(student.shape)}')
        cells = image_cells(student, sizes, self.stride)
        with torch.autocast(student.device.type, enabled=False):
            if self.standardised:
                student, teacher = standardise(student, cells), standardise(teacher, cells)
            inside = torch.ones_like(student[:, 0]) if cells is None else cells.to(student)
            spatial, channel = self.attention(teacher, inside)
            loss = self.focal(
                student, teacher, spatial, channel, person_weights(boxes, inside.shape[1:], self.stride, cells), inside
            )
            loss = loss + self.attention_weight * sum(
                (ours - theirs).abs().sum()
                for ours, theirs in zip(self.attention(student, inside), (spatial, channel), strict=True)
            )
            if self.relation_weight:
                difference = related(self.student_context, student, inside) - related(self.teacher_context, teacher, inside)
                loss = loss + self.relation_weight * (difference.square().sum(1) * inside).sum()
            return self.loss_weight * loss / mean_over_ranks(len(student))

    def focal(
        self, student: Tensor, teacher: Tensor, spatial: Tensor, channel: Tensor, persons: Tensor, inside: Tensor
    ) -> Tensor:
        """Returns the persons' and the background's terms, weighted and summed over the images."""
        difference = spatial * torch.einsum('bchw,bc->bhw', (student - teacher).square(), channel)
        background = (persons == 0) * inside
        background = background / background.sum((1, 2), keepdim=True).clamp(min=1)
        return (difference * (self.person_weight * persons + self.background_weight * background)).sum()

    def attention(self, feature: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> spatial (B, H, W) and channel (B, C) attention. The mean of each over the image's cells is 1.

        ``inside``, (B, H, W), is 1 in the cells that count and 0 in the others.
        """
        magnitude = feature.abs() * inside[:, None]
        cells = inside.sum((1, 2))
        spatial = masked_softmax(magnitude.mean(1) / self.temperature, inside)
        channel = magnitude.sum((2, 3)) / cells[:, None]
        return cells[:, None, None] * spatial, self.channels * F.softmax(channel / self.temperature, dim=1)


def masked_softmax(scores: Tensor, inside: Tensor) -> Tensor:
    """Returns the softmax of (B, H, W) scores over those cells of each image where ``inside`` is 1. It is 0 in the others."""
    return F.softmax(scores.masked_fill(inside == 0, -torch.inf).flatten(1), dim=1).view_as(scores)


def related(block: ContextBlock, feature: Tensor, inside: Tensor) -> Tensor:
    """Applies a context block to a map (B, C, H, W). Its pooling leaves out the cells where ``inside`` is 0."""
    weights = masked_softmax(block.conv_mask(feature)[:, 0], inside)
    context = torch.einsum('bchw,bhw->bc', feature, weights)
    return feature + block.channel_add_conv(context[:, :, None, None])
