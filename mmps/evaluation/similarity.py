"""Computes similarities of queries to detections, one block of queries at a time, with NumPy or PyTorch.

B queries in a block, N confident detections, n of them in a chunk, D embedding size.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .candidates import Candidates

BLOCK_BYTES = 256 << 20  # size of the similarities (B, N) held at once


class NumPyProduct:
    """Computes dot products on the CPU."""

    def load(self, embeddings: np.ndarray) -> Any:
        """Prepares the embeddings (n, D) of detections for :meth:`__call__`, for example by moving them to a device."""
        return embeddings

    def __call__(self, queries: np.ndarray, loaded: Any, out: np.ndarray) -> None:
        """Writes the dot products of queries (B, D) with loaded embeddings into ``out`` (B, n)."""
        np.matmul(queries, loaded.T, out=out)


class TorchProduct(NumPyProduct):
    """Computes dot products on a PyTorch device in full float32. They differ from NumPy's only by rounding.

    Args:
        device: 'cuda', 'cuda:1', 'cpu', ...

    Raises:
        ValueError: A device that PyTorch cannot use here.
    """

    def __init__(self, device: str = 'cuda') -> None:
        import torch  # imported here, because other scoring needs NumPy alone

        try:
            probe = torch.zeros(1, device=device)
            probe.cpu()
        except (AssertionError, RuntimeError) as error:  # a build without CUDA raises AssertionError
            raise ValueError(f'device: PyTorch cannot use {device!r} here ({str(error).splitlines()[0]})') from error
        self.torch, self.device = torch, probe.device

    def load(self, embeddings: np.ndarray) -> Any:
        return self.torch.from_numpy(embeddings).to(self.device)

    def __call__(self, queries: np.ndarray, loaded: Any, out: np.ndarray) -> None:
        precision = self.torch.get_float32_matmul_precision()
        self.torch.set_float32_matmul_precision('highest')  # TF32, if allowed, would change ranks
        try:
            out[:] = (self.load(queries) @ loaded.T).cpu().numpy()
        finally:
            self.torch.set_float32_matmul_precision(precision)


class SimilarityBlocks:
    """Yields blocks of queries (B,) and their similarities (B, N), so that memory does not grow with the number of queries.

    Each block overwrites the similarities of the block before.

    Args:
        candidates: The N detections.
        query_embeddings: (R, D).
        rows: (Q,), the rows of the R to compute, ascending.
        product: Computes the similarities; by default with NumPy.
    """

    def __init__(
        self, candidates: Candidates, query_embeddings: np.ndarray, rows: np.ndarray, product: NumPyProduct | None = None
    ) -> None:
        self.candidates, self.query_embeddings, self.rows = candidates, query_embeddings, rows
        self.product = NumPyProduct() if product is None else product
        self.size = max(1, min(len(rows), BLOCK_BYTES // (4 * max(1, len(candidates)))))

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        candidates, product = self.candidates, self.product
        similarities = np.empty((self.size, len(candidates)), np.float32)
        everything = slice(0, len(candidates))
        held = [] if candidates.held is None else [(everything, product.load(candidates.held))]
        for start in range(0, len(self.rows), self.size):
            rows = self.rows[start : start + self.size]
            block = similarities[: len(rows)]
            for columns, loaded in held or ((part, product.load(chunk)) for part, chunk in candidates.chunks()):
                product(self.query_embeddings[rows], loaded, block[:, columns])
            yield rows, block
