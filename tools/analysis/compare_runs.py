#!/usr/bin/env python
"""The same as ``mmps compare``: compares finished trainings."""

from mmps.cli import run_tool
from mmps.cli.compare import main

if __name__ == '__main__':
    run_tool(main)
