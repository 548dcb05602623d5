from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def server(environment, load_script, tmp_path_factory):
    """server('train.py', config, ...) -> what a tool that was called so returned and printed."""
    with load_script(ROOT / 'tests/tool_server.py').ToolServer(environment, tmp_path_factory.mktemp('server')) as server:
        yield server
