"""The identity memory of OIM-type losses: a lookup table of labelled identities and a circular queue of unlabelled persons.

Shapes: N persons of a batch, I labelled identities, Q queue slots, D embedding size.
"""

import torch
from torch import Tensor, nn

from mmps.dist import gather_rows


class IdentityMemory(nn.Module):
    """Lookup table (LUT) and circular queue (CQ) of OIM (Xiao et al., CVPR 2017, section 3.3).

    Both and the queue's write position are buffers, always float32: they are saved, resumed and moved with the model.

    Args:
        num_identities: I. 0 leaves it open: :meth:`resize` sets it from the data set when training starts, and a checkpoint
            brings its own.
        queue_size: Q.
        embed_dims: D.
        momentum: The part of the old row that an update keeps.
        normalize: Give a row unit length after each update; AlignPS (Yan et al., CVPR 2021) in its published code does not.
        queue_dims: How many channels of an embedding, from the first, a queue slot takes; the others keep what they had, at
            the start zero. None = all. AlignPS's code writes 64 of its 256.

    Raises:
        ValueError: On loading, if the checkpoint's embeddings are of another size.
    """

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
        self.companions: list[IdentityMemory] = []  # further memories of the same identities: they open with this one
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
        """Gives the LUT ``num_identities`` empty rows. The buffer stays the same tensor object: wrappers may hold it."""
        self.lut.data = self.lut.new_zeros(num_identities, self.embed_dims)
        for companion in self.companions:
            if companion.num_identities == 0:
                companion.resize(num_identities)

    @torch.no_grad()
    def fix(self, table: Tensor) -> None:
        """The LUT takes the rows of ``table`` (I, D) and keeps them: from now on updates change the queue only.

        A state dict does not say that the LUT is fixed, and one that is loaded replaces its rows. Companions go on learning.

        Raises:
            ValueError: The table is not of the LUT's shape.
        """
        if table.shape != self.lut.shape:
            raise ValueError(
                f'the identity memory cannot be fixed to a table of shape {tuple(table.shape)}: '
                f'its own has {tuple(self.lut.shape)}'
            )
        self.lut.copy_(table)
        self.fixed = True

    def rows(self) -> Tensor:
        """(I + Q, D): what an embedding is compared with, as it is now; later updates do not change it."""
        return torch.cat([self.lut, self.queue])

    @torch.no_grad()
    def update(self, embeddings: Tensor, person_ids: Tensor) -> None:
        """Takes in a batch, in its order, ranks one after the other; all ranks end with the same memory.

        LUT[id] <- normalize(m * LUT[id] + (1 - m) * e) for a labelled person; an unlabelled one is written to the queue.
        ``normalize=False`` leaves the row as the mean makes it, ``queue_dims`` writes the first channels only. After
        :meth:`fix` a labelled person changes nothing.

        Args:
            embeddings: (N, D), L2-normalized. May be empty. Every rank must call it.
            person_ids: (N,), -1 = unlabelled.
        """
        embeddings, person_ids = gather_rows(embeddings.detach().float(), person_ids)
        by_identity = person_ids.argsort(stable=True)  # keeps the batch's order within an identity, -1 first
        num_unlabelled = int((person_ids < 0).sum())
        self._update_queue(embeddings, by_identity[:num_unlabelled])
        if num_unlabelled < len(person_ids) and not self.fixed:
            self._update_lut(embeddings, by_identity[num_unlabelled:], person_ids)

    def _update_lut(self, embeddings: Tensor, labelled: Tensor, person_ids: Tensor) -> None:
        # The sightings of one identity follow each other, those of different ones do not meet: round r takes the r-th
        # sighting of every identity at once. Identities seen most come first, so that a round concerns the first few.
        identities, column, counts = torch.unique_consecutive(person_ids[labelled], return_inverse=True, return_counts=True)
        sighting = torch.arange(len(column), device=column.device) - (counts.cumsum(0) - counts)[column]
        by_round = (sighting * len(column) - counts[column]).argsort(stable=True)
        identities = identities[column[by_round[: len(identities)]]]
        rows = self.lut.index_select(0, identities)
        seen = torch.empty_like(rows)  # one workspace: allocating in each round would cost more than its arithmetic
        for persons in labelled[by_round].split(sighting.bincount().tolist()):
            before, after = rows[: len(persons)], seen[: len(persons)]
            torch.index_select(embeddings, 0, persons, out=after).lerp_(before, self.momentum)
            if self.normalize:
                torch.div(after, torch.linalg.vector_norm(after, dim=1, keepdim=True).clamp_min_(1e-12), out=before)
            else:
                before.copy_(after)
        self.lut.index_copy_(0, identities, rows)

    def _update_queue(self, embeddings: Tensor, unlabelled: Tensor) -> None:
        size = len(self.queue)
        if size == 0:
            return
        slots = (self.queue_position + torch.arange(len(unlabelled), device=unlabelled.device)) % size
        # Of more than Q persons the last Q stay: no slot is written twice in one go.
        latest = embeddings.index_select(0, unlabelled[-size:])
        self.queue[:, : self.queue_dims].index_copy_(0, slots[-size:], latest[:, : self.queue_dims])
        self.queue_position.add_(len(unlabelled)).remainder_(size)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        for name, what in (('lut', 'lookup table'), ('queue', 'queue')):
            rows = state_dict.get(f'{prefix}{name}')
            # A shape that does not fit is passed over by loaders that are not strict; this one would train on nothing.
            if rows is not None and rows.shape[1] != self.embed_dims:
                raise ValueError(
                    f'the {what} of the checkpoint holds embeddings of {rows.shape[1]} values, the model makes '
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
