"""Writes a trained detector as an ONNX file that runs without PyTorch."""

import argparse
import tempfile
from pathlib import Path

from mmengine.config import Config

from mmps.apis.converters import refuse_existing
from mmps.apis.video import list_sources
from mmps_runtime import About


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the detector, or of the distilled run, whose student is written')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', required=True, metavar='MODEL.onnx', help='the file to write')
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='the only input size')
    sizes.add_argument('--dynamic', action='store_true', help='any input size; this is the default')
    parser.add_argument('--persons', type=int, metavar='K', help='most persons of an image; default as the config, up to 100')
    parser.add_argument('--unroll', action='store_true', help='write deformable convolutions as GridSample, for OpenVINO')
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument('--half', action='store_true', help='store the weights in float16')
    precision.add_argument('--int8', action='store_true', help='quantize weights and maps')
    parser.add_argument(
        '--calibrate', nargs='+', metavar='DATA', help='images for --int8; default the training images of the config'
    )
    parser.add_argument('--scenes', type=int, default=64, help='how many images calibrate (%(default)s)')
    parser.add_argument(
        '--tolerance', type=float, default=0.01, help='how much less than 1 the embeddings may agree in --int8 (%(default)s)'
    )
    parser.add_argument('--force', action='store_true', help='replace MODEL.onnx if it is there')
    args = parser.parse_args()
    if args.calibrate and not args.int8:
        raise ValueError('--calibrate: expected with --int8 only')
    refuse_existing(args.out, args.force)
    about = export(args)
    print(
        f'{args.out}: {about.model}, {about.precision}, {Path(args.out).stat().st_size / 1e6:.2f} MB, '
        f'{"any size" if about.size is None else f"{about.size[0]} x {about.size[1]} pixels"}, up to {about.persons} persons, '
        f'embeddings of {about.embed_dims} numbers'
    )


def export(args: argparse.Namespace) -> About:
    """Writes the model. Only this needs the packages of the extra ``export``."""
    from mmps.export import ExportOptions, export_onnx
    from mmps.export.quantization import quantize_int8
    from mmps.export.scenes import read_scenes, training_images

    size = None if args.size is None else (args.size[0], args.size[1])
    options = ExportOptions(size, args.persons, args.half, args.unroll)
    if not args.int8:
        return export_onnx(args.config, args.checkpoint, args.out, options)
    paths = list_sources(args.calibrate) if args.calibrate else training_images(Config.fromfile(args.config))
    scenes = read_scenes(paths, args.scenes)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / 'float32.onnx'
        export_onnx(args.config, args.checkpoint, whole, options)
        found = quantize_int8(whole, args.out, scenes, args.tolerance)
    print(
        f'int8: calibrated on {len(scenes)} images; the embeddings agree to {1 - found.loss:.4f}; '
        f'in float: {", ".join(found.kept_float) or "no layer but those that predict scores and boxes"}'
    )
    return found.about
