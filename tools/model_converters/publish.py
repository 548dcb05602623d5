#!/usr/bin/env python
"""The same as ``mmps publish``: writes the weights of a checkpoint alone, in float16."""

from mmps.cli import run_tool
from mmps.cli.publish import main

if __name__ == '__main__':
    run_tool(main)
