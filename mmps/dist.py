"""Losses over the batch of all ranks. DDP averages the ranks' gradients: a loss is that of one process with the whole batch if
its mean over the ranks is. A single process computes nothing here, and no value of it changes.

Collectives of their own, all of a few bytes but for the gathered embeddings; every rank must come to every one of them, also
one without persons.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_comm_device, get_rank, get_world_size
from torch import Tensor
from torch.distributed.nn.functional import all_reduce  # with a gradient, unlike MMEngine's


def mean_over_ranks(value: Tensor | float, at_least: float | None = None) -> Tensor | float:
    """A sum over the batch, or a count, as its mean over the ranks: what a rank's own sum is divided by.

    One collective of the value's size, and one more in the backward pass if it has a gradient. (Those come in the same order on
    all ranks only if what follows them in the graph does not depend on the persons that a rank has.)

    Args:
        value: A tensor, or a number known to the host.
        at_least: What the sum over all ranks counts as at least.
    """
    world = get_world_size()
    if world == 1:
        if at_least is None:
            return value
        return value.clamp(min=at_least) if isinstance(value, Tensor) else max(value, at_least)
    if not isinstance(value, Tensor):
        value = torch.full((), value, dtype=torch.float64, device=get_comm_device())
    mean = all_reduce(value if value.is_floating_point() else value.double()) / world
    return mean if at_least is None else mean.clamp(min=at_least / world)


def losses_over_ranks(losses: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Losses that are means over ``count`` things of this rank, to be means over those of all ranks.

    One collective of 8 bytes. What has no 'loss' in its name stays.
    """
    if get_world_size() == 1:
        return losses
    share = count / mean_over_ranks(count, at_least=1)
    return {name: value * share if 'loss' in name else value for name, value in losses.items()}


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The rows of all ranks, in rank order; ranks may hold different numbers of them, also none.

    This rank's own keep their gradient, times the number of ranks: each rank is to compute the same loss over all rows, and
    DDP divides by their number. One collective for the counts, for which the host waits, and one a tensor, of as many rows
    as the fullest rank has.

    Args:
        tensors: (N, ...) each, of the same N.

    Returns:
        (M, ...) each, M the sum of N over the ranks.
    """
    world = get_world_size()
    if world == 1:
        return tensors
    count = len(tensors[0])
    counts = torch.cat(all_gather(torch.tensor([count], device=tensors[0].device))).tolist()
    missing = max(counts) - count
    gathered = []
    for own in tensors:
        padded = F.pad(own.detach(), (0, 0) * (own.ndim - 1) + (0, missing)).contiguous()
        rows = [of_rank[:n] for of_rank, n in zip(all_gather(padded), counts, strict=True)]
        if own.requires_grad:
            rows[get_rank()] = own.detach() + world * (own - own.detach())
        gathered.append(torch.cat(rows))
    return tuple(gathered)
