#!/usr/bin/env python
"""The same as ``mmps test``: tests a checkpoint."""

from mmps.cli import run_tool
from mmps.cli.test import main

if __name__ == '__main__':
    run_tool(main)
