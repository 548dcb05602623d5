"""Reference versions of MMCV's operators as plain loops in float64."""

import math

import numpy as np


def greedy_nms(boxes, scores, threshold, offset):
    """Returns the kept indices; ties keep their order. Uses float32, whose rounding decides borderline cases."""
    boxes = boxes.astype(np.float32)
    areas = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
    left, kept = list(np.argsort(-scores, kind='stable')), []
    while left:
        best = left.pop(0)
        kept.append(int(best))
        survivors = []
        for other in left:
            width, height = (
                max(
                    np.float32(0),
                    min(boxes[best, axis + 2], boxes[other, axis + 2])
                    - max(boxes[best, axis], boxes[other, axis])
                    + np.float32(offset),
                )
                for axis in (0, 1)
            )
            union = areas[best] + areas[other] - width * height
            if not (union != 0 and width * height / union > np.float32(threshold)):
                survivors.append(other)
        left = survivors
    return kept


def sample(channel, y, x):
    """Samples (C, H, W) bilinearly, with zeros outside; returns (C,)."""
    total = np.zeros(len(channel))
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < channel.shape[1] and 0 <= column < channel.shape[2]:
                total += channel[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def roi_align(feats, rois, size, scale, ratio, aligned):
    """Maps (B, C, H, W) and RoIs (R, 5) to (R, C, h, w)."""
    _, channels, height, width = feats.shape
    pooled = np.zeros((len(rois), channels, *size))
    for roi, (image, *box) in enumerate(rois):
        left, top, right, bottom = (value * scale - (0.5 if aligned else 0) for value in box)
        wide, high = right - left, bottom - top
        if not aligned:
            wide, high = max(wide, 1), max(high, 1)
        down, across = (ratio or math.ceil(length / bins) for length, bins in zip((high, wide), size, strict=True))
        for i in range(size[0]):
            for j in range(size[1]):
                for p in range(down):
                    for q in range(across):
                        y = top + (i + (p + 0.5) / down) * high / size[0]
                        x = left + (j + (q + 0.5) / across) * wide / size[1]
                        if -1 <= y <= height and -1 <= x <= width:
                            y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                            pooled[roi, :, i, j] += sample(feats[int(image)], y, x) / (down * across)
    return pooled


def deform_conv(feats, offset, mask, weight, stride, padding, dilation, groups):
    """Maps (B, C, H, W) and offsets (B, G * K * 2, h, w) to (B, O, h, w)."""
    batch, channels, height, width = feats.shape
    outputs, per_group, kernel_y, kernel_x = weight.shape
    taps = kernel_y * kernel_x
    offset_groups = offset.shape[1] // (2 * taps)
    out = np.zeros((batch, outputs, *offset.shape[2:]))
    for b in range(batch):
        for i in range(offset.shape[2]):
            for j in range(offset.shape[3]):
                sampled = np.zeros((channels, taps))
                for group in range(offset_groups):
                    part = slice(group * channels // offset_groups, (group + 1) * channels // offset_groups)
                    for tap in range(taps):
                        at = (group * taps + tap) * 2
                        y = i * stride[0] - padding[0] + tap // kernel_x * dilation[0] + offset[b, at, i, j]
                        x = j * stride[1] - padding[1] + tap % kernel_x * dilation[1] + offset[b, at + 1, i, j]
                        if -1 < y < height and -1 < x < width:
                            value = sample(feats[b, part], y, x)
                            sampled[part, tap] = value if mask is None else value * mask[b, group * taps + tap, i, j]
                for o in range(outputs):
                    first = o // (outputs // groups) * per_group
                    out[b, o, i, j] = (weight[o].reshape(per_group, taps) * sampled[first : first + per_group]).sum()
    return out
