"""An identity memory whose lookup table is spread over the ranks. Shapes as in :mod:`mmps.models.memory`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from mmengine.dist import gather, get_rank, get_world_size
from torch import Tensor, nn

from mmps.models.memory import IdentityMemory


class ShardedMemory(IdentityMemory):
    """Holds an equal share of the lookup table on every rank, in order, and the whole queue.

    Each rank updates its own rows. Checkpoints hold the whole table (:func:`whole_tables`), so they fit any number of ranks.
    ``lut`` is no buffer, although it is saved and moved like one: DDP and SyncBuffersHook make the buffers of all ranks equal.

    Args:
        num_identities: I.
        args, kwargs: As of :class:`~mmps.models.memory.IdentityMemory`.
    """

    def __init__(self, num_identities: int = 0, *args: Any, **kwargs: Any):
        super().__init__(0, *args, **kwargs)
        del self.lut
        self.lut = torch.zeros(0, self.queue.shape[1])
        self.total = 0
        self.share: Tensor | None = None  # this rank's rows, while ``lut`` is the whole table
        if num_identities:
            self.resize(num_identities)

    @property
    def num_identities(self) -> int:
        return self.total

    @property
    def span(self) -> tuple[int, int]:
        """The first identity of this rank, and that after the last."""
        rank, world = get_rank(), get_world_size()
        return self.total * rank // world, self.total * (rank + 1) // world

    def resize(self, num_identities: int) -> None:
        """Resets this rank's share to zeros.

        Raises:
            ValueError: There are more ranks than identities.
        """
        if num_identities < get_world_size():
            raise ValueError(f'a lookup table of {num_identities} rows cannot be spread over {get_world_size()} ranks')
        self.total = num_identities
        first, end = self.span
        self.lut = self.lut.new_zeros(end - first, self.embed_dims)

    def fix(self, table: Tensor) -> None:
        raise ValueError('a lookup table that is spread over the ranks cannot be fixed: set sharded=False')

    def rows_of(self, person_ids: Tensor) -> Tensor:
        """Returns the row of each person in this rank's share, -1 for an identity of another rank and for the unlabelled."""
        first, end = self.span
        return (person_ids - first).where((person_ids >= first) & (person_ids < end), -1)

    def _update_lut(self, embeddings: Tensor, by_identity: Tensor, person_ids: Tensor, most: int) -> None:
        rows = self.rows_of(person_ids)
        super()._update_lut(embeddings, rows.argsort(stable=True), rows, most)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'ShardedMemory':
        self.lut = fn(self.lut)
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        destination[f'{prefix}lut'] = self.lut
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, metadata: dict, strict: bool, missing_keys: list, *args: Any
    ) -> None:
        name = f'{prefix}lut'
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing_keys, *args)
        unexpected_keys, errors = args
        if name not in state_dict:
            missing_keys.append(name)
        elif len(state_dict[name]) != self.total:
            errors.append(f'{name} has {len(state_dict[name])} rows, the model has {self.total}')
        else:
            self.lut.copy_(state_dict[name][slice(*self.span)])
        if name in unexpected_keys:
            unexpected_keys.remove(name)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, rows {self.span}'


@contextmanager
def whole_tables(model: nn.Module) -> Iterator[None]:
    """Puts the whole table into every sharded memory of the main rank, on the CPU, for as long as a checkpoint is written.

    Every rank must enter it. It may be entered again inside. One collective of the table's size a memory.
    """
    memories = [module for module in model.modules() if isinstance(module, ShardedMemory) and module.share is None]
    for memory in memories:
        memory.share, memory.lut = memory.lut, gather_shares(memory)
    try:
        yield
    finally:
        for memory in memories:
            memory.lut, memory.share = cast(Tensor, memory.share), None


def gather_shares(memory: ShardedMemory) -> Tensor:
    """Returns the whole table (I, D) on the CPU of the main rank, this rank's share on the others."""
    rank, world = get_rank(), get_world_size()
    longest = -(-memory.total // world)
    shares = gather(torch.cat([memory.lut, memory.lut.new_zeros(longest - len(memory.lut), memory.embed_dims)]))
    if rank != 0:
        return memory.lut
    lengths = [memory.total * (r + 1) // world - memory.total * r // world for r in range(world)]
    return torch.cat([share[:length].cpu() for share, length in zip(shares, lengths, strict=True)])
