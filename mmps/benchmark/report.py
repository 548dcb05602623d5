"""Tables and charts of a benchmark's runs."""

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
    """What a run gave.

    Attributes:
        method: '' for a teacher.
        teacher: '' without one.
        mAP, top_1, det_AP: In 0..1; None if the network has no such score.
        minutes: Of training.
        step_seconds: Seconds of training a step, the median.
        image_ms: Milliseconds an image, in the test.
        parameters: Of the network that is tested.
        loss: The last one that was logged.
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


Key = tuple[str, str, str, int]


def write_report(out: Path, matrix: Matrix, results: Sequence[Result], failed: Iterable[Key] = ()) -> None:
    """Writes results.csv, results.md, gain.png and accuracy.png, each anew.

    Args:
        failed: Student, method, teacher and seed of each run that failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (('csv', as_csv(results, failed)), ('md', as_markdown(matrix, results, failed))):
        with write_atomic(out / f'results.{name}', 'w') as file:
            file.write(text)
    found = all_gains(matrix, results)
    if found:
        write_picture(out / 'gain.png', draw_gains(found, noise(matrix, results)))
    sizes, scores = accuracy(matrix, results)
    if scores:
        write_picture(out / 'accuracy.png', draw_accuracy(sizes, scores))


def as_csv(results: Sequence[Result], failed: Iterable[Key]) -> str:
    """A row a run."""
    names = [field.name for field in fields(Result)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([*names, 'status'])
    writer.writerows([*astuple(result), 'finished'] for result in results)
    writer.writerows([*key, *[''] * (len(names) - len(key)), 'failed'] for key in failed)
    return text.getvalue()


def as_markdown(matrix: Matrix, results: Sequence[Result], failed: Iterable[Key]) -> str:
    """A table of the teachers and one for each student; scores in per cent."""
    parts = [f'# {matrix.name}']
    of_teachers = {result.student: result for result in results if not result.method}
    failed = list(failed)
    if matrix.teachers:
        rows = [teacher_row(name, of_teachers.get(name), (name, '', '', 0) in failed) for name in matrix.teachers]
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
                [key for key in failed if key[0] == name],
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
        *(percent([score]) for score in result.scores.values()),
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
    failed: Sequence[Key],
) -> list[str]:
    results = [result for result in of_student if (result.method, result.teacher) == (method, teacher)]
    num_failed = sum((key[1], key[2]) == (method, teacher) for key in failed)
    title = f'**{method}**' if method in matrix.headline else method
    if not results:
        return [title, teacher, 'failed' if num_failed else '', *[''] * 6]
    scores = {name: percent([result.scores[name] for result in results]) for name in results[0].scores}
    mAP = scores['mAP'] + (f' ({len(results)})' if len(results) > 1 else '') + (f', {num_failed} failed' if num_failed else '')
    gain = percent(list(gains(matrix, results, of_student).values()), signed=True)
    over = ''
    if teacher in of_teachers and of_teachers[teacher].mAP is not None:
        over = percent([np.mean([result.mAP for result in results]) - of_teachers[teacher].mAP], signed=True)
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


def gains(matrix: Matrix, results: Iterable[Result], of_student: Iterable[Result]) -> dict[int, float]:
    """For each seed how much mAP is above that of the plain student with the same seed; none for the plain student itself."""
    plain = {result.seed: result.mAP for result in of_student if result.method == matrix.reference}
    return {
        result.seed: result.mAP - plain[result.seed]
        for result in results
        if result.seed in plain and result.method != matrix.reference
    }


def all_gains(matrix: Matrix, results: Sequence[Result]) -> dict[str, dict[str, list[float]]]:
    """For each student and each method, with its teacher where the student has several, the gains with each seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for student in matrix.students.values():
        of_student = [result for result in results if result.method and result.student == student.name]
        for method in matrix.methods.values():
            teachers = matrix.teachers_of(student, method)
            for teacher in teachers:
                alike = [
                    result
                    for result in of_student
                    if result.method == method.name and result.teacher == (teacher.name if teacher else '')
                ]
                values = list(gains(matrix, alike, of_student).values())
                if values:
                    name = method.name if len(teachers) == 1 else f'{method.name} by {teacher.name}'
                    found.setdefault(student.name, {})[name] = values
    return found


def noise(matrix: Matrix, results: Iterable[Result]) -> dict[str, float]:
    """For each student that was trained plainly with several seeds the standard deviation of its mAP."""
    plain: dict[str, list[float]] = {}
    for result in results:
        if result.method == matrix.reference:
            plain.setdefault(result.student, []).append(result.mAP)
    return {student: float(np.std(values, ddof=1)) for student, values in plain.items() if len(values) > 1}


def accuracy(matrix: Matrix, results: Sequence[Result]) -> tuple[dict, dict]:
    """Of each network the parameters and milliseconds an image, and the mAP of each method ('' for a teacher).

    Only of those that find the persons themselves: others are told where they are.
    """
    sizes, scores = {}, {}
    detectors = [name for name, teacher in matrix.teachers.items() if is_detector(teacher.cfg)]
    for name in [*detectors, *matrix.students]:
        of_network = [result for result in results if result.student == name and result.mAP is not None]
        if of_network:
            sizes[name] = of_network[0].parameters, float(np.mean([result.image_ms for result in of_network]))
            scores[name] = {
                method: float(np.mean([result.mAP for result in of_network if result.method == method]))
                for method in ('', *matrix.methods)
                if any(result.method == method for result in of_network)
            }
    return sizes, scores


def percent(shares: Sequence[float | None], signed: bool = False) -> str:
    """'61.2', or '61.2 ± 0.8' for more than one (sample standard deviation); '' for none."""
    shares = [share for share in shares if share is not None]
    if not shares:
        return ''
    mean = f'{np.mean(shares) * 100:{"+" if signed else ""}.1f}'
    return f'{mean} ± {np.std(shares, ddof=1) * 100:.1f}' if len(shares) > 1 else mean
