from collections.abc import Callable, Hashable, Sequence
from functools import wraps

import torch
from mmengine.model import BaseModel
from torch import Tensor

Maps = tuple[Tensor, ...]


class KeptMaps:
    """Keeps the feature maps of images that come again, so that a network that does not learn computes them once.

    Each image is computed alone. So a resumed training, which has kept nothing yet, gets the same bits.

    Args:
        limit: How many bytes it keeps. Later images are computed each time.

    Attributes:
        images: What identifies each image of the next batch. None = the batch is computed as it is, and nothing is kept.
        size: How many bytes are kept.
    """

    def __init__(self, limit: float):
        self.limit = limit
        self.images: Sequence[Hashable] | None = None
        self.size = 0
        self._maps: dict[Hashable, Maps] = {}

    def around(self, extract_feat: Callable) -> Callable:
        """Returns a feature extractor, (B, 3, H, W) -> levels of (B, C_l, H_l, W_l), that computes only what is not kept."""

        @wraps(extract_feat)
        def call(network: BaseModel, batch: Tensor) -> Maps:
            if self.images is None:
                return extract_feat(network, batch)
            found = []
            for image, inputs in zip(self.images, batch.split(1), strict=True):
                maps = self._maps.get(image)
                found.append(self._kept(image, extract_feat(network, inputs)) if maps is None else maps)
            return tuple(map(torch.cat, zip(*found, strict=True)))

        return call

    def _kept(self, image: Hashable, maps: Maps) -> Maps:
        size = sum(level.nbytes for level in maps)
        if self.size + size <= self.limit:
            self._maps[image] = maps
            self.size += size
        return maps
