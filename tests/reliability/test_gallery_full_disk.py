"""A disk that fills up, or a kill, ends an indexing; what was indexed can be searched, and the same command goes on."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# mmps, whose files may not become larger than sys.argv[1] bytes, if that is not 0
LIMITED = """
import resource, sys
from mmps.cli.main import main
limit = int(sys.argv.pop(1))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""


@pytest.fixture
def mmps(search_files):
    """mmps(limit, arguments) -> a process, begun."""
    model = ['--model', search_files / 'config.py', '--weights', search_files / 'weights.pth', '--device', 'cpu']

    def begin(limit, name, *arguments):
        command = [sys.executable, '-c', LIMITED, limit, name, *arguments, *(model if name == 'index' else [])]
        return subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return begin


def info(mmps, gallery):
    process = mmps(0, 'gallery', 'info', gallery, '--json')
    printed = process.communicate()[0]
    assert process.returncode == 0
    return json.loads(printed)


@pytest.mark.soak
def test_a_full_disk_ends_an_indexing_in_one_line(mmps, search_files, tmp_path):
    scenes, gallery = search_files / 'tiny/Image/SSM', tmp_path / 'gallery.db'
    process = mmps(200_000, 'index', gallery, scenes, '--only-new')
    _, errors = process.communicate()
    assert process.returncode == 1 and 'Traceback' not in errors, errors[-3000:]
    assert errors.splitlines()[-1].startswith(f'error: {gallery}: ') and 'what was added before is kept' in errors
    whole = [each for each in info(mmps, gallery)['sources'] if each['complete']]
    assert 0 < len(whole) < 40
    process = mmps(0, 'index', gallery, scenes, '--only-new', '--json')
    counts = json.loads(process.communicate()[0])
    assert counts['sources'] == 40 - len(whole)
    after = info(mmps, gallery)
    assert all(each['complete'] for each in after['sources']) and len(after['sources']) == 40
    assert after['persons'] == 40 * 20  # twenty detections in each, which is the most that this model gives


@pytest.mark.soak
def test_a_kill_ends_an_indexing_and_nobody_is_there_twice(mmps, search_files, tmp_path):
    scenes, gallery = search_files / 'tiny/Image/SSM', tmp_path / 'gallery.db'
    process = mmps(0, 'index', gallery, scenes, '--only-new')
    while process.poll() is None and not list(gallery.glob('collections/persons/wal/*')):
        time.sleep(0.02)
    time.sleep(0.5)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    whole = [each for each in info(mmps, gallery)['sources'] if each['complete']]
    process = mmps(0, 'index', gallery, scenes, '--only-new', '--json')
    assert json.loads(process.communicate()[0])['sources'] == 40 - len(whole)
    assert info(mmps, gallery)['persons'] == 40 * 20
