"""What all subcommands share: arguments, configs, and how errors are shown."""

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
    """Returns a parser with the arguments that train and test share, named as in MMDetection."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go; default work_dirs/CONFIG-NAME')
    add_overrides(parser, 'overrides of the config; lists as KEY="[a,b]"')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def few(text: str) -> int:
    """Reads a number from 0 to 100, for argparse: how many rows a picture shows."""
    if not text.isdigit() or int(text) > 100:
        raise argparse.ArgumentTypeError(f'expected a number from 0 to 100, got {text!r}')
    return int(text)


def packaged(name: str) -> Path:
    """Returns the folder ``configs`` or ``tools``: the repository's, or the copy that an installed package carries."""
    return (Path(__file__).parents[1] / '.mim' / name).resolve()


def add_overrides(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Adds the argument --cfg-options, which becomes a dict."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, type=override, default={}, metavar='KEY=VALUE', help=purpose
    )


def override(text: str) -> str:
    """Checks an argument KEY=VALUE, for argparse."""
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
    """Returns the config that the arguments of :func:`config_parser` name, with their changes.

    Raises:
        OSError: The config cannot be read.
        ValueError: An override does not fit the config, or the config has no model.
    """
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
    """Runs a command-line tool.

    Wrong input ends it with one line on stderr and exit status 1. So does the loss of another rank. Any other exception is a
    bug and keeps its traceback. ``MMPS_TRACEBACK=1`` in the environment shows every traceback. torchrun's summary has the line
    or the traceback of the rank that failed first.
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
            # torchrun reports the earliest failure as the cause. It kills a hanging rank half a minute after the others failed,
            # so these add a minute to their time: the hanging rank is the cause.
            Path(path).write_text(json.dumps({'message': message, 'timestamp': int(time.time()) + 60 * bool(peer)}))
        sys.exit(f'error: {message}')


def lost_peer(error: RuntimeError) -> str | None:
    """Returns the message of a rank that waited in vain for another one; None for any other RuntimeError."""
    # gloo's message begins with its source file and ends with a greeting.
    sentence = re.sub(r'^\[\S+\] ', '', str(error)).split('. ')[0].split('\n')[0]
    is_lost = re.search(r'(closed|reset) by peer|broken pipe|timed? ?out', sentence, re.IGNORECASE)
    is_own = sentence.startswith(('DataLoader', 'CUDA error'))
    if not is_lost or is_own or not torch.distributed.is_initialized():
        return None
    return f'rank {torch.distributed.get_rank()} lost another rank, which died or hangs: {sentence}'
