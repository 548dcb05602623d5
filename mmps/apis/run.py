"""What the command-line tools share."""
import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import Registry

import mmps.registry
from mmps.compat import launch_on_cpu

# What wrong input raises: a file that is missing or unreadable, a value that does not fit, a loss that is not finite.
EXPECTED = (OSError, ValueError, FloatingPointError)


def config_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments that MMDetection's tools share too."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go; default work_dirs/CONFIG-NAME')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE',
                        help='overrides of the config; lists as KEY="[a,b]"')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def few(text: str) -> int:
    """An argument that says how many are shown in one picture: argparse's type for 0 to 100."""
    if not text.isdigit() or int(text) > 100:
        raise argparse.ArgumentTypeError(f'expected a number from 0 to 100, got {text!r}')
    return int(text)


def load_config(args: argparse.Namespace) -> Config:
    """The config that :func:`config_parser`'s arguments ask for."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    launch_on_cpu(cfg)
    return cfg


def run_tool(main: Callable[[], None]) -> None:
    """Runs a command-line tool: wrong input ends it with one line on stderr and exit status 1, not with a traceback.

    ``MMPS_TRACEBACK=1`` in the environment shows where it happened. Any other exception keeps its traceback: it is a bug.
    """
    try:
        main()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # a rank that just exits may take its peers down
    except (*EXPECTED, KeyError) as error:
        message = unknown_type(error) if isinstance(error, KeyError) else one_line(error)
        if message is None or os.environ.get('MMPS_TRACEBACK'):
            raise
        sys.exit(f'error: {message}')


def unknown_type(error: KeyError) -> str | None:
    """What a config's type that no registry knows is answered, with names that are like it; None for any other KeyError."""
    found = re.search(r'(\S+) is not in the (?:\S+::)?([\w ]+) registry', str(error))
    if found is None:
        return None
    name, kind = found[1].strip('\'"'), found[2]
    registry = next((each for each in vars(mmps.registry).values() if isinstance(each, Registry) and each.name == kind), None)
    known = set()
    while registry is not None:
        known |= registry.module_dict.keys()
        registry = registry.parent
    return f'there is no {kind} of type {name!r}{mmps.registry.did_you_mean(name, known)}'


def one_line(error: BaseException) -> str:
    """The message without what others put around it: the registry's "class X in file:", a data worker's traceback."""
    if isinstance(error, OSError) and error.filename:
        return f'{error.filename}: {error.strerror}'
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = re.sub(r'^[\w.]*(Error|Exception): ', '', lines[-1]) if 'Original Traceback' in str(error) else ' '.join(lines)
    return re.sub(r'^(class `\w+` in \S+: )+', '', line)
