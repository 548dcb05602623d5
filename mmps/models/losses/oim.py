import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmps.dist import mean_over_ranks
from mmps.models.memory import IdentityMemory
from mmps.registry import MODELS


@MODELS.register_module()
class OIMLoss(nn.Module):
    """Online instance matching (Xiao et al., CVPR 2017, equations 1 to 3).

    A labelled person's embedding is classified among all rows of an identity memory: those of the I labelled identities
    and the Q latest unlabelled persons. Afterwards the memory takes in the batch.

    Args:
        num_identities: I, 0 = from the data set or the checkpoint (:class:`~mmps.models.memory.IdentityMemory`).
        queue_size: Q; 5000 for CUHK-SYSU, 500 for PRW in the paper's code.
        embed_dims: D.
        momentum: Of the memory's update.
        scale: The inverse of the paper's temperature (0.1 there, 1/30 in its code and ever since).
        loss_weight: Factor of the loss.
        gamma: Of the focal factor (1 - p)^gamma, p the probability of the person's own row; 0 = none.
        queue_scale: ``scale`` for the rows of the queue, None = the same.
        normalize: Of the memory's update: whether a row of the lookup table gets unit length.
        queue_dims: Of the memory's update: how many channels the queue takes, None = all.
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
    ):
        super().__init__()
        self.memory = IdentityMemory(num_identities, queue_size, embed_dims, momentum, normalize, queue_dims)
        self.scale = scale
        self.loss_weight = loss_weight
        self.gamma = gamma
        self.queue_scale = queue_scale

    def forward(self, embeddings: Tensor, person_ids: Tensor) -> Tensor:
        """Mean (focal) cross-entropy over the labelled persons of all ranks, 0 where there are none. In float32 also under AMP.

        On several ranks the mean over them is that: a collective of 8 bytes, beside those of the memory's update.

        Args:
            embeddings: (N, D), L2-normalized.
            person_ids: (N,), -1 = unlabelled.

        Raises:
            ValueError: The memory has no rows for identities yet.
        """
        if self.memory.num_identities == 0:
            raise ValueError(
                'OIMLoss: the identity memory has no rows: set num_identities, or train with IdentityHook '
                'in custom_hooks, which takes the number from the data set'
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.float()
            logits = self.scale * embeddings @ self._rows().T
            labelled = person_ids >= 0
            if self.gamma == 0:
                total = F.cross_entropy(logits, person_ids, ignore_index=-1, reduction='sum')
            else:
                total = self._focal_cross_entropy(logits, person_ids).sum()
            loss = self.loss_weight * total / mean_over_ranks(labelled.sum(), at_least=1)
        if self.training:
            self.memory.update(embeddings, person_ids)
        return loss

    def _rows(self) -> Tensor:
        rows = self.memory.rows()
        if self.queue_scale is not None:
            rows[self.memory.num_identities :] *= self.queue_scale / self.scale
        return rows

    def _focal_cross_entropy(self, logits: Tensor, person_ids: Tensor) -> Tensor:
        """(N,) of -(1 - p)^gamma log p, 0 for an unlabelled person."""
        minus_log_p = F.cross_entropy(logits, person_ids, ignore_index=-1, reduction='none')
        rest = -torch.expm1(-minus_log_p)  # 1 - p, exact also for p close to 1
        # At p = 1 the derivative of a power below 1 is infinite, and that of an unlabelled person is to be 0.
        return rest.clamp(min=1e-12) ** self.gamma * minus_log_p
