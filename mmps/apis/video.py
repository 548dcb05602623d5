"""Images and videos as one stream of frames."""

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import cv2
import mmcv
import numpy as np
from mmengine.logging import print_log

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.ts')
TOLERANCE = 0.05  # share of a video's duration that its header may overstate
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # FFmpeg's own lines do not name the file


class UnreadableSourceError(OSError):
    """An image or video cannot be read."""


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are read, and how long a stream may make one wait.

    Args:
        stride: Every n-th frame.
        fps: So many frames a second, by their times, in place of a stride. A video with fewer is read whole.
        timeout: A stream that does not begin, or does not go on, for so many seconds has ended.
        since: Only frames from this second of the video on. None = from its beginning.
        until: Only frames before this second of the video. None = to its end.

    Raises:
        ValueError: A value that is out of range, or a stride together with fps.
    """

    stride: int = 1
    fps: float | None = None
    timeout: float = 30.0
    since: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        for name, value in (('stride', self.stride), ('fps', self.fps), ('timeout', self.timeout)):
            if value is not None and value <= 0:
                raise ValueError(f'{name}: expected a value above 0, got {value}')
        if self.fps is not None and self.stride != 1:
            raise ValueError(f'expected stride or fps, got stride={self.stride} and fps={self.fps}')
        if self.since is not None and self.since < 0:
            raise ValueError(f'since: expected 0 or more, got {self.since}')
        if self.until is not None and self.until <= (self.since or 0):
            raise ValueError(f'until: expected more than {self.since or 0}, got {self.until}')

    def tick(self, number: int, time: float) -> int:
        """Returns a number that is larger than that of the frame read before, if this frame is to be read."""
        return number // self.stride if self.fps is None else int(time * self.fps + 1e-3)

    def interval(self, frame: 'Frame') -> float:
        """Returns the mean seconds between two frames that are read, by the last one; 0 for an image."""
        if not frame.number:
            return 0.0
        every_frame = frame.time / frame.number
        return every_frame * self.stride if self.fps is None else max(every_frame, 1 / self.fps)


EVERY_FRAME = Sampling()


@dataclass(frozen=True, eq=False)
class Frame:
    """One image, or one frame of a video.

    Attributes:
        source: Path or URL.
        number: Number of the frame, from 0; 0 for an image.
        time: Seconds since the first frame; 0 for an image.
        image: uint8 (H, W, 3), BGR.
        is_last: Whether the source ends here.
    """

    source: str
    number: int
    time: float
    image: np.ndarray
    is_last: bool = False


def list_sources(inputs: str | Path | Sequence[str | Path]) -> list[str]:
    """Lists the images and videos that files, folders, patterns and URLs name, each once, in order.

    Raises:
        FileNotFoundError: Nothing is there.
    """
    found: dict[str, None] = {}
    for each in [inputs] if isinstance(inputs, str | Path) else inputs:
        path = Path(each)
        if '://' in str(each) or path.is_file():
            names = [str(each)]
        elif path.is_dir():
            names = sorted(str(file) for file in path.rglob('*') if file.suffix.lower() in IMAGES + VIDEOS)
        else:
            names = sorted(glob.glob(str(each), recursive=True))
        if not names:
            raise FileNotFoundError(f'{each}: there is no image or video')
        found.update(dict.fromkeys(names))
    return list(found)


def is_video(source: str) -> bool:
    """Tells whether a source is a video or a stream."""
    return '://' in source or Path(source).suffix.lower() in VIDEOS


def read_frames(source: str, first: int = 0, sampling: Sampling = EVERY_FRAME) -> Iterator[Frame]:
    """Reads an image, or frames of a video from the frame ``first`` on.

    Frames in between are skipped without decoding. A video that was cut off, and a stream that stalls, end there with a
    warning; what was read counts.

    Raises:
        UnreadableSourceError: There is no frame that can be read, or none in the seconds of ``sampling``.
    """
    if not is_video(source):
        yield Frame(source, 0, 0.0, read_image(source), is_last=True)
        return
    held = None  # the latest frame, until it is known whether another follows
    for frame in _decode(source, first, sampling):
        if held is not None:
            yield held
        held = frame
    if held is not None:
        yield replace(held, is_last=True)
    elif first == 0:
        raise UnreadableSourceError(f'{source}: no frame from second {sampling.since or 0} on')


def _decode(source: str, first: int, sampling: Sampling) -> Iterator[Frame]:
    """Yields the frames of a video."""
    video = open_video(source, sampling.timeout)
    number, tick, waited, time = 0, -1, 0.0, 0.0
    try:
        while True:
            asked = monotonic()
            grabbed = video.grab()
            waited = max(waited, monotonic() - asked)  # after a stall a few frames may still come
            if not grabbed:
                break
            time = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if sampling.until is not None and time >= sampling.until:
                return
            if sampling.tick(number, time) > tick:
                tick = sampling.tick(number, time)
                if number >= first and (sampling.since is None or time >= sampling.since):
                    done, image = video.retrieve()
                    if not done:
                        break
                    yield Frame(source, number, time, image)
            number += 1
        # OpenCV computes the count of some formats from these two; of a stream it is 0 or less.
        duration = video.get(cv2.CAP_PROP_FRAME_COUNT) / max(video.get(cv2.CAP_PROP_FPS), 1)
    finally:
        video.release()
    if number == 0:
        raise UnreadableSourceError(f'{source}: no video, or one without frames')
    if waited >= sampling.timeout:
        print_log(f'{source}: no frame for {waited:.0f} seconds, so it ends at frame {number}', 'current', logging.WARNING)
    elif duration - time > 1 + TOLERANCE * duration:
        message = f'{source}: cut off after {time:.1f} of {duration:.1f} seconds; these are used'
        print_log(message, 'current', logging.WARNING)


def open_video(source: str, timeout: float = 30.0) -> cv2.VideoCapture:
    """Opens a video, or a stream that begins and goes on within ``timeout`` seconds."""
    if '://' not in source:
        return cv2.VideoCapture(source)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
    return cv2.VideoCapture(source, cv2.CAP_FFMPEG, [number for each in limits for number in (each, round(timeout * 1000))])


def count_frames(source: str) -> int:
    """Returns the number of frames as a video's header tells it, 1 for an image, 0 where it is not known."""
    if not is_video(source):
        return 1
    video = cv2.VideoCapture(source)
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    return max(count, 0)


def read_frame(source: str, number: int = 0) -> np.ndarray:
    """Returns one frame of a video, uint8 (H, W, 3), BGR, or an image.

    Raises:
        UnreadableSourceError: It cannot be read.
    """
    if not is_video(source):
        return read_image(source)
    video = cv2.VideoCapture(source)
    video.set(cv2.CAP_PROP_POS_FRAMES, number)
    done, image = video.read()
    video.release()
    if not done:
        raise UnreadableSourceError(f'{source}: frame {number} cannot be read')
    return image


def read_image(path: str) -> np.ndarray:
    """Reads an image as a test does: uint8 (H, W, 3), BGR, turned as its EXIF data say.

    Raises:
        UnreadableSourceError: It is no image.
    """
    try:
        image = mmcv.imread(path, flag='color', backend='cv2')
    except OSError as error:
        raise UnreadableSourceError(f'{path}: {error.strerror}') from error
    if image is None:
        raise UnreadableSourceError(f'{path}: no image')
    return image
