"""Classification among very many rows. Shapes: N persons, I rows of the lookup table, Q rows of the queue, D embedding size."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from torch import Tensor
from torch.autograd import Function

from mmps.dist import gather_rows
from mmps.models.memory import IdentityMemory
from mmps.models.sharded_memory import ShardedMemory


class ChunkedCrossEntropy(Function):
    """Computes -log p of each person's own row, where p is the softmax of scaled dot products with all rows.

    It goes through the rows in chunks and keeps no logits: memory is N times the chunk instead of N times I + Q. The gradient,
    (N, D), is computed at once, so the rows may change before the backward pass. The price is one more product with all rows.

    With a :class:`~mmps.models.sharded_memory.ShardedMemory` each rank compares the persons of all ranks with its own rows
    (partial softmax as in An et al., Partial FC, 2021, with all classes). The ranks exchange the persons, three numbers a
    person and the gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, person_ids: Tensor, memory: IdentityMemory, scales: tuple[float, float], chunk: int
    ) -> Tensor:
        """Returns -log p (N,), 0 for an unlabelled person.

        Args:
            embeddings: (N, D).
            person_ids: (N,), identities, or negative.
            memory: The rows: lookup table (I, D) and queue (Q, D).
            scales: Factors of the products with the rows of either.
            chunk: Number of rows that are used at once.
        """
        labelled, queue, own_rows, own_persons = person_ids >= 0, memory.queue, person_ids, None
        spread = False
        if isinstance(memory, ShardedMemory) and get_world_size() > 1:
            spread = True
            embeddings, own_rows, ranks = gather_rows(embeddings, person_ids, torch.full_like(person_ids, get_rank()))
            own_rows, own_persons = memory.rows_of(own_rows), ranks == get_rank()
            queue = queue[get_rank() :: get_world_size()]

        def chunks() -> Iterator[Tensor]:
            for rows, scale in zip((memory.lut, queue), scales, strict=True):
                for part in rows.split(chunk) if len(rows) else ():
                    yield part * scale

        total = embeddings.new_full((len(embeddings),), -torch.inf)
        for rows in chunks():
            total = torch.logaddexp(total, torch.logsumexp(embeddings @ rows.T, dim=1))
        own = memory.lut[own_rows.clamp(min=0)] * scales[0] * (own_rows >= 0)[:, None]
        logit = (embeddings * own).sum(1)
        if spread:
            total = torch.stack(all_gather(total)).logsumexp(0)
            all_reduce(logit)
        gradient = -own
        for rows in chunks():
            gradient.addmm_((embeddings @ rows.T).sub_(total[:, None]).exp_(), rows)
        if spread:
            all_reduce(gradient)
            gradient, total, logit = gradient[own_persons], total[own_persons], logit[own_persons]
        ctx.save_for_backward(gradient * labelled[:, None])
        return (total - logit).where(labelled, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0][:, None], None, None, None, None
