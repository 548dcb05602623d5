"""The command ``mmps``. Its subcommands are modules of this package with a function ``main``, imported when they are called."""

import ast
import sys
from importlib import import_module
from pathlib import Path

from mmps.registry import did_you_mean
from mmps.version import __version__

from .run import run_tool

COMMANDS = (
    'train',
    'test',
    'evaluate',
    'report',
    'compare',
    'benchmark',
    'demo',
    'index',
    'search',
    'gallery',
    'page',
    'synth',
    'print-config',
    'cache-teacher',
    'export-lookup-table',
    'convert',
    'publish',
    'export',
)


def main() -> None:
    """Runs the subcommand that the command line names."""
    name, *arguments = sys.argv[1:] or ['']
    if name in ('-h', '--help'):
        print(usage())
    elif name == '--version':
        print(f'mmps {__version__}')
    elif name in COMMANDS:
        sys.argv = [f'mmps {name}', *arguments]  # the first is what argparse calls the program
        run_tool(import_module(f'.{module_of(name)}', __package__).main)
    else:
        wrong = f'there is no subcommand {name!r}{did_you_mean(name, COMMANDS)}' if name else 'expected a subcommand'
        sys.exit(f'error: {wrong} (mmps --help lists all)')


def usage() -> str:
    """Returns the list of subcommands, each with the first line of its module's docstring."""
    width = max(map(len, COMMANDS))
    lines = [f'  {name:<{width}}  {summary(name)}' for name in COMMANDS]
    return '\n'.join(
        ['usage: mmps SUBCOMMAND [ARGUMENT ...]', '', *lines, '', 'mmps SUBCOMMAND --help lists its arguments; mmps --version']
    )


def summary(name: str) -> str:
    """Returns the first line of a subcommand's docstring, without importing it."""
    source = Path(__file__).with_name(f'{module_of(name)}.py').read_text(encoding='utf-8')
    return (ast.get_docstring(ast.parse(source)) or '').split('\n')[0]


def module_of(name: str) -> str:
    return name.replace('-', '_')
