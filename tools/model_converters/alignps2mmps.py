#!/usr/bin/env python
"""Makes a checkpoint that AlignPS's authors released one of mmps."""

from pathlib import Path

from mmps.apis import convert_checkpoint
from mmps.cli import converter_parser, run_tool

CONFIG = Path(__file__).resolve().parents[2] / 'configs/alignps/alignps_r50_24e_cuhk-sysu.py'


def main() -> None:
    args = converter_parser(__doc__, CONFIG).parse_args()
    print(convert_checkpoint('alignps', args.checkpoint, args.out, args.config, args.force))


if __name__ == '__main__':
    run_tool(main)
