#!/usr/bin/env python
"""The same as ``mmps index``: adds everybody in images and videos to a gallery."""

from mmps.cli import run_tool
from mmps.cli.index import main

if __name__ == '__main__':
    run_tool(main)
