#!/usr/bin/env python
"""Makes a checkpoint that SeqNet's authors released one of mmps."""

from pathlib import Path

from mmps.apis import convert_checkpoint
from mmps.cli import converter_parser, run_tool

CONFIG = Path(__file__).resolve().parents[2] / 'configs/seqnet/seqnet_r50-c4_20e_cuhk-sysu.py'


def main() -> None:
    args = converter_parser(__doc__, CONFIG).parse_args()
    print(convert_checkpoint('seqnet', args.checkpoint, args.out, args.config, args.force))


if __name__ == '__main__':
    run_tool(main)
