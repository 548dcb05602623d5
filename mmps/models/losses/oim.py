import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmps.dist import mean_over_ranks
from mmps.models.losses.classification import ChunkedCrossEntropy
from mmps.models.memory import IdentityMemory
from mmps.models.sharded_memory import ShardedMemory
from mmps.registry import MODELS


@MODELS.register_module()
class OIMLoss(nn.Module):
    """Online instance matching (Xiao et al., CVPR 2017, equations 1 to 3).

    The loss classifies the embedding of a labelled person among all rows of an identity memory: I labelled identities and
    the Q latest unlabelled persons. Then the batch is added to the memory.

    Args:
        num_identities: I, 0 = from the data set or the checkpoint (:class:`~mmps.models.memory.IdentityMemory`).
        queue_size: Q; the paper's code has 5000 for CUHK-SYSU and 500 for PRW.
        embed_dims: D.
        momentum: Momentum of the memory update.
        scale: The inverse of the temperature, which is 0.1 in the paper and 1/30 in its code and all later work.
        loss_weight: Factor of the loss.
        gamma: Exponent of the focal factor (1 - p)^gamma, where p is the probability of the person's own row; 0 = no factor.
        queue_scale: ``scale`` for the rows of the queue, None = the same.
        normalize: Whether the memory update scales rows of the lookup table to unit length.
        queue_dims: How many channels the memory update writes to the queue, None = all.
        rows_at_once: How many rows the embeddings are compared with at once. None = all, and their logits are kept for the
            backward pass. With a number, nothing of size I is kept: for more than 100,000 identities.
        sharded: Whether each rank holds only its share of the lookup table
            (:class:`~mmps.models.sharded_memory.ShardedMemory`), for tables that do not fit. The loss is the same. Needs
            ``rows_at_once``.

    Raises:
        ValueError: ``sharded`` without ``rows_at_once``.
    """

    def __init__(
        self,
        num_identities: int = 0,
        queue_size: int = 5000,
        embed_dims: int = 256,
        momentum: float = 0.5,
        scale: float = 30.0,
        loss_weight: float = 1.0,
        gamma: float = 0.0,
        queue_scale: float | None = None,
        normalize: bool = True,
        queue_dims: int | None = None,
        rows_at_once: int | None = None,
        sharded: bool = False,
    ):
        super().__init__()
        if sharded and rows_at_once is None:
            raise ValueError('OIMLoss: sharded=True needs rows_at_once, e.g. 8192')
        memory = ShardedMemory if sharded else IdentityMemory
        self.memory = memory(num_identities, queue_size, embed_dims, momentum, normalize, queue_dims)
        self.scale = scale
        self.loss_weight = loss_weight
        self.gamma = gamma
        self.queue_scale = queue_scale
        self.rows_at_once = rows_at_once

    def forward(self, embeddings: Tensor, person_ids: Tensor, most_sightings: int | None = None) -> Tensor:
        """Computes the mean (focal) cross-entropy over the labelled persons of all ranks, in float32 also under AMP.

        It is 0 without labelled persons. Each rank scales its loss such that the average over ranks is that mean. This takes
        one collective of 8 bytes, besides those of the memory update.

        Args:
            embeddings: (N, D), L2-normalized.
            person_ids: (N,), -1 = unlabelled.
            most_sightings: As in :meth:`~mmps.models.memory.IdentityMemory.update`.

        Raises:
            ValueError: The lookup table has no rows yet.
        """
        if self.memory.num_identities == 0:
            raise ValueError(
                'OIMLoss: the lookup table has no rows: set num_identities, or train with IdentityHook in '
                'custom_hooks, which takes the number from the data set'
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.float()
            labelled = person_ids >= 0
            minus_log_p = self._cross_entropy(embeddings, person_ids)
            total = (minus_log_p if self.gamma == 0 else self._focal(minus_log_p)).sum()
            loss = self.loss_weight * total / mean_over_ranks(labelled.sum(), at_least=1)
        if self.training:
            self.memory.update(embeddings, person_ids, most_sightings)
        return loss

    def _cross_entropy(self, embeddings: Tensor, person_ids: Tensor) -> Tensor:
        """Returns -log p of each person (N,), 0 for an unlabelled one."""
        if self.rows_at_once is not None:
            scales = self.scale, self.scale if self.queue_scale is None else self.queue_scale
            return ChunkedCrossEntropy.apply(embeddings, person_ids, self.memory, scales, self.rows_at_once)
        logits = self.scale * embeddings @ self._rows().T
        return F.cross_entropy(logits, person_ids, ignore_index=-1, reduction='none')

    def _rows(self) -> Tensor:
        rows = self.memory.rows()
        if self.queue_scale is not None:
            rows[self.memory.num_identities :] *= self.queue_scale / self.scale
        return rows

    def _focal(self, minus_log_p: Tensor) -> Tensor:
        """Returns -(1 - p)^gamma log p of each person (N,), 0 for an unlabelled one."""
        rest = -torch.expm1(-minus_log_p)  # 1 - p, exact also for p close to 1
        # The derivative of a power below 1 is infinite at 0. The clamp makes the gradient of unlabelled persons 0.
        return rest.clamp(min=1e-12) ** self.gamma * minus_log_p
