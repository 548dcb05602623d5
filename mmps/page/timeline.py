"""Draws when each camera saw the person, as SVG."""

from collections.abc import Sequence
from html import escape

import numpy as np

from mmps.apis.sightings import Match

from .results import say_time

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 720, 110, 24, 8, 26, 24  # of the drawing, in its own units
TICKS = 5


def draw_timeline(matches: Sequence[Match]) -> str:
    """Returns a drawing with a row per camera and a dot per match, the more similar the darker. A dot leads to ``#match-N``.

    Args:
        matches: In the order in which the page shows them; N counts them from 0.
    """
    cameras = sorted({match.sighting.camera for match in matches})
    times = [match.sighting.time for match in matches]
    first, last = min(times, default=0.0), max(times, default=0.0)
    span = last - first or 1.0
    height = TOP + ROW * len(cameras) + BOTTOM
    rows = {camera: TOP + ROW * (number + 0.5) for number, camera in enumerate(cameras)}

    def across(time: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (time - first) / span

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="group" aria-label="When each camera saw the person">']
    for camera, y in rows.items():
        parts.append(f'<text x="{LEFT - 14}" y="{y + 4}" class="camera">{escape(camera or "no camera")[:60]}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
    for time in sorted({*np.linspace(first, last, TICKS)}):
        parts.append(f'<text x="{across(time):.1f}" y="{height - 6}" class="tick">{say_time(time)}</text>')
    for number, match in sorted(enumerate(matches), key=lambda item: item[1].similarity):
        seen = match.sighting
        words = f'{say_time(seen.time)}, {seen.camera or "no camera"}, similarity {match.similarity:.2f}'
        opacity = 0.25 + 0.75 * float(np.clip(match.similarity, 0, 1)) ** 2
        parts.append(
            f'<a href="#match-{number}" aria-label="{escape(words)}"><circle cx="{across(seen.time):.1f}" '
            f'cy="{rows[seen.camera]}" r="7" fill-opacity="{opacity:.2f}"><title>{escape(words)}</title></circle></a>'
        )
    return ''.join([*parts, '</svg>'])
