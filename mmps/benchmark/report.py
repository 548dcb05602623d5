"""Writes the tables and charts of a benchmark's results."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from mmps.evaluation.tables import markdown_table
from mmps.fileio.atomic import write_atomic
from mmps.visualization import draw_accuracy, draw_gains, write_picture

from .matrix import Matrix, is_detector

COLUMNS = ['method', 'teacher', 'mAP', 'gain', 'over teacher', 'top-1', 'det AP', 'minutes', 's / step']


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

    @property
    def scores(self) -> dict[str, float | None]:
        return {'mAP': self.mAP, 'top-1': self.top_1, 'det AP': self.det_AP}


RunKey = tuple[str, str, str, int]  # student, method, teacher, seed


def write_results(out: Path, matrix: Matrix, results: Sequence[Result], failed: Iterable[RunKey] = ()) -> None:
    """Writes results.csv, results.md, gain.png and accuracy.png; replaces those of an earlier call.

    Args:
        failed: The runs that failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (('csv', csv_table(results, failed)), ('md', markdown_report(matrix, results, failed))):
        with write_atomic(out / f'results.{name}', 'w') as file:
            file.write(text)
    gains = gains_by_student(matrix, results)
    if gains:
        write_picture(out / 'gain.png', draw_gains(gains, seed_deviation(matrix, results)))
    sizes, scores = accuracy_and_size(matrix, results)
    if scores:
        write_picture(out / 'accuracy.png', draw_accuracy(sizes, scores))


