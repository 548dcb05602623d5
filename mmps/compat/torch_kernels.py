"""Computes MMCV's operators with PyTorch's own operations. Nothing is compiled; CPU and GPU run the same code.

Shapes: N boxes, R RoIs, B images, C channels, O output channels, (H, W) a map, (h, w) the pooled size or the output of a
convolution, K taps of a kernel, G groups of offsets.

All operators compute in float32 (float64 if the input is float64) and accept any memory format. They follow the arithmetic
of MMCV 2.1.0 step by step, so borderline cases (a box just above the threshold, a point just inside the map) agree.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

NMS_BLOCK = 128  # number of boxes that are compared with all later boxes at once
SMALL_MAP = 2**22  # up to so many values, RoIAlign gathers the cells of a map; of larger ones it multiplies the RoI's part
LARGE = 2**16  # from this size of a pooled RoI or of its weights, two products (rows, then columns) are faster than one
SAMPLED_VALUES = 2**24  # number of values that a deformable convolution samples at once: 64 MiB of float32

# Gradients for feats, offset and mask (None where not computed) and for weight.
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Runs greedy non-maximum suppression. Memory grows with N, not with N squared.

    Args:
        boxes: (N, 4), x1 y1 x2 y2.
        scores: (N,).
        offset: Added to widths and heights: 1 if a box includes its last pixel.

    Returns:
        Indices of the kept boxes, by decreasing score.
    """
    order = scores.sort(descending=True).indices  # the same sort as MMCV's, so that ties have the same order
    x1, y1, x2, y2 = boxes[order].to(exact_type(boxes)).T.contiguous()
    # Rows: the coordinates, then the area.
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
    """Returns a mask (N,) of the kept boxes: those that no earlier kept box overlaps.

    Each round settles at least one more box from the front, in practice most of them.

    Args:
        overlaps: (N, N), True where the box of the row overlaps a later box, that of the column.
    """
    alive, before = torch.ones_like(overlaps[0]), None
    while before is None or not torch.equal(alive, before):
        before, alive = alive, ~(overlaps & alive[:, None]).any(0)
    return alive


def _iou(one: Tensor, other: Tensor, offset: int) -> Tensor:
    """Returns the IoU of boxes given as coordinates and area, (5, ...) each, which broadcast."""
    width = (torch.minimum(one[2], other[2]).sub_(torch.maximum(one[0], other[0])).add_(offset)).clamp_(min=0)
    height = (torch.minimum(one[3], other[3]).sub_(torch.maximum(one[1], other[1])).add_(offset)).clamp_(min=0)
    intersection = width.mul_(height)
    return intersection.div_((one[4] + other[4]).sub_(intersection))


