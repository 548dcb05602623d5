#!/usr/bin/env python
"""The same as ``mmps search``: finds a person of an image in a gallery."""

from mmps.cli import run_tool
from mmps.cli.search import main

if __name__ == '__main__':
    run_tool(main)
