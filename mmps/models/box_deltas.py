"""Encodes and decodes boxes like MMDetection, and does not make the host wait for a GPU. Shapes: N boxes."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from torch import Tensor

from mmps.registry import TASK_UTILS


def constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the values as a tensor. It is copied to the device only once: each copy waits for all work of the device."""
    if torch.compiler.is_compiling():  # a tensor of a traced program is no tensor for later calls
        return torch.tensor(values, dtype=dtype, device=device)
    return _kept_constants(values, dtype, device)


@lru_cache
def _kept_constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def clip_boxes(boxes: Tensor, shapes: Sequence[Sequence[int]]) -> None:
    """Clips the boxes (B, N, 4) of each image in place to its height and width."""
    for of_image, (height, width, *_) in zip(boxes, shapes, strict=True):
        of_image[:, 0::2].clamp_(min=0, max=width)
        of_image[:, 1::2].clamp_(min=0, max=height)


@TASK_UTILS.register_module()
class BoxDeltaCoder(DeltaXYWHBBoxCoder):
    """MMDetection's ``DeltaXYWHBBoxCoder``, bit for bit, without its two copies to the device in every call."""

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Returns the deltas (N, 4) that move ``bboxes`` (N, 4) to ``gt_bboxes`` (N, 4)."""
        boxes, targets = bboxes.float(), gt_bboxes.float()
        centres, targets_centres = ((each[:, :2] + each[:, 2:]) * 0.5 for each in (boxes, targets))
        sizes, target_sizes = (each[:, 2:] - each[:, :2] for each in (boxes, targets))
        deltas = torch.cat([(targets_centres - centres) / sizes, torch.log(target_sizes / sizes)], dim=1)
        return deltas.sub_(self._constants(self.means, deltas)).div_(self._constants(self.stds, deltas))

    def decode(
        self,
        bboxes: Tensor,
        pred_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
        wh_ratio_clip: float = 16 / 1000,
        **kwargs: Any,
    ) -> Tensor:
        """Applies deltas (N, 4 K) to boxes (N, 4) and clips the result (N, 4 K) to ``max_shape``, height and width."""
        if pred_bboxes.shape[0] == 0:
            return pred_bboxes
        deltas = pred_bboxes.reshape(-1, 4)
        deltas = deltas * self._constants(self.stds, deltas) + self._constants(self.means, deltas)
        boxes = bboxes.repeat(1, pred_bboxes.shape[1] // 4).reshape(-1, 4)
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) * 0.5, boxes[:, 2:] - boxes[:, :2]
        movements, growths, largest = sizes * deltas[:, :2], deltas[:, 2:], abs(math.log(wh_ratio_clip))
        if self.add_ctr_clamp:
            movements = movements.clamp(min=-self.ctr_clamp, max=self.ctr_clamp)
        growths = growths.clamp(min=None if self.add_ctr_clamp else -largest, max=largest)
        centres, sizes = centres + movements, sizes * growths.exp()
        found = torch.cat([centres - sizes * 0.5, centres + sizes * 0.5], dim=1)
        if self.clip_border and max_shape is not None:
            found[:, 0::2].clamp_(min=0, max=max_shape[1])
            found[:, 1::2].clamp_(min=0, max=max_shape[0])
        return found.reshape(pred_bboxes.shape)

    @staticmethod
    def _constants(values: Sequence[float], like: Tensor) -> Tensor:
        return constants(tuple(values), like.dtype, like.device)
