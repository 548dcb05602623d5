#!/usr/bin/env python
"""The same as ``mmps train``: trains a detector, or a student under distillation."""

from mmps.cli import run_tool
from mmps.cli.train import main

if __name__ == '__main__':
    run_tool(main)
