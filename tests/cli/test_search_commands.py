"""The options of ``mmps index``, ``search`` and ``gallery``: what they print, write and exit with."""

import json

import cv2
import pytest

from mmps.cli.main import main

BOX = ('--box', 10, 10, 40, 90)


@pytest.fixture(scope='module')
def scenes(search_files):
    return sorted((search_files / 'tiny/Image/SSM').glob('*.jpg'))[:3]


@pytest.fixture(scope='module')
def video(tmp_path_factory, scenes):
    """Six frames at 4 a second, all of the first scene."""
    path = tmp_path_factory.mktemp('video') / 'street.avi'
    image = cv2.imread(str(scenes[0]))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 4, image.shape[1::-1])
    for _ in range(6):
        writer.write(image)
    writer.release()
    return path


@pytest.fixture
def mmps(search_files, monkeypatch, capsys):
    """mmps(arguments) -> exit status or message, and what was printed."""
    model = ('--model', search_files / 'config.py', '--weights', search_files / 'weights.pth', '--device', 'cpu')

    def call(name, *arguments):
        asked = ('mmps', name, *arguments, *(model if name != 'gallery' else ()))
        monkeypatch.setattr('sys.argv', [str(each) for each in asked])
        try:
            main()
        except SystemExit as stop:
            return stop.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    return call


@pytest.fixture
def gallery(mmps, video, tmp_path):
    assert mmps('index', tmp_path / 'gallery.db', video, '--camera', 'north', '--json')[0] == 0
    return tmp_path / 'gallery.db'


def test_tracks_are_fewer_records_than_persons_in_frames(mmps, gallery, video, scenes, tmp_path):
    persons = json.loads(mmps('gallery', 'info', gallery, '--json')[1])['persons']
    status, printed = mmps('index', tmp_path / 'tracks.db', video, '--tracks', '--json')
    counts = json.loads(printed)
    assert status == 0 and counts['frames'] == 6 and counts['persons'] == persons / 6  # nobody moves
    found = json.loads(mmps('search', tmp_path / 'tracks.db', scenes[0], *BOX, '--json')[1])
    assert {(match['since'], match['until']) for match in found[0]['matches']} == {(0.0, 1.25)}


def test_the_video_of_the_best_match_is_written(mmps, gallery, scenes, tmp_path):
    status, printed = mmps('search', gallery, scenes[0], *BOX, '--video', tmp_path / 'found.mp4', '--json')
    assert status == 0 and json.loads(printed)[0]['matches']
    written = cv2.VideoCapture(str(tmp_path / 'found.mp4'))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    status, _ = mmps('search', gallery, scenes[0], '--video', tmp_path / 'two.mp4')
    assert status.startswith('error: --video: expected one person, got ') and not (tmp_path / 'two.mp4').exists()
    status, _ = mmps('search', gallery, scenes[0], *BOX, '--video', tmp_path / 'found.avi')
    assert status == f'error: {tmp_path}/found.avi: expected a file name that ends in .mp4'
    status, _ = mmps('search', gallery, scenes[0], *BOX, '--cameras', 'south', '--video', tmp_path / 'none.mp4')
    assert status == 'error: --video: there is no match in a video'


def test_one_half_of_a_video_is_searched_for_a_person_of_the_other(mmps, video, tmp_path):
    half, whole = tmp_path / 'half.db', tmp_path / 'found'
    status, printed = mmps('index', half, video, '--until', 0.7, '--json')
    assert status == 0 and json.loads(printed)['frames'] == 3
    status, printed = mmps('search', half, video, '--at', 0.8, *BOX, '--out', whole, '--json')
    (found,) = json.loads(printed)
    assert status == 0 and found['query'] == dict(image=str(video), frame=4, bbox=[10, 10, 40, 90], score=None)
    assert {match['frame'] for match in found['matches']} == {0, 1, 2} and (whole / 'matches.png').exists()
    # The other half instead: with other limits a source is replaced.
    assert json.loads(mmps('index', half, video, '--since', 0.7, '--start', 100, '--json')[1])['frames'] == 3
    found = json.loads(mmps('search', half, video, '--at', 0, *BOX, '--json')[1])[0]
    assert {match['time'] for match in found['matches']} == {100.75, 101.0, 101.25}


