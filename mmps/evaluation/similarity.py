"""Similarities of queries to detections, a block of queries at a time, with NumPy or, through PyTorch, on a GPU.

B queries in a block, N confident detections, n of them in a chunk, D embedding size.
"""

from collections.abc import Iterator

import numpy as np

from .candidates import Candidates

BLOCK_BYTES = 256 << 20  # of the similarities (B, N) held at once


class NumPyProduct:
    """Dot products on the CPU."""

    def load(self, embeddings: np.ndarray) -> np.ndarray:
        """Prepares the embeddings (n, D) of detections for :meth:`__call__`."""
        return embeddings

    def __call__(self, queries: np.ndarray, loaded: np.ndarray, out: np.ndarray) -> None:
        """Writes the dot products of queries (B, D) with loaded embeddings into ``out`` (B, n)."""
        np.matmul(queries, loaded.T, out=out)


class TorchProduct(NumPyProduct):
    """Dot products on a device of PyTorch's, in full float32: NumPy's numbers but for rounding.

    Args:
        device: 'cuda', 'cuda:1', 'cpu', ...

    Raises:
        ValueError: A device that PyTorch cannot use here.
    """

    def __init__(self, device: str = 'cuda') -> None:
        import torch  # scoring needs NumPy alone, unless it is asked for this

        try:
            probe = torch.zeros(1, device=device)
            probe.cpu()
        except (AssertionError, RuntimeError) as error:  # a build without CUDA asserts
            raise ValueError(f'device: PyTorch cannot use {device!r} here ({str(error).splitlines()[0]})') from error
        self.torch, self.device = torch, probe.device

    def load(self, embeddings: np.ndarray):
        return self.torch.from_numpy(embeddings).to(self.device)

    def __call__(self, queries: np.ndarray, loaded, out: np.ndarray) -> None:
        precision = self.torch.get_float32_matmul_precision()
        self.torch.set_float32_matmul_precision('highest')  # a training may have allowed TF32, which ranks otherwise
        try:
            out[:] = (self.load(queries) @ loaded.T).cpu().numpy()
        finally:
            self.torch.set_float32_matmul_precision(precision)


class SimilarityBlocks:
    """Some of the queries (B,) and their similarities (B, N) at a time, so that memory does not grow with their number.

    The array of similarities is used again for the next block.

    Args:
        candidates: The N detections.
        query_embeddings: (R, D).
        rows: (Q,), those of the R that are asked for, ascending.
        product: Where they are computed; by default NumPy.
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
