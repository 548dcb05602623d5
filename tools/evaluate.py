#!/usr/bin/env python
"""The same as ``mmps evaluate``: scores a file of predictions."""

from mmps.cli import run_tool
from mmps.cli.evaluate import main

if __name__ == '__main__':
    run_tool(main)