def csv_table(results: Sequence[Result], failed: Iterable[RunKey]) -> str:
    """Returns a table with one row per run."""
    names = [field.name for field in fields(Result)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([*names, 'status'])
    writer.writerows([*astuple(result), 'finished'] for result in results)
    writer.writerows([*key, *[''] * (len(names) - len(key)), 'failed'] for key in failed)
    return text.getvalue()


def markdown_report(matrix: Matrix, results: Sequence[Result], failed: Iterable[RunKey]) -> str:
    """Returns a table of the teachers and one for each student; scores in per cent."""
    parts = [f'# {matrix.name}']
    of_teachers = {result.student: result for result in results if not result.method}
    failed_keys = list(failed)
    if matrix.teachers:
        rows = [teacher_row(name, of_teachers.get(name), (name, '', '', 0) in failed_keys) for name in matrix.teachers]
        parts += [
            '## Teachers',
            markdown_table(['', 'mAP', 'top-1', 'det AP', 'parameters', 'ms / image', 'minutes', 's / step'], rows),
        ]
    for name, student in matrix.students.items():
        of_student = [result for result in results if result.method and result.student == name]
        rows = [
            method_row(
                matrix,
                method.name,
                teacher.name if teacher else '',
                of_student,
                of_teachers,
                [key for key in failed_keys if key[0] == name],
            )
            for method in matrix.methods.values()
            for teacher in matrix.teachers_of(student, method)
        ]
        size = (
            f' ({of_student[0].parameters / 1e6:.2f} M parameters, '
            f'{np.mean([each.image_ms for each in of_student]):.0f} ms / image)'
            if of_student
            else ''
        )
        parts += [f'## {name}{size}', markdown_table(COLUMNS, rows)]
    parts.append(
        'Scores in per cent; mean ± standard deviation (number of seeds). Gain: mAP over the plain student with the '
        'same seed. Minutes and seconds a step are of training.'
    )
    return '\n\n'.join(parts) + '\n'


def teacher_row(name: str, result: Result | None, is_failed: bool) -> list[str]:
    if result is None:
        return [name, 'failed' if is_failed else '', *[''] * 6]
    return [
        name,
        *(format_percent([score]) for score in result.scores.values()),
        f'{result.parameters / 1e6:.2f} M',
        f'{result.image_ms:.0f}',
        f'{result.minutes:.1f}' if result.minutes else '',
        f'{result.step_seconds:.2f}' if result.step_seconds else '',
    ]


def method_row(
    matrix: Matrix,
    method: str,
    teacher: str,
    of_student: Sequence[Result],
    of_teachers: Mapping[str, Result],
    failed: Sequence[RunKey],
) -> list[str]:
    results = [result for result in of_student if (result.method, result.teacher) == (method, teacher)]
    num_failed = sum((key[1], key[2]) == (method, teacher) for key in failed)
    title = f'**{method}**' if method in matrix.headline else method
    if not results:
        return [title, teacher, 'failed' if num_failed else '', *[''] * 6]
    scores = {name: format_percent([result.scores[name] for result in results]) for name in results[0].scores}
    mAP = scores['mAP'] + (f' ({len(results)})' if len(results) > 1 else '') + (f', {num_failed} failed' if num_failed else '')
    gain = format_percent(gains_over_plain(matrix, results, of_student), signed=True)
    teacher_mAP = of_teachers[teacher].mAP if teacher in of_teachers else None
    over = '' if teacher_mAP is None else format_percent([float(np.mean(all_mAP(results))) - teacher_mAP], signed=True)
    steps = [result.step_seconds for result in results if result.step_seconds]
    return [
        title,
        teacher,
        mAP,
        gain,
        over,
        scores['top-1'],
        scores['det AP'],
        f'{np.mean([result.minutes for result in results]):.1f}',
        f'{np.mean(steps):.2f}' if steps else '',
    ]


def all_mAP(results: Iterable[Result]) -> list[float]:
    return [result.mAP for result in results if result.mAP is not None]


def gains_over_plain(matrix: Matrix, results: Iterable[Result], of_student: Iterable[Result]) -> list[float]:
    """Returns, for each seed, by how much mAP exceeds that of the plain student with the same seed.

    The plain student itself has no gain.
    """
    plain = {result.seed: result.mAP for result in of_student if result.method == matrix.reference}
    return [
        result.mAP - before
        for result in results
        if result.method != matrix.reference and result.mAP is not None and (before := plain.get(result.seed)) is not None
    ]


def gains_by_student(matrix: Matrix, results: Sequence[Result]) -> dict[str, dict[str, list[float]]]:
    """Returns, for each student and method, the gain with each seed. Several teachers of a student are told apart."""
    found: dict[str, dict[str, list[float]]] = {}
    for student in matrix.students.values():
        of_student = [result for result in results if result.method and result.student == student.name]
        for method in matrix.methods.values():
            teachers = matrix.teachers_of(student, method)
            for teacher in teachers:
                key = method.name, teacher.name if teacher else ''
                same = [result for result in of_student if (result.method, result.teacher) == key]
                gains = gains_over_plain(matrix, same, of_student)
                if gains:
                    name = method.name if len(teachers) == 1 else f'{method.name} by {key[1]}'
                    found.setdefault(student.name, {})[name] = gains
    return found


def seed_deviation(matrix: Matrix, results: Iterable[Result]) -> dict[str, float]:
    """Returns the standard deviation of mAP for each student that was trained plainly with several seeds."""
    plain: dict[str, list[float]] = {}
    for result in results:
        if result.method == matrix.reference:
            plain.setdefault(result.student, []).extend(all_mAP([result]))
    return {student: float(np.std(values, ddof=1)) for student, values in plain.items() if len(values) > 1}


def accuracy_and_size(
    matrix: Matrix, results: Sequence[Result]
) -> tuple[dict[str, tuple[int, float]], dict[str, dict[str, float]]]:
    """Returns, for each detector, its parameters and milliseconds per image, and its mAP by method ('' for a teacher).

    Networks that are given the boxes are left out.
    """
    sizes, scores = {}, {}
    detectors = [name for name, teacher in matrix.teachers.items() if is_detector(teacher.cfg)]
    for name in [*detectors, *matrix.students]:
        of_network = [result for result in results if result.student == name and result.mAP is not None]
        if of_network:
            sizes[name] = of_network[0].parameters, float(np.mean([result.image_ms for result in of_network]))
            scores[name] = {
                method: float(np.mean(all_mAP(result for result in of_network if result.method == method)))
                for method in ('', *matrix.methods)
                if any(result.method == method for result in of_network)
            }
    return sizes, scores


def format_percent(shares: Sequence[float | None], signed: bool = False) -> str:
    """Formats shares as '61.2', or as '61.2 ± 0.8' if there are several (sample standard deviation); '' for none."""
    known = [share for share in shares if share is not None]
    if not known:
        return ''
    mean = f'{np.mean(known) * 100:{"+" if signed else ""}.1f}'
    return f'{mean} ± {np.std(known, ddof=1) * 100:.1f}' if len(known) > 1 else mean
