"""Writes a trained detector as an ONNX file that runs without PyTorch."""

import argparse
from pathlib import Path

from mmps.apis.converters import refuse_existing
from mmps.export import ExportOptions, export_onnx


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the detector, or of the distilled run, whose student is written')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', required=True, metavar='MODEL.onnx', help='the file to write')
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='the only input size')
    sizes.add_argument('--dynamic', action='store_true', help='any input size; this is the default')
    parser.add_argument('--persons', type=int, metavar='K', help='most persons of an image; default as the config, up to 100')
    parser.add_argument('--half', action='store_true', help='store the weights in float16')
    parser.add_argument('--unroll', action='store_true', help='write deformable convolutions as GridSample, for OpenVINO')
    parser.add_argument('--force', action='store_true', help='replace MODEL.onnx if it is there')
    args = parser.parse_args()
    refuse_existing(args.out, args.force)
    size = None if args.size is None else (args.size[0], args.size[1])
    about = export_onnx(args.config, args.checkpoint, args.out, ExportOptions(size, args.persons, args.half, args.unroll))
    print(
        f'{args.out}: {about.model}, {about.precision}, {Path(args.out).stat().st_size / 1e6:.2f} MB, '
        f'{"any size" if about.size is None else f"{about.size[0]} x {about.size[1]} pixels"}, up to {about.persons} persons, '
        f'embeddings of {about.embed_dims} numbers'
    )
