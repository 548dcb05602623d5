"""Classification among very many rows. Shapes: N persons, I rows of the lookup table, Q rows of the queue, D embedding size."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class ChunkedCrossEntropy(Function):
    """Computes -log p of each person's own row, where p is the softmax of scaled dot products with all rows.

    It goes through the rows in chunks and keeps no logits: memory is N times the chunk instead of N times I + Q. The gradient,
    (N, D), is computed at once, so the rows may change before the backward pass. The price is one more product with all rows.
    """

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, person_ids: Tensor, lut: Tensor, queue: Tensor, scales: tuple[float, float], chunk: int
    ) -> Tensor:
        """Returns -log p (N,), 0 for an unlabelled person.

        Args:
            embeddings: (N, D).
            person_ids: (N,), rows of the lookup table, or negative.
            lut: (I, D).
            queue: (Q, D).
            scales: Factors of the products with the rows of either.
            chunk: Number of rows that are used at once.
        """

        def chunks() -> Iterator[Tensor]:
            for rows, scale in zip((lut, queue), scales, strict=True):
                for part in rows.split(chunk) if len(rows) else ():
                    yield part * scale

        labelled = person_ids >= 0
        total = embeddings.new_full((len(embeddings),), -torch.inf)
        for rows in chunks():
            total = torch.logaddexp(total, torch.logsumexp(embeddings @ rows.T, dim=1))
        own = lut[person_ids.clamp(min=0)] * scales[0]
        gradient = -own
        for rows in chunks():
            gradient.addmm_((embeddings @ rows.T).sub_(total[:, None]).exp_(), rows)
        ctx.save_for_backward(gradient * labelled[:, None])
        return (total - (embeddings * own).sum(1)).where(labelled, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0][:, None], None, None, None, None, None
