#!/usr/bin/env python
"""The same as ``mmps print-config``: prints what a config trains."""

from mmps.cli import run_tool
from mmps.cli.print_config import main

if __name__ == '__main__':
    run_tool(main)
