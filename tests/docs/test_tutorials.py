"""What a reader of docs/tutorials does, in order: each code block is run, and printed output that is shown must be printed.

- A Python block whose first line is ``# path/of/a/file.py`` is written to that file; another one is run.
- A bash block is run line by line. Tools start from a process that has imported what they need, to save time.
- A text block shows output of the last block that was run. Its lines must all be there; numbers may differ.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from string import Template

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / 'docs/tutorials').glob('*.md'))
BLOCK = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r'# (\S+\.py)\n')


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    """A folder with what a tutorial uses of a clone."""
    folder = tmp_path_factory.mktemp('clone')
    shutil.copytree(ROOT / 'configs', folder / 'configs')
    for name in ('tools', 'docs'):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope='module')
def server(clone, load_script, tmp_path_factory):
    pages = ''.join(path.read_text() for path in TUTORIALS)
    exported = {
        name: Template(value).substitute(PWD=clone) for name, value in re.findall(r'^export (\w+)=(\S+)', pages, re.MULTILINE)
    }
    environment = {
        **os.environ,
        **exported,
        'PYTHONPATH': os.pathsep.join([str(ROOT), exported['PYTHONPATH']]),
        'OMP_NUM_THREADS': '1',
        'PYTHONWARNINGS': 'ignore',
        'MMPS_CACHE': str(tmp_path_factory.mktemp('cache')),
    }
    with load_script(ROOT / 'tests/tool_server.py').ToolServer(environment, clone) as server:
        yield server


# The others take half a minute each.
QUICK = 'add-a-distillation-method'


@pytest.mark.parametrize(
    'path',
    [pytest.param(path, id=path.stem, marks=[] if path.stem == QUICK else pytest.mark.soak) for path in TUTORIALS],
)
def test_tutorial_runs_and_prints_what_it_shows(path, clone, server):
    blocks = BLOCK.findall(path.read_text())
    assert blocks
    printed = ''
    for language, code in blocks:
        if language == 'text':
            assert_printed(code, printed)
        elif language == 'bash':
            printed = ''.join(run_command(line, clone, server) for line in code.replace('\\\n', ' ').splitlines())
        elif name := FILE_NAME.match(code):
            (clone / name[1]).parent.mkdir(exist_ok=True)
            (clone / name[1]).write_text(code)
        else:
            assert language == 'python', f'a block of {language!r}'
            (clone / 'block.py').write_text(code)
            printed = run_command('python block.py', clone, server)


def run_command(line: str, clone: Path, server) -> str:
    words = shlex.split(line, comments=True)
    if words[:1] == ['python']:
        call = server(clone / words[1], *words[2:])
    else:
        call = subprocess.run(['bash', '-c', line], cwd=clone, capture_output=True, text=True)
    assert call.returncode == 0, f'{line}\n{call.stdout}{call.stderr}'
    return call.stdout + call.stderr


def assert_printed(shown: str, printed: str) -> None:
    lines = {masked(line) for line in printed.splitlines()}
    for line in shown.splitlines():
        wanted = masked(line)
        assert wanted == '...' or any(each.endswith(wanted) for each in lines), f'{line}\nis not in\n{printed}'


def masked(line: str) -> str:
    """Without numbers, and without the spaces and dashes that follow from how long they are."""
    return re.sub(r'\s+', ' ', re.sub(r'-{2,}', '--', re.sub(r'\d+(\.\d+)?', '0', line))).strip()
