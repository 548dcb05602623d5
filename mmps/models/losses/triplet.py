import torch
from torch import Tensor, nn

from mmps.dist import gather_rows
from mmps.registry import MODELS


@MODELS.register_module()
class TripletLoss(nn.Module):
    """Triplet loss with batch-hard mining (Hermans et al., arXiv 1703.07737, equation 5) over a batch and lookup-table rows.

    This is the triplet term of AlignPS's TOIM (Yan et al., CVPR 2021). Shapes: N persons, I identities, D embedding size.

    The anchors are the labelled persons and, once per person, the row of its identity. Rows get no gradient. Each anchor is
    compared with the farthest anchor of its identity and the nearest anchor of another identity.

    AlignPS's code omits the row of identity 0 in its own numbering. Here identity 0 has its row like any other.

    The batch is that of all ranks. Each rank computes the whole loss and the gradients of its own persons. For this the
    embeddings and ids of all ranks are gathered, N (4 D + 8) bytes; the distances are (2 N)^2 numbers, for N persons in total.

    Without a lookup table it equals MMDetection's ``TripletLoss``, but it accepts any batch and has no loop over anchors.

    Args:
        margin: The required difference between the distances to the nearest other identity and to the farthest anchor of
            the same identity. Distances are Euclidean: those of unit vectors are at most 2.
        loss_weight: Factor of the loss.
    """

    def __init__(self, margin: float = 0.3, loss_weight: float = 1.0):
        super().__init__()
        self.margin = margin
        self.loss_weight = loss_weight

    def forward(self, embeddings: Tensor, person_ids: Tensor, lut: Tensor | None = None) -> Tensor:
        """Computes the mean over the anchors of max(0, d_ap - d_an + margin), in float32 also under AMP.

        With fewer than two labelled identities the loss and its gradient are 0.

        Args:
            embeddings: (N, D), L2-normalized.
            person_ids: (N,), -1 = unlabelled.
            lut: (I, D), the lookup table; its rows may have any length. None = only the persons of the batch.

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
            if len(person_ids) == 0:  # amax and amin need at least one row
                return embeddings.sum()
            anchors, ids = embeddings, person_ids
            if lut is not None:
                rows = lut[person_ids.clamp(min=0)].detach()
                anchors, ids = torch.cat([embeddings, rows.to(embeddings)]), person_ids.repeat(2)
            distances = pairwise_distances(anchors)
            labelled = ids >= 0  # a mask: dropping the others would need their number from the device
            pairs = labelled & labelled[:, None]
            same, other = pairs & (ids == ids[:, None]), pairs & (ids != ids[:, None])
            d_ap = distances.masked_fill(~same, 0).amax(1)
            d_an = distances.masked_fill(~other, torch.inf).amin(1)
            used = other.any(1)
            hinge = (d_ap - d_an.where(used, 0) + self.margin).relu()
            return self.loss_weight * (hinge * used).sum() / used.sum().clamp(min=1)


def pairwise_distances(vectors: Tensor) -> Tensor:
    """(N, D) -> (N, N) Euclidean distances. Distances under 1e-6 become 1e-6 and have no gradient."""
    squared = vectors.square().sum(1)
    squared = squared + squared[:, None] - 2 * vectors @ vectors.T
    return squared.clamp(min=1e-12).sqrt()
