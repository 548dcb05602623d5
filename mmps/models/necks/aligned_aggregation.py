"""The neck of AlignPS.

Shapes: L levels of the backbone from ``start_level`` on. Levels of the neck have the same strides as these.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_conv_layer, build_norm_layer
from mmengine.model import BaseModule, constant_init
from torch import Tensor, nn

from mmps.registry import MODELS

DEFORMABLE = dict(type='DCN')


@MODELS.register_module()
class AlignedFeatureAggregation(BaseModule):
    """Aligned feature aggregation, the neck of AlignPS (Yan et al., CVPR 2021).

    It is an FPN with deformable 3x3 lateral and output convolutions. Its top-down path concatenates instead of adding: level
    i gets the laterals of all levels from i on. A test uses and computes only the finest level. In training the coarser
    levels give the detection head more background points.

    Args:
        in_channels: Channels of every backbone level, including the unused first ones.
        out_channels: Channels of every output level.
        start_level: The first backbone level that is used; 1 is stride 8.
        num_outs: Number of levels in training. Those beyond the backbone's are strided convolutions of the coarsest one.
        conv_cfg: Type of the lateral and output convolutions; None = plain convolutions.
        norm_cfg: Norm after the output convolution of the finest level; None = no norm, as published.
        init_cfg: Default: Xavier (uniform) for plain convolutions. Deformable ones initialize themselves, with offsets 0.

    Raises:
        ValueError: ``num_outs`` is less than L, or L is 0.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        start_level: int = 1,
        num_outs: int = 5,
        conv_cfg: dict | None = DEFORMABLE,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg or dict(type='Xavier', layer='Conv2d', distribution='uniform'))
        used = list(in_channels[start_level:])
        if not 0 < len(used) <= num_outs:
            raise ValueError(
                f'AlignedFeatureAggregation: num_outs is {num_outs}, but from start_level {start_level} on '
                f'in_channels has {len(used)} levels: expected 1 to num_outs of them'
            )
        self.in_channels = list(in_channels)
        self.out_channels = out_channels
        self.start_level = start_level
        self.num_outs = num_outs

        def conv(channels: int) -> nn.Module:
            return build_conv_layer(conv_cfg, channels, out_channels, 3, padding=1)

        self.lateral_convs = nn.ModuleList(conv(channels) for channels in used)
        self.fpn_convs = nn.ModuleList(conv(levels * out_channels) for levels in range(len(used), 0, -1))
        self.norm = build_norm_layer(norm_cfg, out_channels)[1] if norm_cfg else nn.Identity()
        self.fpn_convs.extend(
            ConvModule(out_channels, out_channels, 3, stride=2, padding=1, act_cfg=None) for _ in range(num_outs - len(used))
        )

    def init_weights(self) -> None:
        super().init_weights()
        for module in self.modules():
            if hasattr(module, 'conv_offset'):  # init_cfg also reached the offsets' plain convolution
                constant_init(module.conv_offset, 0)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Backbone levels -> ``num_outs`` maps (B, out_channels, H_i, W_i) in training, otherwise only the finest one.

        Raises:
            ValueError: The number of levels is not that of ``in_channels``.
        """
        if len(inputs) != len(self.in_channels):
            raise ValueError(
                f'AlignedFeatureAggregation: the backbone gives {len(inputs)} levels, '
                f'in_channels names {len(self.in_channels)}: {self.in_channels}'
            )
        laterals = [convolve(conv, x) for conv, x in zip(self.lateral_convs, inputs[self.start_level :], strict=True)]
        for fine in range(len(laterals) - 2, -1, -1):
            coarse = F.interpolate(laterals[fine + 1], size=laterals[fine].shape[2:], mode='nearest')
            laterals[fine] = torch.cat([laterals[fine], coarse], dim=1)
        outs = [self.norm(convolve(self.fpn_convs[0], laterals[0]))]
        if not self.training:
            return tuple(outs)
        outs += [convolve(conv, x) for conv, x in zip(self.fpn_convs[1:], laterals[1:], strict=False)]
        for index in range(len(laterals), self.num_outs):
            # The first extra level has no ReLU before it, as published.
            outs.append(self.fpn_convs[index](outs[-1].relu() if index > len(laterals) else outs[-1]))
        return tuple(outs)


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """Applies a 3x3 convolution to a map of any size.

    MMCV's deformable convolution refuses maps smaller than its kernel, such as the coarsest level of an image below 65
    pixels. Such a map is padded with zeros, which the convolution would read beyond the edge anyway.
    """
    height, width = x.shape[2:]
    if min(height, width) >= 3:
        return conv(x)
    return conv(F.pad(x, (0, max(0, 3 - width), 0, max(0, 3 - height))))[..., :height, :width]
