"""Runs a matrix of students and distillation methods, resumes it, and keeps its tables up to date."""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mmps.synthetic import generate

from .jobs import Ended, Job, run_each
from .matrix import Matrix
from .report import write_report
from .runs import Run, chosen, embed_dims, forget_changed, list_runs, parameters_of

OVERHEAD = 1.15  # a run's start, validation and test, beside its training


def benchmark(
    matrix: Matrix,
    tools: Path,
    work_dir: Path,
    out: Path,
    workers: int,
    gpus: Sequence[str] = (),
    only: Sequence[str] = (),
    report_only: bool = False,
    bars: bool = False,
) -> bool:
    """Runs what is not finished yet, and writes the tables and charts after each run.

    Args:
        tools: The folder of train.py, test.py and export_lookup_table.py.
        workers: Runs at a time.
        gpus: Names as in CUDA_VISIBLE_DEVICES; each run has one.
        only: Patterns; runs with none of them in their names are left out, but for the teachers that are needed.
        report_only: Only the tables and charts.
        bars: Show how far each training is, and when it will end.

    Returns:
        Whether all that was asked for is finished.

    Raises:
        ValueError: No run is like ``only``, a folder is in the way, or another benchmark runs in ``work_dir``.
    """
    runs = list_runs(matrix, work_dir)
    asked = chosen(runs, only)
    if report_only:
        Progress(matrix, runs, asked, out, workers).report()
        return True
    with alone_in(work_dir):
        if matrix.synthesise:
            generate(matrix.data, **matrix.synthesise, workers=os.cpu_count() or 1)
        forget_changed(runs, asked)
        progress = Progress(matrix, runs, asked, out, workers)
        for run in progress.unfinished():
            if run.is_trained and run.is_tested:  # the last call ended right before it was written down
                progress.finished(run)
        todo = progress.unfinished()
        print(
            f'{len(asked)} runs, {len(asked) - len(todo)} of them finished, {workers} at a time; logs in {work_dir}/*/*/*.log',
            flush=True,
        )
        progress.report()
        for ended in run_each(list_steps(todo, tools, bars), workers, gpus=gpus, equal=True, bars=bars):
            progress.ended(ended)
        return not progress.unfinished()


@contextmanager
def alone_in(work_dir: Path) -> Iterator[None]:
    """Two calls would write into the same folders. The system frees the lock of a call that was killed."""
    work_dir.mkdir(parents=True, exist_ok=True)
    with open(work_dir / 'lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f'{work_dir}: another benchmark runs there') from None
        yield


@dataclass(eq=False)
class Step(Job):
    """A job for a run: its training, its test, or the lookup table that some runs start with."""

    runs: Sequence[Run] = ()
    is_last: bool = False


def list_steps(todo: Sequence[Run], tools: Path, counted: bool = False) -> list[Step]:
    """What is to be done, in order; a test comes before the trainings that wait, so that its result is there soon.

    Args:
        counted: Whether trainings tell how many steps they have, and have done. The data set is read for it.
    """
    steps: dict[str, Step] = {}
    training = {run for run in todo if not run.is_trained}
    for run in todo:
        after = [f'train {run.teacher.name}'] if run.teacher in training else []
        if run.lookup_table and not run.lookup_table.is_file():
            name = f'lookup table {run.lookup_table.name} of {run.teacher.student.name}'
            if name not in steps:
                steps[name] = Step(name, export_command(run, tools), run.lookup_table.with_suffix('.log'), after=after)
            steps[name].runs = [*steps[name].runs, run]
            after = [name]
        if run in training:
            shutil.rmtree(run.work_dir / 'test', ignore_errors=True)
            name = f'train {run.name}'
            progress = dict(total=run.num_steps, done=run.steps_done) if counted else {}
            steps[name] = Step(name, run.command(tools), run.work_dir / 'train.log', after=after, runs=[run], **progress)
            after = [name]
        name = f'test {run.name}'
        steps[name] = Step(name, run.test_command(tools), run.work_dir / 'test.log', after=after, runs=[run], is_last=True)
    return list(steps.values())


def export_command(run: Run, tools: Path) -> list[str]:
    teacher = run.teacher
    return [
        sys.executable,
        str(tools / 'export_lookup_table.py'),
        str(teacher.tested_as),
        str(teacher.checkpoint),
        '--out',
        str(run.lookup_table),
        '--dims',
        str(embed_dims(run.student.cfg)),
    ]


class Progress:
    """Which runs are finished, which failed, and how long the others will take."""

    def __init__(self, matrix: Matrix, runs: Sequence[Run], asked: Sequence[Run], out: Path, workers: int):
        self.matrix, self.runs, self.asked, self.out, self.workers = matrix, runs, asked, out, workers
        self.results = {run: result for run in runs if (result := run.result()) is not None}
        self.failed: set[Run] = set()

    def unfinished(self) -> list[Run]:
        return [run for run in self.asked if run not in self.results]

    def ended(self, ended: Ended) -> None:
        """Takes note of a step that ended."""
        step = ended.job
        if ended.status:
            self.failed.update(step.runs)
            tqdm.write(f'{step.name} failed (exit status {ended.status}): {ended.complaint} [{step.log}]')
            sys.stdout.flush()
            self.failed.update(run for run in self.unfinished() if run.teacher in step.runs and not run.teacher.is_trained)
            self.report()
        elif step.is_last:
            self.finished(step.runs[0])

    def finished(self, run: Run) -> None:
        result = self.results[run] = run.finish(parameters_of(run.student))
        scores = '  '.join(f'{name} {value * 100:.1f}' for name, value in result.scores.items() if value is not None)
        done = len(self.asked) - len(self.unfinished())
        tqdm.write(
            f'[{done:>{len(str(len(self.asked)))}}/{len(self.asked)}] {run.name}   {scores}  {result.minutes:.1f} min   '
            f'{self.left()}'
        )
        sys.stdout.flush()  # tqdm.write does not
        self.report()

    def left(self) -> str:
        minutes = self.minutes_left()
        hours, rest = divmod(round(minutes), 60)
        return f'left about {f"{hours} h " if hours else ""}{rest} min' if minutes else 'done'

    def minutes_left(self) -> float:
        """As long as those of the same student, or of all students, took; those that run are taken for half done."""
        todo = [self.expected(run) for run in self.unfinished() if run not in self.failed]
        running = min(self.workers - 1, len(todo))
        return (sum(todo) - sum(todo[:running]) / 2) / min(self.workers, max(len(todo), 1)) * OVERHEAD

    def expected(self, run: Run) -> float:
        for like in (
            lambda other: other.student is run.student and other.method is run.method,
            lambda other: other.student is run.student,
            lambda other: True,
        ):
            minutes = [result.minutes for other, result in self.results.items() if like(other)]
            if minutes:
                return sum(minutes) / len(minutes)
        return 0.0

    def report(self) -> None:
        finished = [self.results[run] for run in self.runs if run in self.results]
        write_report(self.out, self.matrix, finished, [run.key for run in self.runs if run in self.failed])
