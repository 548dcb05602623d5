#!/usr/bin/env python
"""The same as ``mmps export``: writes a trained detector as an ONNX file that runs without PyTorch."""

from mmps.cli import run_tool
from mmps.cli.export import main

if __name__ == '__main__':
    run_tool(main)
