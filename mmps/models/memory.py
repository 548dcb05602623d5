"""The identity memory of OIM losses: a lookup table of labelled identities and a circular queue of unlabelled persons.

Shapes: N persons of a batch, I labelled identities, Q queue slots, D embedding size.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmps.dist import gather_rows
from mmps.models.assignment import most_sightings as count_most


class IdentityMemory(nn.Module):
    """Holds the lookup table (LUT) and the circular queue (CQ) of OIM (Xiao et al., CVPR 2017, section 3.3).

    LUT and CQ are buffers, always float32. The write position of the queue is a buffer too. So all three are saved, resumed
    and moved with the model.

    Args:
        num_identities: I. With 0, :meth:`resize` sets it from the data set when training starts, or a checkpoint sets it.
        queue_size: Q.
        embed_dims: D.
        momentum: The share of the old row that an update keeps.
        normalize: Whether an update scales the row to unit length. The published code of AlignPS (Yan et al., CVPR 2021)
            does not.
        queue_dims: How many channels, from the first, are written to a queue slot. The others keep their values, which are
            zero at the start. None = all. AlignPS's code writes 64 of 256.

    Raises:
        ValueError: On loading, if the embeddings of the checkpoint have another size.
    """

    lut: Tensor
    queue: Tensor
    queue_position: Tensor

    def __init__(
        self,
        num_identities: int = 0,
        queue_size: int = 5000,
        embed_dims: int = 256,
        momentum: float = 0.5,
        normalize: bool = True,
        queue_dims: int | None = None,
    ):
        super().__init__()
        self.momentum = momentum
        self.normalize = normalize
        self.queue_dims = queue_dims
        self.fixed = False
        self.companions: list[IdentityMemory] = []  # further memories of the same identities, resized with this one
        self.register_buffer('lut', torch.zeros(num_identities, embed_dims))
        self.register_buffer('queue', torch.zeros(queue_size, embed_dims))
        self.register_buffer('queue_position', torch.zeros((), dtype=torch.long))

    @property
    def num_identities(self) -> int:
        return len(self.lut)

    @property
    def embed_dims(self) -> int:
        return self.lut.shape[1]

    def resize(self, num_identities: int) -> None:
        """Resets the LUT to ``num_identities`` rows of zeros. The buffer stays the same tensor object: wrappers may hold it."""
        self.lut.data = self.lut.new_zeros(num_identities, self.embed_dims)
        for companion in self.companions:
            if companion.num_identities == 0:
                companion.resize(num_identities)

    @torch.no_grad()
    def fix(self, table: Tensor) -> None:
        """Copies ``table`` (I, D) into the LUT and fixes it: later updates change only the queue.

        A state dict does not store that the LUT is fixed, and loading one replaces the rows. Companions are not fixed.

        Raises:
            ValueError: The shape of the table is not that of the LUT.
        """
        if table.shape != self.lut.shape:
            raise ValueError(
                f'the identity memory cannot be fixed to a table of shape {tuple(table.shape)}: '
                f'its lookup table has shape {tuple(self.lut.shape)}'
            )
        self.lut.copy_(table)
        self.fixed = True

    def rows(self) -> Tensor:
        """Returns a copy of all rows, LUT and then queue: (I + Q, D)."""
        return torch.cat([self.lut, self.queue])

    @torch.no_grad()
    def update(self, embeddings: Tensor, person_ids: Tensor, most_sightings: int | None = None) -> None:
        """Adds a batch to the memory, person by person in order, rank after rank. All ranks end with the same memory.

        A labelled person: LUT[id] <- normalize(m * LUT[id] + (1 - m) * e). ``normalize=False`` omits the normalization. After
        :meth:`fix` the LUT does not change. An unlabelled person is written to the queue, to its first ``queue_dims`` channels.

        All shapes follow from N and ``most_sightings``, so the host does not wait for a GPU.

        Args:
            embeddings: (N, D), L2-normalized; N may be 0. Every rank must call this method.
            person_ids: (N,), -1 = unlabelled.
            most_sightings: How often the most frequent identity of this rank's batch occurs, at least. None = not known: then
                the host waits for it, as it does with several ranks.
        """
        count = len(person_ids)
        embeddings, person_ids = gather_rows(embeddings.detach().float(), person_ids)
        if len(person_ids) == 0:
            return
        by_identity = person_ids.argsort(stable=True)  # keeps the batch's order within an identity, -1 first
        self._update_queue(embeddings, by_identity, person_ids)
        if not self.fixed:
            if most_sightings is None or len(person_ids) != count:
                most_sightings = int(count_most(person_ids))
            self._update_lut(embeddings, by_identity, person_ids, most_sightings)

    def _update_lut(self, embeddings: Tensor, by_identity: Tensor, person_ids: Tensor, most: int) -> None:
        # Updates of one identity must run in order; those of different identities are independent. So round r applies the
        # r-th sighting of all identities at once. Identities are sorted by count: each round uses the first rows only. At
        # most N / r identities have r sightings.
        size, device = len(person_ids), person_ids.device
        ids = person_ids[by_identity]
        place = torch.arange(size, device=device)
        starts = (ids != ids.roll(1)).index_fill_(0, place[:1], True)
        column = starts.cumsum(0) - 1  # which identity of the batch, by increasing id
        sighting = place - place.where(starts, 0).cummax(0).values
        labelled = ids >= 0
        counts = torch.zeros_like(place).scatter_add_(0, column, labelled.long())
        order = counts.argsort(descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(0, order, place)[column]
        # (rounds, N): the person of each round and identity, N where there is none. The last cell takes the unlabelled.
        table = torch.full((most * size + 1,), size, device=device)
        table.scatter_(0, (sighting * size + rank).where(labelled, most * size), by_identity)
        table = table[:-1].view(most, size)
        identities = torch.zeros_like(place).scatter_(0, rank, ids.clamp(min=0))
        present = counts[order] > 0
        identities = identities.where(present, identities[0])
        rows = self.lut.index_select(0, identities)
        seen = torch.empty_like(rows)  # allocated once: allocation costs more than the arithmetic
        for number, persons in enumerate(table, start=1):
            persons = persons[: size // number]
            before, after = rows[: len(persons)], seen[: len(persons)]
            torch.index_select(embeddings, 0, persons.clamp(max=size - 1), out=after).lerp_(before, self.momentum)
            if self.normalize:
                after.div_(torch.linalg.vector_norm(after, dim=1, keepdim=True).clamp_min_(1e-12))
            torch.where((persons < size)[:, None], after, before, out=before)
        # The rows beyond the batch's identities repeat the first one, so whichever is written last, it is the same.
        self.lut.index_copy_(0, identities, rows.where(present[:, None], rows[:1]))

    def _update_queue(self, embeddings: Tensor, by_identity: Tensor, person_ids: Tensor) -> None:
        size = len(self.queue)
        if size == 0:
            return
        count = (person_ids < 0).sum()
        # Only the last Q persons remain in the queue, so each slot is written at most once. Slots without a person keep theirs.
        number = (count - size).clamp(min=0) + torch.arange(min(size, len(person_ids)), device=person_ids.device)
        persons = by_identity[number.clamp(max=len(person_ids) - 1)]
        slots = (self.queue_position + number) % size
        rows = self.queue.index_select(0, slots)
        written = rows[:, : self.queue_dims]
        torch.where((number < count)[:, None], embeddings[persons, : self.queue_dims], written, out=written)
        self.queue.index_copy_(0, slots, rows)
        self.queue_position.add_(count).remainder_(size)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        for name, what in (('lut', 'lookup table'), ('queue', 'queue')):
            rows = state_dict.get(f'{prefix}{name}')
            # A non-strict loader skips tensors of another shape. Then the model would train with an empty memory.
            if rows is not None and rows.shape[1] != self.embed_dims:
                raise ValueError(
                    f'the {what} of the checkpoint holds embeddings of {rows.shape[1]} values, those of the model have '
                    f'{self.embed_dims}: set embed_dims'
                )
        lut = state_dict.get(f'{prefix}lut')
        if lut is not None and self.num_identities == 0:
            self.resize(len(lut))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return (
            f'num_identities={self.num_identities}, queue_size={len(self.queue)}, momentum={self.momentum}, fixed={self.fixed}'
        )
