"""When a person was seen: matches joined to spans of time."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

GAP, INTERVALS = 2.0, 3  # seconds; intervals between two frames that were indexed


def default_gap(interval: float) -> float:
    """Returns the gap, in seconds, for a source of which a frame was indexed every ``interval`` seconds.

    A person who is not found in two of these frames, or for two seconds, has not left.
    """
    return max(GAP, INTERVALS * interval)


def appearances(matches: Sequence[Mapping[str, Any]], gap: float | Mapping[str, float] = GAP) -> list[dict[str, Any]]:
    """Joins the matches of one query to the spans of time in which the person appears.

    Args:
        matches: From a :class:`PersonSearchInferencer`. All count: ask it for enough of them (``topk``), and for similar ones
            only (``min_similarity``).
        gap: Matches of a source further apart than so many seconds begin another span. A dict has it for each source.

    Returns:
        For each span ``camera``, ``source``, ``since`` and ``until`` in seconds, the number of ``matches``, and ``rank`` and
        ``similarity`` of the best one. In the order of camera, source and time.
    """

    def place(match: Mapping[str, Any]) -> tuple[str, str]:
        return match['camera'], match['source']

    spans = []
    for (camera, source), group in groupby(sorted(matches, key=lambda each: (*place(each), each['since'])), place):
        limit = gap[source] if isinstance(gap, Mapping) else gap
        joined: list[list[Mapping[str, Any]]] = []
        until = 0.0
        for match in group:
            if joined and match['since'] - until <= limit:
                joined[-1].append(match)
                until = max(until, match['until'])
            else:
                joined.append([match])
                until = match['until']
        for part in joined:
            best = min(part, key=lambda each: each['rank'])
            spans.append(
                dict(
                    camera=camera,
                    source=source,
                    since=part[0]['since'],
                    until=max(each['until'] for each in part),
                    matches=len(part),
                    rank=best['rank'],
                    similarity=best['similarity'],
                )
            )
    return spans
