"""Reads what MMEngine logged during a training."""

import json
from collections.abc import Iterator
from pathlib import Path


def scalars(work_dir: Path) -> Iterator[dict]:
    """Yields the log entries of every start of the training, in order. A line that a kill cut off is skipped."""
    for path in sorted(Path(work_dir).glob('2*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            if line.endswith('}'):
                yield json.loads(line)


def losses(work_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns the (step, value) pairs of each loss."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in scalars(work_dir):
        for key, value in entry.items():
            if 'loss' in key and 'iter' in entry:
                curves.setdefault(key, []).append((entry['iter'], value))
    return curves


def validations(work_dir: Path) -> list[tuple[float, dict]]:
    """Returns, for each validation, the minutes of training before it and its scores in 0..1 by name, without their prefix.

    Raises:
        ValueError: The folder has no training that was validated.
    """
    minutes, before, found = 0.0, 0, []
    for entry in scalars(work_dir):
        if 'iter' in entry:  # ``time`` is the mean of the steps since the entry before
            minutes += entry['time'] * max(entry['iter'] - before, 0) / 60
            before = entry['iter']
        elif 'search/mAP' in entry:
            found.append((minutes, {name.removeprefix('search/'): value for name, value in entry.items()}))
    if not found:
        raise ValueError(f'{work_dir}: expected the work directory of a training that was validated')
    return found
