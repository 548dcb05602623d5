"""Frames of videos and streams: the right ones, with the right times, whatever happens to the source."""

import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from mmps.apis import video
from mmps.apis.video import Sampling, UnreadableSourceError, read_frames

SIZE = (96, 64)


@pytest.fixture
def said(monkeypatch):
    """The messages that reading logs."""
    messages = []
    monkeypatch.setattr(video, 'print_log', lambda message, *_: messages.append(message))
    return messages


def write_video(path, count, rate=10, codec='MJPG'):
    """Writes frames whose grey value is 10 times their number, modulo 256."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, SIZE)
    for number in range(count):
        writer.write(np.full((*SIZE[::-1], 3), 10 * number % 256, np.uint8))
    writer.release()
    return str(path)


def numbers(frames):
    return [frame.number for frame in frames]


@pytest.mark.parametrize('fps, expected', [(5, range(0, 24, 2)), (10, range(24)), (25, range(24)), (2.5, range(0, 24, 4))])
def test_so_many_frames_a_second(tmp_path, fps, expected):
    frames = list(read_frames(write_video(tmp_path / 'a.avi', 24), sampling=Sampling(fps=fps)))
    assert numbers(frames) == list(expected)
    assert [frame.time for frame in frames] == pytest.approx([number / 10 for number in expected])
    assert [frame.is_last for frame in frames] == [False] * (len(frames) - 1) + [True]


def test_going_on_within_a_video_reads_the_frames_that_are_left(tmp_path):
    source = write_video(tmp_path / 'a.avi', 24)
    for sampling in (Sampling(), Sampling(stride=5), Sampling(fps=3), Sampling(fps=7)):
        whole = numbers(read_frames(source, 0, sampling))
        for first in (1, 7, 23):
            assert numbers(read_frames(source, first, sampling)) == [number for number in whole if number >= first]
        assert numbers(read_frames(source, 24, sampling)) == []


def test_two_halves_of_a_video_are_the_whole(tmp_path, said):
    source = write_video(tmp_path / 'a.avi', 24)
    for sampling in (dict(), dict(stride=5), dict(fps=3)):
        first, second = (list(read_frames(source, 0, Sampling(**sampling, **half))) for half in (dict(until=1), dict(since=1)))
        assert numbers(first) + numbers(second) == numbers(read_frames(source, 0, Sampling(**sampling)))
        assert all(frame.time < 1 for frame in first) and all(frame.time >= 1 for frame in second)
        assert [frame.is_last for frame in first] == [False] * (len(first) - 1) + [True]
    assert numbers(read_frames(source, 15, Sampling(since=1, until=1.8))) == [15, 16, 17]
    assert not said  # nothing was cut off
    with pytest.raises(UnreadableSourceError, match=f'^{source}: no frame from second 2.4 on$'):
        next(read_frames(source, 0, Sampling(since=2.4)))


def test_the_times_of_a_variable_rate_are_the_videos_own(tmp_path, said):
    times = [0, 40, 80, 500, 540, 1500, 1540, 3000]  # milliseconds
    _, jpeg = cv2.imencode('.jpg', np.full((*SIZE[::-1], 3), 100, np.uint8))
    as_given = [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1]  # encoded frames, each with its time
    path = str(tmp_path / 'a.mkv')
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*'MJPG'), 1000, SIZE, as_given)
    for time in times:
        writer.set(cv2.VIDEOWRITER_PROP_PTS, time)
        writer.write(jpeg.reshape(1, -1))
    writer.release()
    assert [frame.time for frame in read_frames(path)] == pytest.approx([time / 1000 for time in times])
    assert not said
    assert numbers(read_frames(path, sampling=Sampling(fps=2))) == [0, 3, 5, 7]


def test_a_video_that_was_cut_off_is_used_to_its_end_and_named(tmp_path, said):
    source = tmp_path / 'cut.avi'
    whole = write_video(tmp_path / 'whole.avi', 60)
    source.write_bytes((tmp_path / 'whole.avi').read_bytes()[: (tmp_path / 'whole.avi').stat().st_size // 2])
    found = numbers(read_frames(str(source)))
    assert found == list(range(len(found))) and 15 < len(found) < 45
    (warning,) = said
    assert warning == f'{source}: cut off after {(len(found) - 1) / 10:.1f} of 6.0 seconds; these are used'
    said.clear()
    assert len(numbers(read_frames(whole))) == 60 and not said


@pytest.mark.parametrize('content', [b'', b'no video', b'\0' * 5000])
def test_what_is_no_video_is_refused_in_one_line(tmp_path, capfd, content):
    source = tmp_path / 'a.mp4'
    source.write_bytes(content)
    with pytest.raises(UnreadableSourceError, match=f'^{source}: no video, or one without frames$'):
        list(read_frames(str(source)))
    assert 'moov' not in capfd.readouterr().err


@pytest.fixture
def serve():
    """serve(handler) -> host:port of an HTTP server."""
    servers = []

    def start(handler):
        servers.append(ThreadingHTTPServer(('127.0.0.1', 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f'127.0.0.1:{servers[-1].server_port}'

    yield start
    for each in servers:
        each.shutdown()
        each.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_a_stream_is_read_to_its_end(tmp_path, serve):
    write_video(tmp_path / 'a.avi', 12)
    address = serve(partial(Quiet, directory=str(tmp_path)))
    frames = list(read_frames(f'http://{address}/a.avi', sampling=Sampling(stride=3)))
    assert numbers(frames) == [0, 3, 6, 9] and frames[-1].is_last
    assert frames[2].image.mean() == pytest.approx(60, abs=4)
    with pytest.raises(UnreadableSourceError, match='no video, or one without frames'):
        list(read_frames(f'http://{address}/nothing.avi'))


def test_a_stream_that_stalls_ends_after_the_timeout(tmp_path, serve, said):
    write_video(tmp_path / 'a.ts', 60, codec='mp4v')
    data = (tmp_path / 'a.ts').read_bytes()
    stop = threading.Event()

    class Stalling(Quiet):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Type', 'video/mp2t')
            self.end_headers()
            self.wfile.write(data)
            stop.wait(30)  # the connection stays open

    source = f'http://{serve(Stalling)}/live.ts'
    frames = list(read_frames(source, sampling=Sampling(timeout=2)))
    stop.set()
    assert len(frames) > 40 and frames[-1].is_last
    assert [message.startswith(f'{source}: no frame for ') for message in said] == [True]


def test_nobody_answers(tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as server:  # accepts, and says nothing
        source = f'http://127.0.0.1:{server.getsockname()[1]}/live.ts'
        with pytest.raises(UnreadableSourceError, match='no video, or one without frames'):
            list(read_frames(source, sampling=Sampling(timeout=1)))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(stride=0), 'stride: expected a value above 0, got 0'),
        (dict(fps=-1), 'fps: expected a value above 0, got -1'),
        (dict(timeout=0), 'timeout: expected a value above 0, got 0'),
        (dict(stride=2, fps=3), 'expected stride or fps, got stride=2 and fps=3'),
        (dict(since=-1), 'since: expected 0 or more, got -1'),
        (dict(since=2, until=2), 'until: expected more than 2, got 2'),
    ],
)
def test_a_sampling_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**arguments)
