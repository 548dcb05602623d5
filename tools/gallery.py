#!/usr/bin/env python
"""The same as ``mmps gallery``: shows a gallery, or removes persons from it."""

from mmps.cli import run_tool
from mmps.cli.gallery import main

if __name__ == '__main__':
    run_tool(main)
