"""MMCV's operators in PyTorch's own operations: nothing is compiled, and a CPU and a GPU run the same code.

Shapes: N boxes, R RoIs, B images, C channels, O output channels, (H, W) a map, (h, w) the pooled size or the output of a
convolution, K taps of a kernel, G groups of offsets.

All of them compute in float32 (float64 for such input), read any memory format, and follow MMCV 2.1.0's arithmetic
step by step, so that its decisions (a box just above the threshold, a point just inside the map) come out alike.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

NMS_BLOCK = 128  # boxes that are compared with all later ones at once
LARGE = 2**16  # values a pooled RoI from which two products, rows and columns apart, are faster than one
SAMPLED_VALUES = 2**24  # sampled values of a deformable convolution that are computed at once: 64 MiB of float32


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4), x1 y1 x2 y2.
        scores: (N,).
        offset: Added to widths and heights: 1 where the last pixel belongs to a box.

    Returns:
        Indices of the boxes that are kept, by falling score. Memory grows with N, not with its square.
    """
    order = scores.sort(descending=True).indices  # as MMCV sorts: equal scores come in its order
    x1, y1, x2, y2 = boxes[order].to(exact_type(boxes)).T.contiguous()
    # Below a box's coordinates are its area and its place in ``order``.
    rest = torch.stack([x1, y1, x2, y2, (x2 - x1 + offset) * (y2 - y1 + offset)])
    places, kept = torch.arange(len(order), device=order.device), [order[:0]]
    while len(places):
        block, rest = rest[:, :NMS_BLOCK], rest[:, NMS_BLOCK:]
        in_block, places = places[:NMS_BLOCK], places[NMS_BLOCK:]
        alive = _greedy((_iou(block[:, :, None], block[:, None], offset) > iou_threshold).triu(1))
        kept.append(in_block[alive])
        if len(places):
            alive = ~(_iou(block[:, alive, None], rest[:, None], offset) > iou_threshold).any(0)
            rest, places = rest[:, alive], places[alive]
    return order[torch.cat(kept)]


def _greedy(overlaps: Tensor) -> Tensor:
    """Which boxes no kept box before them overlaps: (N, N), row before column -> (N,).

    A round settles at least one more box from the front, in practice most of them.
    """
    alive, before = torch.ones_like(overlaps[0]), None
    while before is None or not torch.equal(alive, before):
        before, alive = alive, ~(overlaps & alive[:, None]).any(0)
    return alive


def _iou(one: Tensor, other: Tensor, offset: int) -> Tensor:
    """Of coordinates and areas, (5, ...) each, that broadcast."""
    width = (torch.minimum(one[2], other[2]).sub_(torch.maximum(one[0], other[0])).add_(offset)).clamp_(min=0)
    height = (torch.minimum(one[3], other[3]).sub_(torch.maximum(one[1], other[1])).add_(offset)).clamp_(min=0)
    intersection = width.mul_(height)
    return intersection.div_((one[4] + other[4]).sub_(intersection))


