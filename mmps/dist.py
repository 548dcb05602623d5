"""Computes losses over the batch of all ranks.

DDP averages gradients, so each rank scales its loss such that the average equals the full-batch loss. A single process
computes nothing here, and its values stay bit-identical.

Every rank must take part in every collective, even a rank without persons. All collectives transfer a few bytes, except
:func:`gather_rows`.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_comm_device, get_rank, get_world_size
from torch import Tensor
from torch.distributed.nn.functional import all_reduce  # with a gradient, unlike MMEngine's


def mean_over_ranks(value: Tensor | float, at_least: float | None = None) -> Tensor | float:
    """Returns the mean over the ranks of a batch sum or count. Each rank divides its own sum by it.

    Runs one collective of the value's size, and one more in the backward pass if the value has a gradient. The backward
    collectives run in the same order on all ranks only if the rest of the graph does not depend on a rank's persons.

    Args:
        value: A tensor, or a number known to the host.
        at_least: Lower bound for the sum over all ranks.
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
    """Turns losses that are means over ``count`` items of this rank into means over the items of all ranks.

    Runs one collective of 8 bytes. Entries without 'loss' in their name stay as they are.
    """
    if get_world_size() == 1:
        return losses
    share = count / mean_over_ranks(count, at_least=1)
    return {name: value * share if 'loss' in name else value for name, value in losses.items()}


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Gathers the rows of all ranks, in rank order. Ranks may hold different numbers of rows, or none.

    This rank's own rows keep their gradient, times the number of ranks, because each rank computes the same loss over all
    rows and DDP divides by the number of ranks. Runs one collective for the counts, for which the host waits, and one per
    tensor, padded to the largest count.

    Args:
        tensors: (N, ...) each, with the same N.

    Returns:
        (M, ...) each, where M is the sum of N over the ranks.
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
