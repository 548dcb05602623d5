#!/usr/bin/env python
"""The same as ``mmps benchmark``: compares distillation methods, as a matrix says."""

from mmps.cli import run_tool
from mmps.cli.benchmark import main

if __name__ == '__main__':
    run_tool(main)