def test_several_boxes_of_one_person_are_one_query(mmps, gallery, scenes):
    boxes = (*BOX, '--box', 12, 12, 40, 90)
    each, together = (
        json.loads(mmps('search', gallery, scenes[0], *boxes, *more, '--json')[1]) for more in ((), ('--same-person',))
    )
    assert len(each) == 2 and len(together) == 1 and together[0]['query']['bboxes'] == [[10, 10, 40, 90], [12, 12, 40, 90]]
    assert together[0]['matches'][0]['similarity'] > max(one['matches'][0]['similarity'] for one in each) - 0.1


def test_context_makes_nobody_less_similar(mmps, gallery, scenes):
    plain, context = (json.loads(mmps('search', gallery, scenes[1], *BOX, *more, '--json')[1]) for more in ((), ('--cbgm',)))
    pairs = zip(plain[0]['matches'], context[0]['matches'], strict=True)
    assert all(after['similarity'] >= before['similarity'] - 1e-5 for before, after in pairs)
    status, _ = mmps('search', gallery, scenes[1], '--cbgm', '--best-of', 'source')
    assert status == "error: best_of: expected None with cbgm, got 'source'"


def test_nobody_is_found_in_words_and_in_json(mmps, gallery, scenes):
    assert mmps('search', gallery, scenes[0], *BOX, '--cameras', 'south') == (0, 'nobody found\n')
    assert json.loads(mmps('search', gallery, scenes[0], *BOX, '--cameras', 'south', '--json')[1])[0]['matches'] == []


@pytest.mark.parametrize(
    'arguments, message',
    [
        (('index', 'GALLERY', 'nothing/'), 'nothing/: there is no image or video'),
        (('index', 'GALLERY', 'SCENE', '--stride', 0), 'stride: expected a value above 0, got 0'),
        (('index', 'GALLERY', 'SCENE', '--stride', 2, '--fps', 3), 'expected stride or fps, got stride=2 and fps=3.0'),
        (('search', 'GALLERY', 'nothing.jpg'), 'nothing.jpg: No such file or directory'),
        (('index', 'GALLERY', 'SCENE', '--since', 3, '--until', 2), 'until: expected more than 3.0, got 2.0'),
        (('search', 'GALLERY', 'SCENE', '--topk', 0), 'topk: expected 1 to 16384, got 0'),
        (('search', 'GALLERY', 'SCENE', '--at', 1), 'at: expected a video, got SCENE'),
        (('search', 'GALLERY', 'VIDEO', '--at', 2, *BOX), 'VIDEO: no frame from second 2.0 on'),
        (
            ('search', 'GALLERY', 'SCENE', '--box', 9, 500, 40, 90),
            'SCENE: expected a box x, y, width, height in WIDTH x HEIGHT pixels, got 9 500 40 90',
        ),
        (
            ('gallery', 'index', 'GALLERY', 'HNSW'),
            "GALLERY: expected a server and one of FLAT, HNSW, got 'HNSW'; a file is exact",
        ),
        (('gallery', 'info', 'http://127.0.0.1:9'), 'http://127.0.0.1:9: no Milvus server answers there'),
    ],
)
def test_wrong_input_ends_with_one_line(mmps, gallery, video, scenes, arguments, message):
    height, width = cv2.imread(str(scenes[0])).shape[:2]
    names = {'GALLERY': gallery, 'SCENE': scenes[0], 'VIDEO': video, 'WIDTH': width, 'HEIGHT': height}
    status, printed = mmps(*(names.get(each, each) for each in arguments))
    for name, value in names.items():
        message = message.replace(name, str(value))
    assert (status, printed) == ('error: ' + message, '')


def test_an_unknown_option_exits_with_two(mmps, gallery, scenes):
    assert mmps('search', gallery, scenes[0], '--boxes', 1)[0] == 2


def test_a_search_makes_no_gallery(mmps, scenes, tmp_path):
    status, _ = mmps('search', tmp_path / 'galery.db', scenes[0], *BOX)
    assert status == f'error: {tmp_path}/galery.db: there is no gallery; mmps index makes one'
    assert not (tmp_path / 'galery.db').exists()
