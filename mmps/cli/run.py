"""What the command-line tools share."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from torch.distributed.elastic.multiprocessing.errors import record

from .explain import explain
from .launching import launch_by_mpi, launch_on_cpu


def config_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments that MMDetection's tools share too."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go; default work_dirs/CONFIG-NAME')
    add_overrides(parser, 'overrides of the config; lists as KEY="[a,b]"')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def few(text: str) -> int:
    """An argument that says how many are shown in one picture: argparse's type for 0 to 100."""
    if not text.isdigit() or int(text) > 100:
        raise argparse.ArgumentTypeError(f'expected a number from 0 to 100, got {text!r}')
    return int(text)


def converter_parser(description: str | None, config: Path) -> argparse.ArgumentParser:
    """A parser for the arguments of :func:`convert_checkpoint`, of which ``config`` is the default config."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('checkpoint', help='released checkpoint')
    parser.add_argument('out', help='where the converted one goes')
    parser.add_argument('config', nargs='?', default=str(config), help=f'config of its model; default {config.name}')
    parser.add_argument('--force', action='store_true', help='replace OUT if it is there')
    return parser


def add_overrides(parser: argparse.ArgumentParser, purpose: str) -> None:
    """The argument --cfg-options, a dict."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, type=override, default={}, metavar='KEY=VALUE', help=purpose
    )


def override(text: str) -> str:
    """An argument that changes a config: argparse's type for KEY=VALUE."""
    key, equals, value = text.partition('=')
    try:
        DictAction._parse_iterable(value)
    except AssertionError as error:
        raise argparse.ArgumentTypeError(f'{text!r}: {error}') from error
    except RecursionError as error:
        raise argparse.ArgumentTypeError(f'{text!r}: expected brackets around several tuples') from error
    if not key or not equals:
        raise argparse.ArgumentTypeError(f'expected KEY=VALUE, got {text!r}')
    return text


def load_config(args: argparse.Namespace) -> Config:
    """The config that :func:`config_parser`'s arguments ask for."""
    if args.launcher == 'mpi':
        launch_by_mpi()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    try:
        cfg.merge_from_dict(args.cfg_options)
    except (KeyError, TypeError) as error:  # an index that a list does not have, a key below a value that has none
        raise ValueError(f'--cfg-options: {error.args[0]}') from error
    if 'model' not in cfg:
        raise ValueError(f'{args.config}: expected a config with a model, got the keys {sorted(cfg)}')
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    launch_on_cpu(cfg)
    return cfg


@record
def run_tool(main: Callable[[], None]) -> None:
    """Runs a command-line tool: wrong input ends it with one line on stderr and exit status 1, not with a traceback.

    So does a rank that has lost another. ``MMPS_TRACEBACK=1`` in the environment shows where it happened. Any other exception
    keeps its traceback: it is a bug. torchrun's summary has the line, or the traceback, of the rank that failed first.
    """
    try:
        main()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # a rank that just exits may take its peers down
    except Exception as error:
        peer = lost_peer(error) if isinstance(error, RuntimeError) else None
        message = peer or explain(error)
        if message is None or os.environ.get('MMPS_TRACEBACK'):
            raise
        if path := os.environ.get('TORCHELASTIC_ERROR_FILE'):
            # torchrun calls the earliest failure the cause, and kills a rank that hangs half a minute after the others failed:
            # those who lost it say so as if a minute later.
            Path(path).write_text(json.dumps({'message': message, 'timestamp': int(time.time()) + 60 * bool(peer)}))
        sys.exit(f'error: {message}')


def lost_peer(error: RuntimeError) -> str | None:
    """What a rank says that waited in vain for another one; None for any other RuntimeError."""
    # gloo's message begins with its source file and ends with a greeting.
    sentence = re.sub(r'^\[\S+\] ', '', str(error)).split('. ')[0].split('\n')[0]
    is_lost = re.search(r'(closed|reset) by peer|broken pipe|timed? ?out', sentence, re.IGNORECASE)
    is_own = sentence.startswith(('DataLoader', 'CUDA error'))
    if not is_lost or is_own or not torch.distributed.is_initialized():
        return None
    return f'rank {torch.distributed.get_rank()} lost another rank, which died or hangs: {sentence}'
