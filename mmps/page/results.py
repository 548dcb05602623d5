"""What was asked and what was found: filters, order, marks, and their words on the page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from mmps.apis.sightings import Match, Sighting, Where, as_dict
from mmps.apis.video import is_video

from .pictures import Box

CLOCK_FROM = 10**8  # seconds: a greater time is one of the clock, since 1970


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody in a scene who can be searched for.

    Attributes:
        picture: Key of the scene.
        source: The scene's name.
        frame: Number of the frame.
        bbox: x, y, width, height in pixels.
        score: Confidence, or None for a box that was drawn.
        embedding: (D,), unit length.
    """

    picture: str
    source: str
    frame: int
    bbox: Box
    score: float | None
    embedding: np.ndarray


@dataclass
class Filters:
    """Which matches are shown, and in which order. The fields are those of a search; ``sort`` is 'similarity' or 'time'."""

    cameras: Sequence[str] = ()
    since: float | None = None
    until: float | None = None
    min_similarity: float = 0.0
    topk: int = 20
    best_of: str | None = None
    sort: str = 'similarity'

    def where(self) -> Where:
        return Where(cameras=tuple(self.cameras), since=self.since, until=self.until)


@dataclass
class Search:
    """One user's search: the photographs of the person, the matches, and which of them are right or wrong."""

    persons: list[Person] = field(default_factory=list)
    filters: Filters = field(default_factory=Filters)
    matches: list[Match] = field(default_factory=list)
    marks: dict[tuple[Any, ...], bool] = field(default_factory=dict)

    def choose(self, person: Person, together: bool) -> None:
        """Searches for a person: alone, or ``together`` with the photographs that are there. Alone, all marks are lifted."""
        if not together:
            self.persons.clear()
            self.marks.clear()
        self.persons.append(person)

    def embedding(self) -> np.ndarray:
        """Returns the mean embedding of the photographs, (D,), unit length."""
        mean = np.mean([person.embedding for person in self.persons], axis=0)
        return mean / np.linalg.norm(mean)

    def show(self, matches: Iterable[Match]) -> None:
        """Takes the matches of a search in the order of the filters."""
        keys = {'similarity': lambda match: -match.similarity, 'time': lambda match: (match.sighting.time, -match.similarity)}
        self.matches = sorted(matches, key=keys[self.filters.sort])

    def mark(self, sighting: Sighting, right: bool | None) -> None:
        """Marks a match as right or wrong, or lifts its mark."""
        if right is None:
            self.marks.pop(_identity(sighting), None)
        else:
            self.marks[_identity(sighting)] = right

    def marked(self, sighting: Sighting) -> bool | None:
        """Returns a match's mark."""
        return self.marks.get(_identity(sighting))

    def found(self, only_right: bool = False) -> dict[str, Any]:
        """Returns the search as plain values, as :class:`PersonSearchInferencer` does; each match has a ``mark`` as well."""
        ranks = {id(match): rank for rank, match in enumerate(sorted(self.matches, key=lambda m: -m.similarity), 1)}
        words = {None: '', True: 'right', False: 'wrong'}
        return dict(
            query=dict(
                images=[each.source for each in self.persons],
                frames=[each.frame for each in self.persons],
                bboxes=[list(each.bbox) for each in self.persons],
            ),
            matches=[
                as_dict(ranks[id(match)], match) | dict(mark=words[self.marked(match.sighting)])
                for match in self.matches
                if not only_right or self.marked(match.sighting)
            ],
        )


def _identity(sighting: Sighting) -> tuple[Any, ...]:
    return sighting.source, sighting.frame, sighting.bbox


def say_time(seconds: float) -> str:
    """Writes a time: 1:05, 2:01:05, or a date in UTC if it is one of the clock."""
    if seconds >= CLOCK_FROM:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime('%Y-%m-%d %H:%M:%S')
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'


def say_place(sighting: Sighting) -> str:
    """Writes where and when somebody was seen. A photograph at second 0 has no time."""
    has_time = is_video(sighting.source) or sighting.time != 0
    return (sighting.camera or 'no camera') + (f' · {say_time(sighting.time)}' if has_time else '')


def read_time(text: str | None) -> float | None:
    """Reads what :func:`say_time` writes, or seconds; None if there is nothing.

    Raises:
        ValueError: It is neither.
    """
    text = (text or '').strip()
    if not text:
        return None
    try:
        if '-' in text[1:]:
            return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()
        total = 0.0
        for part in text.split(':'):
            total = 60 * total + float(part)
    except ValueError as error:
        raise ValueError(f'{text}: expected a time like 90, 1:30, 2:01:30 or 2026-05-01 12:00') from error
    return total


def short_name(source: str, others: Iterable[str] = ()) -> str:
    """Returns a source's file name, with its folder if another source is called the same."""
    path = Path(source)
    is_alone = all(Path(other).name != path.name or other == source for other in others)
    return path.name if is_alone else f'{path.parent.name}/{path.name}'


def find_person(boxes: Sequence[Box], x: float, y: float) -> int | None:
    """Returns the number of the smallest box that a point lies in; None if it lies in none."""
    inside = [
        (width * height, number)
        for number, (left, top, width, height) in enumerate(boxes)
        if left <= x <= left + width and top <= y <= top + height
    ]
    return min(inside)[1] if inside else None


def drawn_box(start: tuple[float, float], end: tuple[float, float], size: tuple[int, int], least: float = 8) -> Box | None:
    """Returns the box between two corners, cut to a picture of ``size`` (width, height); None if a side is below ``least``."""
    (x1, x2), (y1, y2) = (sorted(float(np.clip(corner[axis], 0, size[axis])) for corner in (start, end)) for axis in (0, 1))
    return (x1, y1, x2 - x1, y2 - y1) if min(x2 - x1, y2 - y1) >= least else None
