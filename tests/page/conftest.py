"""Galleries, pictures, a search, and a page in a browser that tests of the page share."""

import re
import shutil
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from browsing import CHROMIUM

from mmps.apis.sightings import Match, Sighting
from mmps.page.pictures import Pictures
from mmps.page.results import Person, Search

WAIT = 120_000  # milliseconds: on a busy machine the model is slow
FRAMES = 600  # of the video: indexing them takes far longer than a search


@pytest.fixture
def jpeg():
    """jpeg(width, height) -> the bytes of a photograph."""

    def make(width=64, height=48):
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        return cv2.imencode('.jpg', image)[1].tobytes()

    return make


@pytest.fixture
def folder(tmp_path, jpeg):
    """A folder with three photographs of 64 x 48: a.jpg, b.jpg, c.jpg."""
    path = tmp_path / 'photographs'
    path.mkdir()
    for name in 'abc':
        (path / f'{name}.jpg').write_bytes(jpeg())
    return path


@pytest.fixture
def pictures(folder):
    shown = Pictures()
    shown.allow(str(folder / f'{name}.jpg') for name in 'abc')
    return shown


@pytest.fixture
def search(folder):
    """Somebody of a.jpg and three matches: similarities 0.9, 0.7, 0.5 at 30, 10 and 20 s."""
    embedding = np.eye(1, 4, dtype=np.float32)[0]
    search = Search()
    search.choose(Person('0', str(folder / 'a.jpg'), 0, (4, 4, 20, 40), 0.9, embedding), together=False)
    search.show(
        Match(similarity, Sighting(str(folder / f'{name}.jpg'), 0, time, camera, (8.0, 4.0, 20.0, 40.0), 0.8))
        for similarity, name, time, camera in (
            (0.9, 'a', 30.0, 'north'),
            (0.7, 'b', 10.0, '<b>"south"</b>'),
            (0.5, 'c', 20.0, ''),
        )
    )
    return search


@pytest.fixture(scope='module')
def place(search_files, tmp_path_factory):
    """A folder with what the page may show (``scenes``, ``videos``) and what it may not (``secret.jpg``), and a password."""
    folder = tmp_path_factory.mktemp('page')
    (folder / 'scenes').mkdir()
    images = sorted((search_files / 'tiny/Image/SSM').glob('*.jpg'))
    for path in images[:3]:
        shutil.copy(path, folder / 'scenes')
    shutil.copy(images[3], folder / 'secret.jpg')
    (folder / 'videos').mkdir()
    size = cv2.imread(str(images[4])).shape[1::-1]
    writer = cv2.VideoWriter(str(folder / 'videos/street.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 10, size)
    frames = [cv2.resize(cv2.imread(str(path)), size) for path in images[4:6]]
    for number in range(FRAMES):
        writer.write(frames[number // 2 % 2])
    writer.release()
    (folder / 'wrong.jpg').write_text('no photograph')
    (folder / 'password').write_text('sesame\n')
    return folder


@pytest.fixture(scope='module')
def server(search_files, place, repository):
    """URL of a page with an empty gallery."""
    command = [sys.executable, '-m', 'mmps', 'page', place / 'gallery.db', '--port', '0', '--device', 'cpu']
    command += ['--model', search_files / 'config.py', '--weights', search_files / 'weights.pth']
    command += ['--inputs', place / 'scenes', place / 'videos', '--auth', f'me:{place}/password']
    process = subprocess.Popen(list(map(str, command)), cwd=repository, stdout=subprocess.PIPE, text=True)
    lines = []
    while line := process.stdout.readline():  # the model may say something first
        lines.append(line)
        if line.startswith('http'):
            break
    assert lines and lines[-1].startswith('http://127.0.0.1:'), lines
    yield lines[-1].split()[0]
    process.send_signal(signal.SIGINT)  # Ctrl-C
    assert process.wait(60) == 0
    assert 'Traceback' not in process.stdout.read()


@pytest.fixture(scope='module')
def open_page(server):
    """open_page(**options of the browser) -> the page, opened with the password. Every request must go to the server."""
    asked = set()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu', '--disable-renderer-priority-management']
        )

        def open_it(**options):
            context = browser.new_context(**{'http_credentials': {'username': 'me', 'password': 'sesame'}, **options})
            context.set_default_timeout(WAIT)
            context.on('request', lambda request: asked.add(urlsplit(request.url)[:2]))
            page = context.new_page()
            page.on('websocket', lambda socket: asked.add(urlsplit(socket.url)[:2]))
            page.answer = page.goto(server)
            return page

        yield open_it
        browser.close()
    host = urlsplit(server).netloc
    assert {name for scheme, name in asked if scheme in ('http', 'https', 'ws', 'wss')} == {host}
    assert ('ws', host) in asked


@pytest.fixture(scope='module')
def filled(open_page, server):
    """The page after everybody in ``scenes`` was added on it."""
    page = open_page(viewport={'width': 1280, 'height': 900})
    page.get_by_text('The gallery is empty').wait_for()
    page.get_by_role('button', name='Add pictures').click()
    page.get_by_label('Folders on this machine').click()
    page.get_by_role('option').first.click()
    page.keyboard.press('Escape')
    page.get_by_label('Camera', exact=True).fill('north')
    page.get_by_role('button', name='Start').click()
    page.get_by_text(re.compile(r'3 of 3 frames, \d+ persons; done')).wait_for()
    page.get_by_role('button', name='Close').click()
    page.get_by_text(re.compile(r'gallery\.db · persons: \d+ · pictures and videos: 3')).wait_for()
    return page