def soft_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, sigma: float, min_score: float, method: str, offset: int = 0
) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression that lowers the scores of overlapping boxes (Bodla et al., ICCV 2017).

    Args:
        boxes: (N, 4).
        scores: (N,).
        sigma: Of the Gaussian.
        min_score: Boxes whose score falls below it are dropped.
        method: naive, linear or gaussian.

    Returns:
        Boxes with their new scores (M, 5), in the order in which they were chosen, and their indices (M,).
    """
    x1, y1, x2, y2 = boxes.to(exact_type(boxes)).T
    left = torch.stack([x1, y1, x2, y2, (x2 - x1 + offset) * (y2 - y1 + offset), scores.to(x1)])
    places, chosen, dets = torch.arange(len(scores), device=scores.device), [], []
    while len(places):  # each choice depends on the one before
        best = left[5].argmax()
        box = left[:, best]
        chosen.append(places[best])
        dets.append(box[[0, 1, 2, 3, 5]])
        others = torch.arange(len(places), device=places.device) != best
        left, places = left[:, others], places[others]
        iou = _iou(box[:5, None], left[:5], offset).nan_to_num(0)  # two boxes without area do not overlap
        if method == 'gaussian':
            weight = torch.exp(-iou.square() / sigma)
        else:
            weight = torch.where(iou >= iou_threshold, 1 - iou if method == 'linear' else 0.0, 1.0)
        left[5] *= weight
        high = left[5] >= min_score
        left, places = left[:, high], places[high]
    if not chosen:
        return boxes.new_zeros(0, 5), places
    return torch.stack(dets).to(boxes.dtype), torch.stack(chosen)


def roi_align(feats: Tensor, rois: Tensor, size: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    """RoIAlign (He et al., ICCV 2017) with average pooling.

    Bilinear samples, averaged over bins, are a product of the RoI's piece of the map with what its cells weigh; the weights
    are those of its rows times those of its columns.

    Args:
        feats: (B, C, H, W).
        rois: (R, 5): index of the image, x1 y1 x2 y2 in its pixels.
        size: (h, w).
        scale: Cells of the map a pixel.
        sampling_ratio: Samples a bin and axis; 0 for as many as a bin has cells.
        aligned: Whether a cell's value stands at its centre; otherwise RoIs have at least one cell in both directions.

    Returns:
        (R, C, h, w), of the type of ``feats``.
    """
    pooled = feats.new_empty(len(rois), feats.shape[1], *size, dtype=exact_type(feats))
    pieces = _pieces(feats.shape, rois, size, scale, sampling_ratio, aligned)
    for out, (image, rows, columns, of_rows, of_columns) in zip(pooled, pieces, strict=True):
        piece, of_rows, of_columns = (each.to(out.dtype) for each in (feats[image, :, rows, columns], of_rows, of_columns))
        if out.numel() < LARGE:
            torch.mm(piece.flatten(1), torch.kron(of_rows, of_columns).T, out=out.flatten(1))
        else:
            torch.matmul(of_rows, piece @ of_columns.T, out=out)
    return pooled.to(feats.dtype)


def roi_align_backward(
    gradient: Tensor, rois: Tensor, shape: tuple[int, ...], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """The gradient of :func:`roi_align` for the map, (B, C, H, W) = ``shape``, from that of its output."""
    of_feats = gradient.new_zeros(shape, dtype=exact_type(gradient))
    pieces = _pieces(shape, rois, gradient.shape[2:], scale, sampling_ratio, aligned)
    for of_roi, (image, rows, columns, of_rows, of_columns) in zip(gradient, pieces, strict=True):
        of_roi, of_rows, of_columns = (each.to(of_feats.dtype) for each in (of_roi, of_rows, of_columns))
        piece = of_feats[image, :, rows, columns]
        if of_roi.numel() < LARGE:
            piece += (of_roi.flatten(1) @ torch.kron(of_rows, of_columns)).view(piece.shape)
        else:
            piece += of_rows.T @ (of_roi @ of_columns)
    return of_feats.to(gradient.dtype)


def _pieces(
    shape: tuple[int, ...], rois: Tensor, size: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool
) -> Iterator[tuple[int, slice, slice, Tensor, Tensor]]:
    """For each RoI its image, the rows and columns of the map that it reads, and what they weigh: (h, rows), (w, columns).

    One RoI at a time: their pieces have different sizes.
    """
    boxes = rois[:, 1:].to(exact_type(rois)) * scale - (0.5 if aligned else 0.0)
    starts, ends = boxes[:, :2], boxes[:, 2:]
    lengths = ends - starts if aligned else (ends - starts).clamp(min=1)
    rows, tops, bottoms = _axis_weights(starts[:, 1], lengths[:, 1], shape[2], size[0], sampling_ratio)
    columns, lefts, rights = _axis_weights(starts[:, 0], lengths[:, 0], shape[3], size[1], sampling_ratio)
    limits = torch.stack([rois[:, 0].long(), tops, bottoms, lefts, rights], dim=1).tolist()
    for row, column, (image, top, bottom, left, right) in zip(rows, columns, limits, strict=True):
        yield image, slice(top, bottom), slice(left, right), row[:, top:bottom], column[:, left:right]


def _axis_weights(start: Tensor, length: Tensor, cells: int, bins: int, sampling_ratio: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: what each cell weighs in each bin, (R, bins, cells); the first cell and the one past the last, (R,)."""
    bin_length = length / bins
    samples = torch.full_like(start, sampling_ratio) if sampling_ratio > 0 else bin_length.ceil()
    sample = torch.arange(max(int(samples.max()), 1) if len(samples) else 1, device=start.device)
    start, bin_length, samples = (each[:, None, None] for each in (start, bin_length, samples))
    first = start + torch.arange(bins, device=start.device)[:, None] * bin_length
    at = first + (sample + 0.5) * bin_length / samples.clamp(min=1)
    share = ((at >= -1) & (at <= cells) & (sample < samples)) / samples.clamp(min=1)
    at = at.clamp(0, cells - 1)
    low = at.floor().long()
    high, beyond = (low + 1).clamp(max=cells - 1), at - low
    weights = at.new_zeros(len(at), bins, cells)
    weights.scatter_add_(2, low, (1 - beyond) * share)
    weights.scatter_add_(2, high, beyond * share)
    return weights, low.flatten(1).amin(1), high.flatten(1).amax(1) + 1


