"""The gallery on a real Milvus server, that of PyPI's package ``milvus``: it passes the tests of the file."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmps.apis.gallery import Gallery

URI, SECONDS = 'http://127.0.0.1:19530', 300


@pytest.mark.soak
def test_a_server_passes_the_tests_of_the_file(tmp_path):
    if importlib.util.find_spec('milvus') is None:
        pytest.skip('needs a Milvus server: pip install milvus')
    command = [str(Path(sys.executable).with_name('milvus-server')), '--data', str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as server:  # it starts the server proper, which does not end with it
        try:
            until = time.monotonic() + SECONDS
            while not answers():
                assert server.poll() is None and time.monotonic() < until, 'the server does not start'
                time.sleep(2)
            tests = [sys.executable, '-m', 'pytest', '-q', str(Path(__file__).with_name('test_gallery.py'))]
            done = subprocess.run(tests, env=os.environ | {'MMPS_MILVUS': URI}, capture_output=True, text=True)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
    assert done.returncode == 0, done.stdout


def answers():
    try:
        Gallery(URI).close()
    except ConnectionError:
        return False
    except FileNotFoundError:  # there is a server without a gallery
        return True
    return True