def soft_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, sigma: float, min_score: float, method: str, offset: int = 0
) -> tuple[Tensor, Tensor]:
    """Runs soft NMS, which lowers the scores of overlapping boxes (Bodla et al., ICCV 2017).

    Args:
        boxes: (N, 4).
        scores: (N,).
        sigma: Width of the Gaussian.
        min_score: Boxes whose score falls below it are dropped.
        method: naive, linear or gaussian.

    Returns:
        Boxes with their new scores (M, 5), by decreasing new score, and their indices (M,).
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
    """Computes RoIAlign (He et al., ICCV 2017) with average pooling.

    Averaging bilinear samples over the bins is linear in the map: it equals row weights @ the RoI's part of the map @
    column weights.

    Args:
        feats: (B, C, H, W).
        rois: (R, 5): index of the image, x1 y1 x2 y2 in its pixels.
        size: (h, w).
        scale: Map cells per image pixel.
        sampling_ratio: Samples per bin and axis. 0: as many as a bin has cells.
        aligned: Whether a cell's value is at its centre. If not, a RoI counts as at least one cell wide and high.

    Returns:
        (R, C, h, w), in the dtype of ``feats``.
    """
    if sampling_ratio > 0 and feats.numel() <= SMALL_MAP:
        cells, weights = _cells(feats.shape, rois, size, scale, sampling_ratio, aligned)
        table = feats.permute(0, 2, 3, 1).reshape(-1, feats.shape[1]).to(exact_type(feats))
        pooled = F.embedding_bag(cells, table, per_sample_weights=weights.to(table.dtype), mode='sum')
        return (
            pooled.view(len(rois), *size, feats.shape[1])
            .permute(0, 3, 1, 2)
            .to(feats.dtype, memory_format=torch.contiguous_format)
        )
    pooled = feats.new_empty(len(rois), feats.shape[1], *size, dtype=exact_type(feats))
    pieces = _pieces(feats.shape, rois, size, scale, sampling_ratio, aligned)
    for out, (image, rows, columns, row_weights, column_weights) in zip(pooled, pieces, strict=True):
        piece, row_weights, column_weights = (
            each.to(out.dtype) for each in (feats[image, :, rows, columns], row_weights, column_weights)
        )
        if max(out.numel(), row_weights.numel() * column_weights.numel()) < LARGE:
            torch.mm(piece.flatten(1), torch.kron(row_weights, column_weights).T, out=out.flatten(1))
        else:
            torch.matmul(row_weights, piece @ column_weights.T, out=out)
    return pooled.to(feats.dtype)


def roi_align_backward(
    grad_output: Tensor, rois: Tensor, shape: tuple[int, ...], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Returns the gradient of :func:`roi_align` for the map, of shape ``shape`` = (B, C, H, W), given that of its output."""
    if sampling_ratio > 0 and math.prod(shape) <= SMALL_MAP:
        cells, weights = _cells(shape, rois, grad_output.shape[2:], scale, sampling_ratio, aligned)
        # Each cell of the map sums up the bins that read it: the transposed sum.
        order = cells.flatten().argsort()
        starts = torch.searchsorted(cells.flatten()[order], torch.arange(shape[0] * shape[2] * shape[3], device=rois.device))
        table = grad_output.permute(0, 2, 3, 1).reshape(-1, shape[1]).to(exact_type(grad_output))
        weights = weights.flatten()[order].to(table.dtype)
        summed = F.embedding_bag(order // cells.shape[1], table, starts, per_sample_weights=weights, mode='sum')
        summed = summed.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
        return summed.to(grad_output.dtype, memory_format=torch.contiguous_format)
    grad_feats = grad_output.new_zeros(shape, dtype=exact_type(grad_output))
    pieces = _pieces(shape, rois, grad_output.shape[2:], scale, sampling_ratio, aligned)
    for grad_roi, (image, rows, columns, row_weights, column_weights) in zip(grad_output, pieces, strict=True):
        grad_roi, row_weights, column_weights = (each.to(grad_feats.dtype) for each in (grad_roi, row_weights, column_weights))
        piece = grad_feats[image, :, rows, columns]
        if max(grad_roi.numel(), row_weights.numel() * column_weights.numel()) < LARGE:
            piece += (grad_roi.flatten(1) @ torch.kron(row_weights, column_weights)).view(piece.shape)
        else:
            piece += row_weights.T @ (grad_roi @ column_weights)
    return grad_feats.to(grad_output.dtype)


def _pieces(
    shape: tuple[int, ...], rois: Tensor, size: Sequence[int], scale: float, sampling_ratio: int, aligned: bool
) -> Iterator[tuple[int, slice, slice, Tensor, Tensor]]:
    """Yields for each RoI its image, the rows and columns of the map that it reads, and their weights.

    The weights are (h, rows) and (w, columns). This is a loop because the RoIs' parts of the map differ in size.
    """
    starts, lengths = _corners(rois, scale, aligned)
    rows, tops, bottoms = _axis_weights(starts[:, 1], lengths[:, 1], shape[2], size[0], sampling_ratio)
    columns, lefts, rights = _axis_weights(starts[:, 0], lengths[:, 0], shape[3], size[1], sampling_ratio)
    limits = torch.stack([rois[:, 0].long(), tops, bottoms, lefts, rights], dim=1).tolist()
    for row, column, (image, top, bottom, left, right) in zip(rows, columns, limits, strict=True):
        yield image, slice(top, bottom), slice(left, right), row[:, top:bottom], column[:, left:right]


def _corners(rois: Tensor, scale: float, aligned: bool) -> tuple[Tensor, Tensor]:
    """Returns the RoIs' first corners and their sizes, (R, 2) each, in cells of the map."""
    boxes = rois[:, 1:].to(exact_type(rois)) * scale - (0.5 if aligned else 0.0)
    starts, ends = boxes[:, :2], boxes[:, 2:]
    return starts, ends - starts if aligned else (ends - starts).clamp(min=1)


def _cells(
    shape: tuple[int, ...], rois: Tensor, size: Sequence[int], scale: float, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Returns which cells each bin reads, as indices into the B H W cells, and their weights, (R h w, 4 samples) each."""
    starts, lengths = _corners(rois, scale, aligned)
    rows, row_weights = _samples(starts[:, 1], lengths[:, 1], shape[2], size[0], sampling_ratio)
    columns, column_weights = _samples(starts[:, 0], lengths[:, 0], shape[3], size[1], sampling_ratio)
    rows = rows + rois[:, 0].long()[:, None, None] * shape[2]
    cells = rows[:, :, None, :, None] * shape[3] + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    return cells.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)


def _axis_weights(start: Tensor, length: Tensor, cells: int, bins: int, sampling_ratio: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns, for one axis, each cell's weight in each bin (R, bins, cells), and the first and past-the-last cell (R,)."""
    read, shares = _samples(start, length, cells, bins, sampling_ratio)
    weights = shares.new_zeros(len(read), bins, cells).scatter_add_(2, read, shares)
    return weights, read.flatten(1).amin(1), read.flatten(1).amax(1) + 1


def _samples(start: Tensor, length: Tensor, cells: int, bins: int, sampling_ratio: int) -> tuple[Tensor, Tensor]:
    """Returns, for one axis, the cells that each bin reads and their weights, (R, bins, 2 samples) each."""
    bin_length = length / bins
    samples = torch.full_like(start, sampling_ratio) if sampling_ratio > 0 else bin_length.ceil()
    most = sampling_ratio or (max(int(samples.max()), 1) if len(samples) else 1)
    sample = torch.arange(most, device=start.device)
    start, bin_length, samples = (each[:, None, None] for each in (start, bin_length, samples))
    first = start + torch.arange(bins, device=start.device)[:, None] * bin_length
    at = first + (sample + 0.5) * bin_length / samples.clamp(min=1)
    share = ((at >= -1) & (at <= cells) & (sample < samples)) / samples.clamp(min=1)
    at = at.clamp(0, cells - 1)
    low = at.floor().long()
    high, beyond = (low + 1).clamp(max=cells - 1), at - low
    return torch.cat([low, high], dim=2), torch.cat([(1 - beyond) * share, beyond * share], dim=2)


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
    """Computes a deformable convolution (Dai et al., ICCV 2017), modulated if a mask is given (Zhu et al., CVPR 2019).

    Args:
        feats: (B, C, H, W).
        offset: (B, G * K * 2, h, w), y before x, in cells.
        mask: (B, G * K, h, w), factors of the samples.
        weight: (O, C / groups, kernel height, kernel width).
        bias: (O,).

    Returns:
        (B, O, h, w), in the dtype of ``feats``.
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
    grad_output: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    weight_only: bool = False,
) -> Gradients:
    """Returns the gradients of :func:`deform_conv` for ``feats``, ``offset``, ``mask`` (None without one) and ``weight``.

    The samples are computed again, because storing them would fill the memory.

    Args:
        grad_output: The gradient for the output, (B, O, h, w).
        weight_only: Whether to skip the first three gradients, which are then None.
    """
    steps = _Sampling(feats, offset, mask, weight, stride, padding, dilation, groups)
    grad_weight = torch.zeros_like(steps.weight)
    inputs = [] if weight_only else [each for each in (steps.tables, steps.at, steps.mask) if each is not None]
    grad_inputs = [torch.zeros_like(each) for each in inputs]
    for image, rows, (table, at, factors, kernels) in steps:
        table, at = (each.detach().requires_grad_(not weight_only) for each in (table, at))
        factors = None if factors is None else factors.detach().requires_grad_(not weight_only)
        kernels = kernels.detach().requires_grad_()
        with torch.enable_grad():
            out = steps.convolve(table, at, factors, kernels)
        leaves = [each for each in (table, at, factors, kernels) if each is not None and each.requires_grad]
        *found, found_weight = torch.autograd.grad(out, leaves, grad_output[image, :, rows].to(out))
        grad_weight += found_weight
        for position, (total, part) in enumerate(zip(grad_inputs, found, strict=True)):
            total[(image, rows) if position else image] += part
    grad_weight = grad_weight.to(weight.dtype)
    if weight_only:
        return None, None, None, grad_weight
    grad_tables, grad_at = grad_inputs[:2]
    grad_feats = grad_tables.view(len(feats), -1, *feats.shape[2:], grad_tables.shape[-1]).permute(0, 1, 4, 2, 3).flatten(1, 2)
    return (
        grad_feats.to(feats.dtype),
        _channels_first(grad_at).to(offset.dtype),
        None if mask is None else _channels_first(grad_inputs[2]).to(mask.dtype),
        grad_weight,
    )


class _Sampling:
    """Splits a deformable convolution into some rows of one image at a time. Yields image, rows and :meth:`convolve`'s inputs.

    Attributes:
        tables: (B, G * H * W, C / G), the map with one row per cell.
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
    ) -> None:
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

    def __iter__(self) -> Iterator[tuple[int, slice, tuple[Tensor, Tensor, Tensor | None, Tensor]]]:
        for image, (table, at) in enumerate(zip(self.tables, self.at, strict=True)):
            for first in range(0, len(at), self.rows):
                rows = slice(first, first + self.rows)
                mask = None if self.mask is None else self.mask[image, rows]
                yield image, rows, (table, at[rows], mask, self.weight)

    def convolve(self, table: Tensor, at: Tensor, mask: Tensor | None, weight: Tensor) -> Tensor:
        """Maps (G * H * W, C / G), (rows, w, G, K, 2), (rows, w, G, K) and the kernels to the output (O, rows, w)."""
        limit = torch.tensor(self.size, device=at.device)
        inside = ((at > -1) & (at < limit)).all(-1)
        at = torch.where(inside[..., None], at, -2.0)  # outside the map, also at infinity, a sample is 0
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
    """Maps (B, h, w, ...) to (B, product of the others, h, w)."""
    return values.flatten(3).permute(0, 3, 1, 2)


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, gamma: float, alpha: float) -> Tensor:
    """Returns the focal loss (Lin et al., ICCV 2017) of each logit, as MMDetection computes it on a GPU.

    Args:
        logits: (N, classes).
        targets: (N,), class indices; ``classes`` stands for background.

    Returns:
        (N, classes).
    """
    positive = F.one_hot(targets.long(), logits.shape[1] + 1)[:, :-1].to(exact_type(logits))
    logits = logits.to(positive)
    share = torch.where(positive > 0, alpha, 1 - alpha)
    wrong = torch.where(positive > 0, 1 - logits.sigmoid(), logits.sigmoid())
    return share * wrong**gamma * F.binary_cross_entropy_with_logits(logits, positive, reduction='none')


def exact_type(values: Tensor) -> torch.dtype:
    """Returns the dtype to compute in: float64 for float64 values, otherwise float32."""
    return torch.promote_types(values.dtype, torch.float32)
