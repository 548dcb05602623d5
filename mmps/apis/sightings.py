"""What a gallery holds and what a search returns."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FIELDS = ('source', 'frame', 'time', 'camera', 'bbox', 'score', 'since', 'until')


@dataclass(frozen=True)
class Sighting:
    """A person in an image or video frame.

    Attributes:
        source: Path or URL of the image or video.
        frame: Number of the frame, from 0; 0 in an image.
        time: Seconds: of the clock if a start was given, else since the first frame; 0 in an image.
        camera: Its name, or ''.
        bbox: x, y, width, height in pixels.
        score: Confidence, 0 to 1.
        embedding: (D,), unit length; not among the results of a search.
        since: Time of the first view of a track. None = ``time``.
        until: Time of its last view. None = ``time``.
    """

    source: str
    frame: int
    time: float
    camera: str
    bbox: tuple[float, float, float, float]
    score: float
    embedding: np.ndarray | None = field(default=None, compare=False)
    since: float | None = None
    until: float | None = None

    def as_row(self) -> dict[str, Any]:
        """Returns the row of a gallery, whose times are given and whose embedding is an array."""
        row = {name: getattr(self, name) for name in FIELDS} | dict(bbox=[float(value) for value in self.bbox])
        times = {name: self.time if row[name] is None else row[name] for name in ('since', 'until')}
        return row | times | dict(embedding=np.asarray(self.embedding, np.float32))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> 'Sighting':
        """Returns the sighting of a row, with its embedding if the row has it."""
        embedding = np.array(row['embedding'], np.float32) if 'embedding' in row else None
        return cls(**{name: row[name] for name in FIELDS} | dict(bbox=tuple(row['bbox']), embedding=embedding))


@dataclass(frozen=True)
class Match:
    """A sighting and its similarity to the query, -1 to 1."""

    similarity: float
    sighting: Sighting


def as_dict(rank: int, match: Match) -> dict[str, Any]:
    """Returns a match as plain values."""
    sighting = {name: getattr(match.sighting, name) for name in FIELDS}
    return dict(rank=rank, similarity=match.similarity, **sighting | dict(bbox=list(match.sighting.bbox)))


@dataclass(frozen=True)
class Where:
    """Which sightings count. Without arguments all do.

    Args:
        cameras: Names of cameras.
        sources: Names of sources.
        since: Least time, in seconds. A track counts if it ends then or later.
        until: Greatest time. A track counts if it begins then or earlier.
        min_score: Least confidence.
    """

    cameras: Sequence[str] = ()
    sources: Sequence[str] = ()
    since: float | None = None
    until: float | None = None
    min_score: float | None = None

    def expression(self) -> str:
        """Returns the filter in Milvus's language; '' if all sightings count."""
        terms = [
            f'{name} in {quoted(values)}' for name, values in (('camera', self.cameras), ('source', self.sources)) if values
        ]
        for name, sign, value in (('until', '>=', self.since), ('since', '<=', self.until), ('score', '>=', self.min_score)):
            if value is not None:
                terms.append(f'{name} {sign} {float(value)!r}')
        return ' and '.join(terms)


def quoted(value: str | Sequence[str]) -> str:
    """Writes a text, or a list of texts, as Milvus's language does."""
    return json.dumps(value if isinstance(value, str) else list(value), ensure_ascii=False)
