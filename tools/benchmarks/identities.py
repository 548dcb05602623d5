"""Times OIM with up to a million identities: logits, loss, gradient and the update of the memory.

    python tools/benchmarks/identities.py [--persons 64] [--repeats 5] [--rows-at-once 8192]

Each step is one call of OIMLoss with its backward pass, for D 256 and a queue of 5,000: with all rows at once, and in chunks,
in turns. Prints a table of median milliseconds of the step and of the update alone, the size of the lookup table, and the
memory that the loss keeps for the backward pass.
"""

import argparse
import time
from statistics import median

import torch
import torch.nn.functional as F

from mmps.evaluation.tables import markdown_table
from mmps.models.losses import OIMLoss

DIMS, QUEUE = 256, 5000


def kept_bytes(loss: OIMLoss, embeddings: torch.Tensor, ids: torch.Tensor) -> int:
    """Returns the bytes that a step keeps for its backward pass."""
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(embeddings, ids, most_sightings=4)
    return sum(storage.nbytes() for storage in storages.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--persons', type=int, default=64, help='RoIs of persons in a batch (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--rows-at-once', type=int, default=8192)
    parser.add_argument('--identities', type=int, nargs='+', default=[1000, 10_000, 100_000, 1_000_000])
    args = parser.parse_args()
    rows = []
    for count in args.identities:
        losses = [OIMLoss(count, QUEUE, DIMS, rows_at_once=chunk).train() for chunk in (None, args.rows_at_once)]
        lut = F.normalize(torch.randn(count, DIMS))
        for loss in losses:
            loss.memory.lut = lut  # both use the same table, because two may not fit
        embeddings = F.normalize(torch.randn(args.persons, DIMS)).requires_grad_()
        ids = torch.randint(count, (args.persons // 4,)).repeat_interleave(4)
        seconds: list[list[float]] = [[], [], []]
        for _ in range(args.repeats):
            for times, loss in zip(seconds, losses, strict=False):
                start = time.perf_counter()
                loss(embeddings, ids, most_sightings=4).backward()
                times.append(time.perf_counter() - start)
            start = time.perf_counter()
            losses[0].memory.update(embeddings, ids, most_sightings=4)
            seconds[2].append(time.perf_counter() - start)
        kept = [kept_bytes(loss, embeddings, ids) for loss in losses]
        rows.append(
            [
                f'{count:,}',
                *(f'{1000 * median(times):.1f}' for times in seconds),
                *(f'{value / 1e6:.1f}' for value in (lut.numel() * 4, *kept)),
            ]
        )
        print(' '.join(rows[-1]), flush=True)
    columns = ['identities', 'step, ms', 'in chunks, ms', 'update, ms', 'LUT, MB', 'kept, MB', 'kept in chunks, MB']
    print(markdown_table(columns, rows))


if __name__ == '__main__':
    main()
