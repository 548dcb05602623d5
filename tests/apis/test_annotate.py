"""The found person is drawn into the video where the gallery has seen them, and between."""

import cv2
import numpy as np
import pytest

from mmps.apis.annotate import GREEN, box_at, draw_video
from mmps.apis.video import UnreadableSourceError, read_frames

SIZE, RATE, COUNT = (160, 120), 10, 30


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'street.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), RATE, SIZE)
    for _ in range(COUNT):
        writer.write(np.full((*SIZE[::-1], 3), 30, np.uint8))
    writer.release()
    return str(path)


def match(source, time, x, similarity=0.9, since=None, until=None):
    since, until = time if since is None else since, time if until is None else until
    return dict(source=source, time=time, bbox=[x, 30.0, 40.0, 60.0], similarity=similarity, since=since, until=until)


def left_edge(image):
    """The first column of the green box, or None; text above the box does not count."""
    near = np.abs(image[40:80].astype(int) - GREEN).max(axis=2) < 70
    columns = np.flatnonzero(near.mean(axis=0) > 0.9)
    return int(columns[0]) if len(columns) else None


def test_the_box_moves_between_matches_and_stays_a_little_around_one(video, tmp_path):
    matches = [
        match(video, 101.0, 20.0),
        match(video, 100.0, 0.0),
        match(video, 100.0, 90.0, 0.2),
        match('other.avi', 102, 1.0),
    ]
    out = tmp_path / 'folder' / 'found.mp4'
    draw_video(video, dict(matches=matches), out, interval=1.0, start=100.0)
    frames = list(read_frames(str(out)))
    assert len(frames) == COUNT and [frame.time for frame in frames] == pytest.approx([n / RATE for n in range(COUNT)])
    edges = [left_edge(frame.image) for frame in frames]
    for n in range(2, 11):
        assert edges[n] == pytest.approx(2 * n, abs=2)
    assert all(edge == pytest.approx(20, abs=2) for edge in edges[10:16]) and edges[16:] == [None] * 14


def test_a_track_without_a_known_box_is_said_in_the_corner(video, tmp_path):
    draw_video(video, dict(matches=[match(video, 0.0, 60.0, since=0.0, until=1.0)]), tmp_path / 'found.mp4')
    frames = [frame.image for frame in read_frames(str(tmp_path / 'found.mp4'))]
    written = [bool(np.abs(image[8:28, 4:90].astype(int) - 30).max() > 60) for image in frames]
    assert written[3:11] == [True] * 8 and not any(written[11:]) and left_edge(frames[5]) is None


def test_a_file_is_there_when_it_is_whole(video, tmp_path, monkeypatch):
    out = tmp_path / 'found.mp4'
    out.write_bytes(b'the old one')
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr('mmps.apis.annotate.draw_match', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        draw_video(video, dict(matches=[]), out)
    assert out.read_bytes() == b'the old one' and sorted(tmp_path.iterdir()) == [out, tmp_path / 'street.avi']
    draw_video(video, dict(matches=[]), out)
    assert len(list(read_frames(str(out)))) == COUNT


def test_wrong_arguments_are_refused_in_one_line(video, tmp_path):
    with pytest.raises(ValueError, match=r'found\.avi: expected a file name that ends in \.mp4'):
        draw_video(video, dict(matches=[]), tmp_path / 'found.avi')
    with pytest.raises(UnreadableSourceError, match=r'nothing\.mp4: no video, or one without frames'):
        draw_video(str(tmp_path / 'nothing.mp4'), dict(matches=[]), tmp_path / 'found.mp4')


def test_far_apart_matches_are_not_joined():
    times, boxes = np.array([0.0, 5.0]), np.array([[0.0, 0, 10, 10], [50, 0, 10, 10]])
    assert box_at(times, boxes, 2.5, gap=2, hold=0.5) is None
    np.testing.assert_allclose(box_at(times, boxes, 2.5, gap=5, hold=0.5), [25, 0, 10, 10])
    np.testing.assert_allclose(box_at(times, boxes, 5.5, gap=2, hold=0.5), [50, 0, 10, 10])
    np.testing.assert_allclose(box_at(times, boxes, 0.0, gap=5, hold=0.0), [0, 0, 10, 10])
