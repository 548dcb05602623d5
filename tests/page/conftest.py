"""Galleries, pictures and a search that tests of the page share."""

import cv2
import numpy as np
import pytest

from mmps.apis.sightings import Match, Sighting
from mmps.page.pictures import Pictures
from mmps.page.results import Person, Search


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
