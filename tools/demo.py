#!/usr/bin/env python
"""The same as ``mmps demo``: distils a small model on drawn scenes."""

from mmps.cli import run_tool
from mmps.cli.demo import main

if __name__ == '__main__':
    run_tool(main)
