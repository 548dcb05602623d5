#!/usr/bin/env python
"""The same as ``mmps cache-teacher``: writes a teacher's embeddings to a folder."""

from mmps.cli import run_tool
from mmps.cli.cache_teacher import main

if __name__ == '__main__':
    run_tool(main)
