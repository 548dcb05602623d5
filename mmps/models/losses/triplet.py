import torch
from torch import Tensor, nn

from mmps.dist import gather_rows
from mmps.registry import MODELS


@MODELS.register_module()
class TripletLoss(nn.Module):
    """Triplet loss with batch-hard mining (Hermans et al., arXiv 1703.07737, equation 5), with a lookup table's rows added to
    the batch: the triplet term of AlignPS's TOIM (Yan et al., CVPR 2021).

    Shapes: N persons, I identities, D embedding size. The anchors are the labelled persons and, for each of them, its
    identity's row, which is so there as often as the identity has persons; the rows get no gradient. Each anchor is
    compared with the farthest of its own identity and the nearest of another, both among all anchors.

    AlignPS's code takes the rows of ids > 0, by its own numbering; here identity 0 has its row like any other.

    The batch is that of all ranks: each computes the whole loss, with the gradient of its own persons. Every rank's persons are
    gathered for it, N (4 D + 8) bytes, and the distances are (2 N)^2 numbers, N the persons of all ranks.

    Without a lookup table it is what MMDetection's loss of this name is, for any batch and without a loop over the anchors.

    Args:
        margin: By how much the nearest other is to be farther away than the farthest of the same identity. Euclidean: two
            unit vectors are at most 2 apart.
        loss_weight: Factor of the loss.
    """

    def __init__(self, margin: float = 0.3, loss_weight: float = 1.0):
        super().__init__()
        self.margin = margin
        self.loss_weight = loss_weight

    def forward(self, embeddings: Tensor, person_ids: Tensor, lut: Tensor | None = None) -> Tensor:
        """Mean over the anchors of max(0, d_ap - d_an + margin); 0, with a gradient of 0, where there are no two labelled
        identities. Computed in float32 also under AMP.

        Args:
            embeddings: (N, D), L2-normalized.
            person_ids: (N,), -1 = unlabelled.
            lut: (I, D), the lookup table; its rows need not be of unit length. None = the batch's persons alone.

        Raises:
            ValueError: The lookup table has no rows yet.
        """
        if lut is not None and len(lut) == 0:
            raise ValueError(
                'TripletLoss: the lookup table has no rows: set num_identities, or train with IdentityHook in '
                'custom_hooks, which takes the number from the data set'
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            embeddings, person_ids = gather_rows(embeddings, person_ids)
            if len(person_ids) == 0:  # nothing to take a maximum over
                return embeddings.sum()
            anchors, ids = embeddings, person_ids
            if lut is not None:
                rows = lut[person_ids.clamp(min=0)].detach()
                anchors, ids = torch.cat([embeddings, rows.to(embeddings)]), person_ids.repeat(2)
            distances = pairwise_distances(anchors)
            labelled = ids >= 0  # the others are masked, not left out: their number would have to come from the device
            pairs = labelled & labelled[:, None]
            same, other = pairs & (ids == ids[:, None]), pairs & (ids != ids[:, None])
            d_ap = distances.masked_fill(~same, 0).amax(1)
            d_an = distances.masked_fill(~other, torch.inf).amin(1)
            used = other.any(1)
            hinge = (d_ap - d_an.where(used, 0) + self.margin).relu()
            return self.loss_weight * (hinge * used).sum() / used.sum().clamp(min=1)


def pairwise_distances(vectors: Tensor) -> Tensor:
    """(N, D) -> (N, N) Euclidean distances; those under 1e-6 count as 1e-6 and have no gradient."""
    squared = vectors.square().sum(1)
    squared = squared + squared[:, None] - 2 * vectors @ vectors.T
    return squared.clamp(min=1e-12).sqrt()
