"""Converts a checkpoint that SeqNet's or AlignPS's authors released.

mmps then tests it, or takes it as a teacher, like any other.
"""

import argparse

from mmps.apis import convert_checkpoint

from .run import packaged

# The config of each family's model, where the command line names none.
CONFIGS = {'seqnet': 'seqnet/seqnet_r50-c4_20e_cuhk-sysu.py', 'alignps': 'alignps/alignps_r50_24e_cuhk-sysu.py'}


def main(family: str | None = None) -> None:
    """Runs the tool.

    Args:
        family: Whose checkpoint it is, a key of ``CONFIGS``; None: the first argument of the command line says it.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    if family is None:
        parser.add_argument('family', choices=sorted(CONFIGS), help='whose checkpoint it is')
    parser.add_argument('checkpoint', help='released checkpoint')
    parser.add_argument('out', help='where the converted one goes')
    defaults = CONFIGS.values() if family is None else [CONFIGS[family]]
    parser.add_argument('config', nargs='?', help=f'config of its model; default {" or ".join(defaults)}')
    parser.add_argument('--force', action='store_true', help='replace OUT if it is there')
    args = parser.parse_args()
    family = family or args.family
    config = args.config or str(packaged('configs') / CONFIGS[family])
    print(convert_checkpoint(family, args.checkpoint, args.out, config, args.force))
