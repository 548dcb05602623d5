import json
import os
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def report(request):
    """report(figure=value, ...) -> one line, with the test's name and how long it has taken, in MMPS_REPORT, if that is set:
    what `make soak` measured. docs/reliability.md has the last result."""
    started = time.monotonic()

    def write(**figures) -> None:
        line = json.dumps({'test': request.node.name, 'seconds': round(time.monotonic() - started, 1), **figures})
        if path := os.environ.get('MMPS_REPORT'):
            with open(path, 'a') as file:
                file.write(line + '\n')

    return write


@pytest.fixture(scope='session')
def environment(tmp_path_factory):
    """Of a tool that is called: one thread, this checkout, a cache of its own."""
    return {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'OMP_NUM_THREADS': '1',
        'PYTHONWARNINGS': 'ignore',
        'MMPS_CACHE': str(tmp_path_factory.mktemp('cache')),
    }


@pytest.fixture(scope='module')
def server(environment, load_script, tmp_path_factory):
    """server('train.py', config, ...) -> what a tool that was called so returned and printed."""
    with load_script(ROOT / 'tests/tool_server.py').ToolServer(environment, tmp_path_factory.mktemp('server')) as server:
        yield server
