"""Shapes: B images, C channels, (H, W) a map, R RoIs, (h, w) the pooled size, S samples a bin and axis."""
import torch
from mmcv.ops import RoIAlign
from torch import Tensor
from torch.autograd.function import once_differentiable

# Values a RoI from which two matrix products are faster than a walk over them; 14 x 14 x 1,024 is 200,704, 7 x 7 x 256 12,544.
LARGE = 2**16


class SeparableRoIAlign(RoIAlign):
    """MMCV's RoIAlign, where it is slow: on a CPU, for many channels.

    Bilinear samples on a grid, averaged over bins, are a product of two small matrices with the RoI's piece of the map: one
    weighs its rows, one its columns. Elsewhere, and for what that does not cover, this is MMCV's.
    """

    @classmethod
    def like(cls, layer: RoIAlign) -> 'SeparableRoIAlign':
        return cls(layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.pool_mode, layer.aligned)

    def forward(self, feats: Tensor, rois: Tensor) -> Tensor:
        """(B, C, H, W) and (R, 5), index of the image, x1 y1 x2 y2 -> (R, C, h, w)."""
        size = self.output_size
        if (feats.device.type != 'cpu' or self.pool_mode != 'avg' or self.sampling_ratio < 1
                or feats.dtype != torch.float32 or feats.shape[1] * size[0] * size[1] < LARGE):
            return super().forward(feats, rois)
        low, high = ((rois[:, 1:].unflatten(1, (2, 2)) * self.spatial_scale) - (0.5 if self.aligned else 0)).unbind(1)
        length = high - low if self.aligned else (high - low).clamp(min=1)
        rows, tops = self._weights(low[:, 1], length[:, 1], feats.shape[2], size[0])
        columns, lefts = self._weights(low[:, 0], length[:, 0], feats.shape[3], size[1])
        pieces = torch.cat([rois[:, :1].long(), tops, lefts], dim=1).tolist()
        return _Pool.apply(feats, rows, columns, pieces)

    def _weights(self, low: Tensor, length: Tensor, cells: int, bins: int) -> tuple[Tensor, Tensor]:
        """Along one axis: what each cell counts in each bin, (R, bins, cells), and the first and past-the-last cell, (R, 2)."""
        samples = bins * self.sampling_ratio
        at = low[:, None] + (torch.arange(samples) + 0.5) * (length / samples)[:, None]
        inside = (at >= -1) & (at <= cells)
        at = at.clamp(0, cells - 1)
        weights = (1 - (at[..., None] - torch.arange(cells)).abs()).clamp(min=0) * inside[..., None]
        first, last = at.amin(1).long(), at.amax(1).long() + 2
        return (weights.unflatten(1, (bins, self.sampling_ratio)).mean(2),
                torch.stack([first, last.clamp(max=cells)], dim=1))


class _Pool(torch.autograd.Function):
    # Its own backward adds a RoI's gradient to its piece; autograd's would make a whole map for each. The loops stay: RoIs have
    # pieces of different sizes, and on whole maps the products would cost twenty times as much.

    @staticmethod
    def forward(ctx, feats: Tensor, rows: Tensor, columns: Tensor, pieces: list) -> Tensor:
        pooled = feats.new_empty(len(pieces), feats.shape[1], rows.shape[1], columns.shape[1])
        for out, row, column, (image, top, bottom, left, right) in zip(pooled, rows, columns, pieces, strict=True):
            piece = feats[image, :, top:bottom, left:right] @ column[:, left:right].T
            torch.matmul(row[:, top:bottom], piece, out=out)
        ctx.save_for_backward(rows, columns)
        ctx.shape, ctx.pieces = feats.shape, pieces
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple:
        rows, columns = ctx.saved_tensors
        of_feats = gradient.new_zeros(ctx.shape)
        for of_roi, row, column, (image, top, bottom, left, right) in zip(
                gradient, rows, columns, ctx.pieces, strict=True):
            of_feats[image, :, top:bottom, left:right] += row[:, top:bottom].T @ (of_roi @ column[:, left:right])
        return of_feats, None, None, None
