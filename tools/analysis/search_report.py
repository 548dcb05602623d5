#!/usr/bin/env python
"""The same as ``mmps report``: writes a report of a finished test."""

from mmps.cli import run_tool
from mmps.cli.report import main

if __name__ == '__main__':
    run_tool(main)