def deform_conv(
    feats: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Deformable convolution (Dai et al., ICCV 2017), modulated where there is a mask (Zhu et al., CVPR 2019).

    Args:
        feats: (B, C, H, W).
        offset: (B, G * K * 2, h, w), y before x, in cells.
        mask: (B, G * K, h, w), which the samples are multiplied with.
        weight: (O, C / groups, kernel height, kernel width).
        bias: (O,).

    Returns:
        (B, O, h, w), of the type of ``feats``.
    """
    steps = _Sampling(feats, offset, mask, weight, stride, padding, dilation, groups)
    out = feats.new_empty(len(feats), len(weight), *offset.shape[2:])
    for image, rows, inputs in steps:
        found = steps.convolve(*inputs)
        out[image, :, rows] = found if bias is None else found + bias.to(found)[:, None, None]
    return out


def deform_conv_backward(
    feats: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    gradient: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    of_weight_alone: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of :func:`deform_conv` for ``feats``, ``offset``, ``mask`` (None without one) and ``weight``.

    What was sampled is sampled again: it would fill the memory.

    Args:
        gradient: Of its output, (B, O, h, w).
        of_weight_alone: Leave the first three out (None).
    """
    steps = _Sampling(feats, offset, mask, weight, stride, padding, dilation, groups)
    of_table, of_at, of_mask = (
        None if of_weight_alone or each is None else torch.zeros_like(each) for each in (steps.tables, steps.at, steps.mask)
    )
    of_weight = torch.zeros_like(steps.weight)
    for image, rows, inputs in steps:
        leaves = [
            None if each is None else each.detach().requires_grad_(each is inputs[-1] or not of_weight_alone) for each in inputs
        ]
        with torch.enable_grad():
            out = steps.convolve(*leaves)
        wanted = [each for each in leaves if each is not None and each.requires_grad]
        *others, last = torch.autograd.grad(out, wanted, gradient[image, :, rows].to(out))
        of_weight += last
        if others:
            of_table[image] += others[0]
            of_at[image, rows] = others[1]
            if of_mask is not None:
                of_mask[image, rows] = others[2]
    of_weight = of_weight.to(weight.dtype)
    if of_weight_alone:
        return None, None, None, of_weight
    of_feats = of_table.view(len(feats), -1, *feats.shape[2:], of_table.shape[-1]).permute(0, 1, 4, 2, 3).flatten(1, 2)
    return (
        of_feats.to(feats.dtype),
        _channels_first(of_at).to(offset.dtype),
        None if mask is None else _channels_first(of_mask).to(mask.dtype),
        of_weight,
    )


class _Sampling:
    """A deformable convolution, some rows of one image at a time: for each the image, the rows and :meth:`convolve`'s input.

    Attributes:
        tables: (B, G * H * W, C / G), the map with a row a cell.
        at: (B, h, w, G, K, 2), where each tap reads, y before x, in cells.
        mask: (B, h, w, G, K) or None.
    """

    def __init__(
        self,
        feats: Tensor,
        offset: Tensor,
        mask: Tensor | None,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ):
        self.size, self.groups, (taps_y, taps_x) = feats.shape[2:], groups, weight.shape[2:]
        taps = taps_y * taps_x
        offset_groups = offset.shape[1] // (2 * taps)
        exact, device = exact_type(feats), feats.device
        y, x = (
            torch.arange(out, device=device)[:, None] * step + torch.arange(kernel, device=device) * apart - pad
            for out, kernel, step, apart, pad in zip(offset.shape[2:], weight.shape[2:], stride, dilation, padding, strict=True)
        )  # (h, kernel height), (w, kernel width)
        shape = (len(y), len(x), taps_y, taps_x)
        grid = torch.stack([y[:, None, :, None].expand(shape), x[None, :, None].expand(shape)], dim=-1).flatten(2, 3)
        self.at = offset.to(exact).unflatten(1, (offset_groups, taps, 2)).permute(0, 4, 5, 1, 2, 3) + grid[:, :, None]
        self.mask = None if mask is None else mask.to(exact).unflatten(1, (offset_groups, taps)).permute(0, 3, 4, 1, 2)
        self.tables = feats.to(exact).unflatten(1, (offset_groups, -1)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        self.weight = weight.to(exact)
        self.rows = max(1, SAMPLED_VALUES // (len(x) * taps * feats.shape[1]))

    def __iter__(self) -> Iterator[tuple[int, slice, tuple]]:
        for image, (table, at) in enumerate(zip(self.tables, self.at, strict=True)):
            for first in range(0, len(at), self.rows):
                rows = slice(first, first + self.rows)
                mask = None if self.mask is None else self.mask[image, rows]
                yield image, rows, (table, at[rows], mask, self.weight)

    def convolve(self, table: Tensor, at: Tensor, mask: Tensor | None, weight: Tensor) -> Tensor:
        """(G * H * W, C / G), (rows, w, G, K, 2), (rows, w, G, K) and the kernels -> (O, rows, w)."""
        limit = torch.tensor(self.size, device=at.device)
        inside = ((at > -1) & (at < limit)).all(-1)
        at = torch.where(inside[..., None], at, -2.0)  # wherever else, an infinity included: the sample is 0
        low = at.detach().floor()
        beyond = at - low
        cells = torch.stack([low, low + 1], dim=-1)  # (rows, w, G, K, 2, 2): axis, low and high
        shares = torch.stack([1 - beyond, beyond], dim=-1) * ((cells >= 0) & (cells < limit[:, None]))
        cells = cells.long().clamp(min=0).minimum(limit[:, None] - 1)
        first = torch.arange(at.shape[2], device=at.device)[:, None] * (self.size[0] * self.size[1])
        cells = first[..., None, None] + cells[..., 0, :, None] * self.size[1] + cells[..., 1, None, :]
        shares = shares[..., 0, :, None] * shares[..., 1, None, :]
        shares = shares * (inside if mask is None else inside * mask)[..., None, None]
        # A bilinear sample is a weighted sum of four rows of the table.
        sampled = F.embedding_bag(cells.view(-1, 4), table, mode='sum', per_sample_weights=shares.view(-1, 4))
        sampled = sampled.view(-1, *at.shape[2:4], table.shape[1]).transpose(1, 2)  # (rows * w, K, G, C / G)
        sampled = sampled.reshape(len(sampled), weight.shape[2] * weight.shape[3], self.groups, -1)
        kernels = weight.flatten(2).unflatten(0, (self.groups, -1))  # (groups, O / groups, C / groups, K)
        out = torch.einsum('pkgc,gock->gop', sampled, kernels)
        return out.reshape(len(weight), *at.shape[:2])


def _channels_first(values: Tensor) -> Tensor:
    """(B, h, w, ...) -> (B, product of the others, h, w)."""
    return values.flatten(3).permute(0, 3, 1, 2)


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017) of each logit, as MMDetection has it on a GPU.

    Args:
        logits: (N, classes).
        targets: (N,), ``classes`` for the background.

    Returns:
        (N, classes).
    """
    positive = F.one_hot(targets.long(), logits.shape[1] + 1)[:, :-1].to(exact_type(logits))
    logits = logits.to(positive)
    share = torch.where(positive > 0, alpha, 1 - alpha)
    wrong = torch.where(positive > 0, 1 - logits.sigmoid(), logits.sigmoid())
    return share * wrong**gamma * F.binary_cross_entropy_with_logits(logits, positive, reduction='none')


def exact_type(values: Tensor) -> torch.dtype:
    """What is computed in: float32, or float64 for such values."""
    return torch.promote_types(values.dtype, torch.float32)
