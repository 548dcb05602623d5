#!/usr/bin/env python
"""The same as ``mmps synth``: draws SynthPS."""

from mmps.cli import run_tool
from mmps.cli.synth import main

if __name__ == '__main__':
    run_tool(main)
