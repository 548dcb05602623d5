#!/usr/bin/env python
"""The same as ``mmps export-lookup-table``: writes a teacher's mean embedding of every identity."""

from mmps.cli import run_tool
from mmps.cli.export_lookup_table import main

if __name__ == '__main__':
    run_tool(main)
