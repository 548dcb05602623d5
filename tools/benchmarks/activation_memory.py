"""Counts the memory that a training step of a config needs, and the batch that fits a GPU. Needs no GPU.

    python tools/benchmarks/activation_memory.py CONFIG ... [--size 900 1500] [--persons 6]

Counts the tensors that one random image keeps for the backward pass, computed on the CPU: in float32, with AMP (half
precision), with the backbone's activation checkpoints (``with_cp``), and with both. Prints a table of MB for an image, MB of
weights, gradients and optimizer, and the largest batch for 12, 24 and 80 GB. Workspaces of a GPU's kernels are not seen;
1 GiB is left for them.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config

from mmps.evaluation.tables import markdown_table
from mmps.gpu.activation_memory import StepMemory, step_memory
from mmps.gpu.random_step import build_model, random_batch

GB = 10**9


def has(cfg: Config, name: str) -> bool:
    """Returns whether a config has an entry, given by its dotted name."""
    part = cfg
    for word in name.split('.'):
        if word not in part:
            return False
        part = part[word]
    return True


def measure(config: Path, size: tuple[int, int], persons: int) -> list[tuple[str, StepMemory]]:
    """Returns the memory of a config in each of the four ways that its backbone supports."""
    images, samples = random_batch(1, size, persons)
    cfg = Config.fromfile(config)
    places = ('model.architecture.backbone', 'model.backbone', 'model.reid.backbone')
    backbone = next(place for place in places if has(cfg, place))
    optimizer = cfg.optim_wrapper.optimizer.type
    found = []
    for with_cp in (False, True):
        model = build_model(config, {f'{backbone}.with_cp': True} if with_cp else {})
        for name, dtype in (('float32', None), ('AMP', torch.bfloat16)):
            found.append((name + ', with_cp' * with_cp, step_memory(model, images, samples, dtype, optimizer)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', type=Path)
    parser.add_argument('--size', type=int, nargs=2, default=(900, 1500), help='height and width of an image')
    parser.add_argument('--persons', type=int, default=6, help='persons in the image (default: %(default)s)')
    args = parser.parse_args()
    rows = []
    for config in args.configs:
        for name, memory in measure(config, tuple(args.size), args.persons):
            fits = [str(memory.images_that_fit(size * GB)) for size in (12, 24, 80)]
            rows.append([config.stem, name, f'{memory.saved / 1e6:.0f}', f'{memory.weights / 1e6:.0f}', *fits])
            print(' '.join(rows[-1]), flush=True)
    print(markdown_table(['config', 'computed', 'MB per image', 'MB of weights', '12 GB', '24 GB', '80 GB'], rows))


if __name__ == '__main__':
    main()
