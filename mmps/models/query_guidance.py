"""Parts of QEEPS (Munjal et al., CVPR 2019) that know the query. Shapes: N pairs, C channels, D embedding size."""

import torch
from mmdet.structures import SampleList
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmps.models.embedding_heads import RowNorm
from mmps.structures import person_boxes


class Excitation(BaseModule):
    """Squeeze-and-excitation: two fully connected layers and a sigmoid give a factor in (0, 1) per channel.

    The factors start near 0.95, so that pre-trained layers behind them see the features that they know.

    Args:
        in_channels: Size of the pooled features that decide, for example of query and gallery image together.
        channels: C.
        ratio: C divided by the width of the hidden layer, which is at least 8.
    """

    def __init__(self, in_channels: int, channels: int, ratio: int = 16):
        super().__init__(dict(type='Normal', layer=[], override=dict(type='Normal', name='excite', std=0.01, bias=3.0)))
        self.squeeze = nn.Linear(in_channels, max(channels // ratio, 8))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, in_channels) -> (N, C)."""
        return self.excite(self.squeeze(pooled).relu()).sigmoid()


class QuerySimilarity(BaseModule):
    """QSimNet: squared difference of two embeddings, batch norm, a fully connected layer, softmax over 'other' and 'same'."""

    def __init__(self, embed_dims: int):
        super().__init__(dict(type='Normal', layer='Linear', std=0.01))
        self.norm = RowNorm(embed_dims)
        self.classify = nn.Linear(embed_dims, 2)

    def forward(self, embeddings: Tensor, queries: Tensor) -> Tensor:
        """Two times (N, D) -> logits (N, 2) of 'another person' and 'the same person', float32."""
        return self.classify(self.norm((embeddings - queries).float().square())).float()


def choose_queries(samples: SampleList) -> tuple[list[int], list[Tensor], list[int]]:
    """Chooses a query for each image of a training batch, at random among the labelled persons that its partner shares.

    Images 2k and 2k + 1 are partners (:class:`~mmps.datasets.PairSampler`). An image that shares nobody with its partner is its
    own partner, and any of its persons is the query, also an unlabelled one. Without any person the query is the whole image.

    Returns:
        For each image the index of its partner; the query's box (1, 4) in the partner, in input-image pixels; and the index of
        the query's person among the image's own persons, -1 if there is none.
    """
    boxes, ids = person_boxes(samples), [sample.gt_instances.person_ids for sample in samples]
    partners, query_boxes, wanted = [], [], []
    for image, own in enumerate(ids):
        partner = min(image ^ 1, len(samples) - 1)
        theirs = ids[partner]
        pairs = ((theirs[:, None] == own) & (own >= 0)).nonzero()
        if partner == image or not len(pairs):
            partner, pairs = image, torch.arange(len(own), device=own.device)[:, None].expand(-1, 2)
        partners.append(partner)
        if len(pairs):
            query, person = pairs[torch.randint(len(pairs), ())].tolist()
            query_boxes.append(boxes[partner][query : query + 1])
            wanted.append(person)
        else:
            height, width = samples[image].img_shape
            query_boxes.append(boxes[image].new_tensor([[0, 0, width, height]]))
            wanted.append(-1)
    return partners, query_boxes, wanted
