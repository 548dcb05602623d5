"""Images and videos as one stream of frames."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import mmcv
import numpy as np

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.ts')


class UnreadableSourceError(OSError):
    """An image or video cannot be read."""


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


def read_frames(source: str, first: int = 0, stride: int = 1) -> Iterator[Frame]:
    """Reads an image, or every ``stride``-th frame of a video from the frame ``first`` on.

    Frames in between are skipped without decoding. A video that ends too early ends the stream; what was read counts.

    Raises:
        UnreadableSourceError: There is no frame that can be read.
    """
    if not is_video(source):
        yield Frame(source, 0, 0.0, read_image(source), is_last=True)
        return
    held = None  # the latest frame, until it is known whether another follows
    for frame in _decode(source, first, stride):
        if held is not None:
            yield held
        held = frame
    if held is not None:
        yield replace(held, is_last=True)


def _decode(source: str, first: int, stride: int) -> Iterator[Frame]:
    """Yields the frames of a video."""
    video = cv2.VideoCapture(source)
    number = 0
    try:
        while video.grab():
            if number >= first and number % stride == 0:
                time = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
                done, image = video.retrieve()
                if not done:
                    break
                yield Frame(source, number, time, image)
            number += 1
    finally:
        video.release()
    if number == 0:
        raise UnreadableSourceError(f'{source}: no video, or one without frames')


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
