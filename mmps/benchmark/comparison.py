"""Compares the methods of a benchmark: means over seeds, and gains over the plain student with intervals.

S seeds, Q queries.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmps.evaluation import seed_query_interval

from .results import Entry, Result


@dataclass(frozen=True, eq=False)
class Row:
    """A method on a student, under one teacher.

    Attributes:
        runs: Its runs, one per seed, finished or not; at least one.
        plain: The finished runs of the plain student, by seed.
        gap: By how much the mAP of the student's teacher exceeds that of the plain student, in 0..1; None if not known.
    """

    student: str
    method: str
    teacher: str
    runs: Sequence[Entry]
    plain: dict[int, Entry]
    gap: float | None

    @property
    def results(self) -> list[Result]:
        return [run.result for run in self.runs if run.result]

    @property
    def is_reference(self) -> bool:
        return self.runs[0].role == 'reference'

    def scores(self, name: str) -> list[float]:
        """Returns the score 'mAP', 'top-1' or 'det AP' of each finished run that has it."""
        return [score for result in self.results if (score := result.scores[name]) is not None]

    @cached_property
    def gains(self) -> np.ndarray | None:
        """(S, Q): by how much the AP of each query exceeds that of the plain student with the same seed. None without pairs."""
        if self.is_reference:
            return None
        pairs = [
            run.ap - plain.ap
            for run in self.runs
            if (plain := self.plain.get(run.key[3])) and run.ap is not None and plain.ap is not None
        ]
        return np.stack(pairs).astype(float) if pairs else None

    @property
    def gain(self) -> float | None:
        """The mean gain in mAP, in 0..1."""
        return None if self.gains is None else float(self.gains.mean())

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the gain, over queries and, with several seeds, over seeds."""
        return None if self.gains is None else seed_query_interval(self.gains)

    @property
    def may_be_chance(self) -> bool:
        """Whether the interval of the gain includes 0."""
        return self.interval is not None and self.interval[0] <= 0 <= self.interval[1]

    @property
    def gap_closed(self) -> float | None:
        """The gain as a share of the gap between plain student and teacher; None without a gap."""
        return None if self.gain is None or self.gap is None or self.gap <= 0 else self.gain / self.gap


def standard_error(values: Sequence[float]) -> float | None:
    """Returns the standard error of the mean of several values; None for one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def compare(entries: Iterable[Entry]) -> dict[str, list[Row]]:
    """Returns each student's rows, in the order of the entries.

    The gap of a student is that to the first detector among the teachers in its rows.
    """
    entries = list(entries)
    mAP_of_teacher = {entry.key[0]: entry.result.mAP for entry in entries if entry.role == 'teacher' and entry.result}
    groups: dict[str, dict[tuple[str, str], list[Entry]]] = {}
    for entry in entries:
        if entry.role in ('reference', 'student'):
            student, method, teacher, _ = entry.key
            groups.setdefault(student, {}).setdefault((method, teacher), []).append(entry)
    table = {}
    for student, of_student in groups.items():
        plain = {run.key[3]: run for runs in of_student.values() for run in runs if run.role == 'reference' and run.result}
        plain_mAP = [run.result.mAP for run in plain.values() if run.result and run.result.mAP is not None]
        teacher_mAP = mAP_of_teacher.get(next((teacher for _, teacher in of_student if teacher in mAP_of_teacher), ''))
        gap = float(teacher_mAP - np.mean(plain_mAP)) if teacher_mAP is not None and plain_mAP else None
        table[student] = [Row(student, *key, runs, plain, gap) for key, runs in of_student.items()]
    return table
