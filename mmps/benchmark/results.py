"""The results of a benchmark as data: ``results.csv``, one row per run, and ``queries.npz``, the AP of each run's queries.

Tables, intervals and charts are made from these two files alone.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from mmps.fileio.arrays import open_npz, read_array
from mmps.fileio.atomic import write_atomic

RunKey = tuple[str, str, str, int]  # student, method, teacher, seed


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        method: '' for a teacher.
        teacher: '' without one.
        mAP, top_1, det_AP: In 0..1; None if the network has no such score.
        minutes: Duration of the training.
        step_seconds: Median seconds per training step.
        image_ms: Milliseconds per image in the test.
        parameters: Number of parameters of the tested network.
        loss: The last loss that was logged.
        full_set_mAP: mAP of a search in all scenes, in 0..1; None if the test has none.
        validation_mAP: mAP of the queries that choose the weights, in 0..1; None without such queries.
        config: First digits of the SHA-256 of the training config.
        mmps, torch, mmdet: Versions.
        commit: Of mmps; ends in '+' if files differed from it. '' outside of a repository.
        date: Day of the test, YYYY-MM-DD.
    """

    student: str
    method: str
    teacher: str
    seed: int
    mAP: float | None
    top_1: float | None
    det_AP: float | None
    minutes: float
    step_seconds: float | None
    image_ms: float
    parameters: int
    loss: float | None
    validation_mAP: float | None = None
    full_set_mAP: float | None = None
    config: str = ''
    mmps: str = ''
    torch: str = ''
    mmdet: str = ''
    commit: str = ''
    date: str = ''

    @property
    def scores(self) -> dict[str, float | None]:
        return {'mAP': self.mAP, 'full set': self.full_set_mAP, 'top-1': self.top_1, 'det AP': self.det_AP}


@dataclass(frozen=True, eq=False)
class Entry:
    """What is known about a run of a matrix, whether it is finished or not.

    Attributes:
        matrix: Name of the matrix.
        role: 'teacher'; 'given boxes', a teacher that is no detector; 'reference', the plain student that gains are measured
            against; 'student'; or 'tuning', a student with a factor that was not chosen.
        bold: Whether tables show its method in bold.
        scale: Factor of the method's published loss weights.
        status: 'finished', 'failed' or 'missing'.
        log: The training's log, relative to the folder of the runs.
        result: Of a finished run.
        ap: (Q,) float32, the average precision of each test query of a finished run, where the test kept it.
    """

    matrix: str
    role: str
    bold: bool
    scale: float
    key: RunKey
    status: str
    log: str
    result: Result | None = None
    ap: np.ndarray | None = None


KEY = ('student', 'method', 'teacher', 'seed')
COLUMNS = ('matrix', 'role', 'bold', 'scale', 'status', 'log', *(field.name for field in fields(Result)))


def save_entries(folder: Path, entries: Iterable[Entry]) -> None:
    """Writes results.csv and queries.npz; replaces those of an earlier call."""
    entries = list(entries)
    with write_atomic(folder / 'queries.npz') as file:
        arrays = {_array_name(entry.key, entry.scale): entry.ap for entry in entries if entry.ap is not None}
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # NumPy's stub counts ** as its own keyword, too
    with write_atomic(folder / 'results.csv', 'w') as file:
        writer = csv.DictWriter(file, COLUMNS, restval='', lineterminator='\n')
        writer.writeheader()
        for entry in entries:
            known = asdict(entry.result) if entry.result else dict(zip(KEY, entry.key, strict=True))
            about = {name: getattr(entry, name) for name in COLUMNS[:6]} | {'bold': int(entry.bold)}
            writer.writerow(about | {name: '' if value is None else value for name, value in known.items()})


def load_entries(folder: Path) -> list[Entry]:
    """Reads what :func:`save_entries` wrote.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file was not written by :func:`save_entries`.
    """
    path = folder / 'results.csv'
    with open(path, newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    with open_npz(folder / 'queries.npz') as arrays:
        aps = {name: read_array(arrays, name) for name in arrays.files}
    entries = []
    for number, row in enumerate(rows, start=2):
        try:
            key = (row['student'], row['method'], row['teacher'], int(row['seed']))
            result = _parse_result(row) if row['status'] == 'finished' else None
            entries.append(
                Entry(
                    row['matrix'],
                    row['role'],
                    row['bold'] == '1',
                    float(row['scale']),
                    key,
                    row['status'],
                    row['log'],
                    result,
                    aps.get(_array_name(key, float(row['scale']))),
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{path}, line {number}: expected a run as the benchmark writes it: {error!r}') from error
    return entries


def _parse_result(row: Mapping[str, str]) -> Result:
    values: dict[str, Any] = {}
    for name, kind in get_type_hints(Result).items():
        options = get_args(kind) or (kind,)
        values[name] = None if row[name] == '' and type(None) in options else options[0](row[name])
    return Result(**values)


def _array_name(key: RunKey, scale: float) -> str:
    return '|'.join(map(str, (*key, f'x{scale:g}'))).replace('/', ':')  # a slash would be a folder in the npz
