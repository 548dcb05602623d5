"""Draws the person who was found into the video.

T matches of a video, in the order of their times.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmps.fileio.atomic import write_atomic

from .appearances import default_gap
from .video import UnreadableSourceError, open_video, read_frames

GREEN = (60, 200, 60)  # BGR
SHORTEST_HOLD = 0.2  # seconds
USUAL_RATE = 25.0  # frames a second, where a video does not say


def draw_video(source: str, prediction: Mapping[str, Any], out: str | Path, interval: float = 0.0, start: float = 0.0) -> None:
    """Writes a video with the found person's box and similarity in it. It has the source's frames, and no sound.

    Between two matches that are close in time the box is interpolated. Around a single one it stays for half an interval. While
    a track lasts and its box is not known, only the similarity is in the corner. Of several matches in a frame the best counts.

    Args:
        source: A video that was indexed.
        prediction: Of one query, from a :class:`PersonSearchInferencer`.
        out: The file, NAME.mp4. It is there when it is whole.
        interval: Seconds between two frames that were indexed.
        start: Time of the video's first frame, as it was indexed.

    Raises:
        ValueError: ``out`` does not end in .mp4.
        UnreadableSourceError: The video cannot be read.
        OSError: The file cannot be written.
    """
    if Path(out).suffix != '.mp4':
        raise ValueError(f'{out}: expected a file name that ends in .mp4')
    matches = best_of_each_time([each for each in prediction['matches'] if each['source'] == source])
    video = open_video(source)
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    rate = rate if 1 <= rate <= 240 else USUAL_RATE
    with tempfile.TemporaryDirectory() as folder:
        whole, writer, written = Path(folder, 'whole.mp4'), None, 0
        for frame in read_frames(source):
            draw_match(frame.image, matches, start + frame.time, default_gap(interval), max(interval / 2, SHORTEST_HOLD))
            if writer is None:
                writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*'mp4v'), rate, frame.image.shape[1::-1])
            # The file has a constant rate. A source's frames may be nearer together, or further apart.
            while written <= frame.time * rate + 0.5:
                writer.write(frame.image)
                written += 1
        if writer is None:
            raise UnreadableSourceError(f'{source}: no frame')
        writer.release()
        if not whole.exists():
            raise OSError(f'{out}: OpenCV cannot write such a video')
        with open(whole, 'rb') as file, write_atomic(out) as target:
            shutil.copyfileobj(file, target)


def best_of_each_time(matches: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the matches in the order of their times, of each time the most similar one."""
    best: dict[float, Mapping[str, Any]] = {}
    for each in sorted(matches, key=lambda each: each['similarity']):
        best[each['time']] = each
    return [best[time] for time in sorted(best)]


def draw_match(image: np.ndarray, matches: Sequence[Mapping[str, Any]], time: float, gap: float, hold: float) -> None:
    """Draws into a frame what is known of the person at that time."""
    if not matches:
        return
    times = np.array([each['time'] for each in matches])
    boxes = np.array([each['bbox'] for each in matches])
    nearest = matches[int(np.abs(times - time).argmin())]
    box = box_at(times, boxes, time, gap, hold)
    if box is not None:
        x, y, width, height = box.round().astype(int).tolist()
        cv2.rectangle(image, (x, y), (x + width, y + height), GREEN, 2)
        write_text(image, f'{nearest["similarity"]:.2f}', (x, max(y - 6, 16)))
    elif lasting := [each for each in matches if each['since'] <= time <= each['until']]:
        write_text(image, f'{max(each["similarity"] for each in lasting):.2f} in view', (8, 24))


def box_at(times: np.ndarray, boxes: np.ndarray, time: float, gap: float, hold: float) -> np.ndarray | None:
    """Returns the box (4,) at a time, or None where it is not known.

    Args:
        times: (T,), ascending.
        boxes: (T, 4).
        time: The time.
        gap: Boxes that are at most so far apart in time are interpolated.
        hold: Seconds for which the box of a single match stays, before and after it.
    """
    after = int(np.searchsorted(times, time))
    if 0 < after < len(times) and times[after] - times[after - 1] <= gap:
        share = (time - times[after - 1]) / (times[after] - times[after - 1])
        return (1 - share) * boxes[after - 1] + share * boxes[after]
    nearest = int(np.abs(times - time).argmin())
    return boxes[nearest] if abs(times[nearest] - time) <= hold + 1e-6 else None


def write_text(image: np.ndarray, text: str, place: tuple[int, int]) -> None:
    for colour, thickness in (((0, 0, 0), 4), (GREEN, 1)):
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
