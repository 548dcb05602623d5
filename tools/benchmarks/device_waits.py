"""Counts how often a training step of a config makes the host wait for a GPU, by place in the code. Needs no GPU.

    python tools/benchmarks/device_waits.py CONFIG ... [--batch 4] [--size 128 224] [--persons 4]

The step is computed on a pretended GPU with compiled operators, on random images and with random weights. It is the second
one, without the copy of the batch and the optimizer. A wait is an operator whose result the host needs, or a copy between
host and GPU that is not asynchronous. Prints two tables: the waits and operators of each config, and the places. Needs
PyTorch 2.9 or newer.
"""

import argparse
from collections import Counter
from pathlib import Path

from mmps.evaluation.tables import markdown_table
from mmps.gpu.device_waits import record_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', type=Path)
    parser.add_argument('--batch', type=int, default=4, help='images of a batch (default: %(default)s)')
    parser.add_argument('--size', type=int, nargs=2, default=(128, 224), help='height and width of an image')
    parser.add_argument('--persons', type=int, default=4, help='persons in an image (default: %(default)s)')
    args = parser.parse_args()
    rows, places = [], Counter()
    for config in args.configs:
        record = record_step(config, args.batch, tuple(args.size), args.persons)
        total = sum(record.waits.values())
        rows.append([config.stem, *map(str, (total, record.ours(), total - record.ours(), record.operators))])
        places.update(record.waits)
    print(markdown_table(['config', 'waits', "in mmps's code", 'in other packages', 'operators'], rows))
    print()
    print(markdown_table(['waits', 'operator', 'place'], [[str(n), what, where] for (where, what), n in places.most_common()]))


if __name__ == '__main__':
    main()
