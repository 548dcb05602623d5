"""The search of one user: means, order, marks, times, and the files that it exports."""

import csv
import io
import json
import zipfile
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from mmps.page.export import to_csv, to_json, to_zip
from mmps.page.results import Filters, Person, Search, drawn_box, find_person, read_time, say_time, short_name
from mmps.page.timeline import draw_timeline


def test_several_photographs_ask_for_their_mean():
    search = Search()
    for row, together in ((0, False), (1, True)):
        search.choose(Person('0', 'a', 0, (0, 0, 1, 1), None, np.eye(3, dtype=np.float32)[row]), together)
    np.testing.assert_allclose(search.embedding(), np.array([1, 1, 0]) / np.sqrt(2), atol=1e-6)
    search.choose(Person('0', 'a', 0, (0, 0, 1, 1), None, np.eye(3, dtype=np.float32)[2]), together=False)
    np.testing.assert_allclose(search.embedding(), [0, 0, 1])


def test_matches_are_ordered_and_keep_their_rank(search):
    search.filters.sort = 'time'
    search.show(search.matches)
    assert [match.sighting.time for match in search.matches] == [10, 20, 30]
    assert [each['rank'] for each in search.found()['matches']] == [2, 3, 1]
    where = Filters(cameras=['north'], since=5, until=9).where()
    assert where.expression() == 'camera in ["north"] and until >= 5.0 and since <= 9.0'


def test_marks_stay_with_their_match_until_somebody_else_is_searched(search):
    first, second, _ = (match.sighting for match in search.matches)
    search.mark(first, True)
    search.mark(second, False)
    search.show(reversed(search.matches))
    assert [each['mark'] for each in search.found()['matches']] == ['right', 'wrong', '']
    assert [each['source'] for each in search.found(only_right=True)['matches']] == [first.source]
    search.mark(first, None)
    assert search.marked(first) is None and search.found(only_right=True)['matches'] == []
    search.choose(search.persons[0], together=True)
    assert search.marked(second) is False
    search.choose(search.persons[0], together=False)
    assert search.marked(second) is None


def test_the_files_have_what_was_found(search, pictures, folder):
    search.mark(search.matches[1].sighting, True)
    found = search.found()
    assert json.loads(to_json(found)) == found
    rows = list(csv.DictReader(io.StringIO(to_csv(found).decode())))
    assert [row['mark'] for row in rows] == ['', 'right', ''] and [float(row['similarity']) for row in rows] == [0.9, 0.7, 0.5]
    assert rows[1]['source'] == str(folder / 'b.jpg') and float(rows[1]['width']) == 20
    (folder / 'c.jpg').unlink()
    archive = zipfile.ZipFile(io.BytesIO(to_zip(found, pictures)))
    names = {
        'matches.csv',
        'matches.json',
        'missing.txt',
        *(f'{kind}/00{rank}.jpg' for kind in ('crops', 'scenes') for rank in (1, 2)),
    }
    assert set(archive.namelist()) == names and archive.testzip() is None
    assert 'c.jpg' in archive.read('missing.txt').decode() and archive.read('matches.csv') == to_csv(found)
    scene = cv2.imdecode(np.frombuffer(archive.read('scenes/001.jpg'), np.uint8), cv2.IMREAD_COLOR)
    assert scene.shape == (48, 64, 3)
    crop = cv2.imdecode(np.frombuffer(archive.read('crops/001.jpg'), np.uint8), cv2.IMREAD_COLOR)
    assert 40 <= crop.shape[0] <= 48 and 20 <= crop.shape[1] <= 28


def test_times_are_read_as_they_are_written():
    for seconds, text in ((0, '0:00'), (65, '1:05'), (7265, '2:01:05'), (1.7e9, '2023-11-14 22:13:20')):
        assert say_time(seconds) == text and read_time(text) == seconds
    assert read_time('90') == 90 and read_time(' ') is None and read_time(None) is None
    for text in ('noon', '1:x', '2026-99-99'):
        with pytest.raises(ValueError, match='expected a time like'):
            read_time(text)


def test_a_point_chooses_the_smallest_person_and_a_small_box_is_a_point():
    boxes = [(0, 0, 100, 100), (10, 10, 20, 20)]
    assert find_person(boxes, 15, 15) == 1 and find_person(boxes, 50, 50) == 0 and find_person(boxes, 150, 50) is None
    assert drawn_box((50, 60), (10, -20), (100, 80)) == (10, 0, 40, 60)
    assert drawn_box((90, 70), (500, 500), (100, 80)) == (90, 70, 10, 10)
    assert drawn_box((50, 50), (52, 90), (100, 80)) is None


def test_a_source_is_called_by_its_file_unless_another_has_the_same():
    assert short_name('/x/a/1.jpg', ['/x/a/1.jpg', '/x/b/2.jpg']) == '1.jpg'
    assert short_name('/x/a/1.jpg', ['/x/a/1.jpg', '/x/b/1.jpg']) == 'a/1.jpg'


def test_the_timeline_has_a_row_per_camera_and_a_dot_per_match(search):
    drawing = ElementTree.fromstring(draw_timeline(search.matches))
    dots = {each.get('href'): float(each[0].get('cx')) for each in drawing.iter('a')}
    assert sorted(dots, key=dots.get) == ['#match-1', '#match-2', '#match-0']
    rows = [each.text for each in drawing.iter('text') if each.get('class') == 'camera']
    assert rows == ['no camera', '<b>"south"</b>', 'north']
    assert len({each[0].get('cy') for each in drawing.iter('a')}) == 3
    assert (
        ElementTree.fromstring(draw_timeline([])).tag == 'svg'
        and len(list(ElementTree.fromstring(draw_timeline(search.matches[:1])).iter('a'))) == 1
    )
