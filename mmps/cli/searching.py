"""What the subcommands that use a trained model share."""

import argparse
from pathlib import Path

from mmps.apis.inferencer import PersonSearchInferencer
from mmps.apis.sightings import Where


def model_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser for a gallery and a model. :func:`open_inferencer` opens them."""
    parser = argparse.ArgumentParser(description=description)
    add_model(parser)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`model_parser`."""
    add_gallery(parser)
    parser.add_argument(
        '--model',
        default='real',
        help='config of the model, its name in the model index, or a .onnx file of mmps export (%(default)s)',
    )
    parser.add_argument('--weights', help='its checkpoint; default that of the model index')
    parser.add_argument('--device', help='default: a GPU, if there is one')
    parser.add_argument(
        '--height', type=int, help='shorter side of the images for the model, in pixels; default its test config'
    )
    parser.add_argument('--score-thr', type=float, help='least confidence of a person; default that of the config, else 0.5')


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds the argument --json, with which nothing else is printed."""
    parser.add_argument('--json', action='store_true', help='print JSON')


def add_gallery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('gallery', help='a file name ending in .db, or http://host:19530 of a Milvus server')


def open_inferencer(args: argparse.Namespace, show_progress: bool, must_exist: bool = False) -> PersonSearchInferencer:
    """Returns the model with its gallery.

    Raises:
        FileNotFoundError: There is no such gallery, and it must exist.
    """
    if must_exist and '://' not in args.gallery and not Path(args.gallery).exists():
        raise FileNotFoundError(f'{args.gallery}: there is no gallery; mmps index makes one')
    return PersonSearchInferencer(
        args.model, args.weights, args.device, args.gallery, args.score_thr, args.height, show_progress
    )


def add_where(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which persons count. :func:`where` reads them."""
    parser.add_argument('--cameras', nargs='+', default=(), metavar='NAME', help='only these cameras')
    parser.add_argument('--sources', nargs='+', default=(), metavar='PATH', help='only these images and videos')
    parser.add_argument('--since', type=float, metavar='SECONDS', help='least time')
    parser.add_argument('--until', type=float, metavar='SECONDS', help='greatest time')


def where(args: argparse.Namespace) -> Where:
    return Where(tuple(args.cameras), tuple(args.sources), args.since, args.until)
