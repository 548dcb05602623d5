#!/usr/bin/env python
"""The same as ``mmps page``: opens a gallery as a web page, on which a person is searched."""

from mmps.cli import run_tool
from mmps.cli.page import main

if __name__ == '__main__':
    run_tool(main)
