"""The page in a real browser with an exported model in the place of a config: add pictures, choose a person, see matches."""

import re
import shutil
import signal
import subprocess
import sys

import pytest

sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
CHROMIUM = shutil.which('chromium')
WAIT = 120_000  # milliseconds: on a busy machine the model is slow
pytestmark = [pytest.mark.soak, pytest.mark.skipif(CHROMIUM is None, reason='there is no chromium')]


@pytest.fixture
def scenes(search_files, tmp_path):
    (tmp_path / 'scenes').mkdir()
    for path in sorted((search_files / 'tiny/Image/SSM').glob('*.jpg'))[:3]:
        shutil.copy(path, tmp_path / 'scenes')
    return tmp_path / 'scenes'


@pytest.fixture
def url(exported_model, scenes, repository):
    """Of a page with an empty gallery."""
    command = [sys.executable, '-m', 'mmps', 'page', scenes.parent / 'gallery.db', '--port', '0']
    command += ['--model', exported_model, '--inputs', scenes]
    process = subprocess.Popen(list(map(str, command)), cwd=repository, stdout=subprocess.PIPE, text=True)
    lines = iter(process.stdout.readline, '')
    yield next(line.split()[0] for line in lines if line.startswith('http'))
    process.send_signal(signal.SIGINT)  # Ctrl-C
    assert process.wait(60) == 0
    assert 'Traceback' not in process.stdout.read()


@pytest.fixture
def page(url):
    with sync_api.sync_playwright() as playwright:
        arguments = ['--no-sandbox', '--disable-gpu', '--disable-renderer-priority-management']
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page(viewport={'width': 1280, 'height': 900})
        page.set_default_timeout(WAIT)
        page.goto(url)
        yield page
        browser.close()


def test_the_page_indexes_and_searches_with_an_exported_model(page):
    page.get_by_text('The gallery is empty').wait_for()
    page.get_by_role('button', name='Add pictures').click()
    page.get_by_label('Folders on this machine').click()
    page.get_by_role('option').first.click()
    page.keyboard.press('Escape')
    page.get_by_role('button', name='Start').click()
    page.get_by_text(re.compile(r'3 of 3 frames, [1-9]\d* persons; done')).wait_for()
    page.get_by_role('button', name='Close').click()
    persons = page.get_by_role('button', name=re.compile('^Search for Person'))
    persons.nth(1).click()
    page.get_by_text(re.compile(r'^\d+ match')).wait_for()
    similarities = [float(text) for text in page.locator('.match .value').all_inner_texts()]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[0] == 1  # the person that was clicked
    matches = page.get_by_role('list', name='Matches').get_by_role('listitem')
    assert matches.count() == len(similarities) > 1
    matches.first.locator('img').wait_for()
