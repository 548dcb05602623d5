#!/usr/bin/env python
"""The same as ``mmps convert seqnet``: converts a checkpoint that SeqNet's authors released."""

from functools import partial

from mmps.cli import run_tool
from mmps.cli.convert import main as convert

main = partial(convert, 'seqnet')

if __name__ == '__main__':
    run_tool(main)
