"""Runs or resumes a matrix of students and distillation methods, and keeps its tables up to date."""

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

from .jobs import EndedJob, Job, SchedulerLost, open_cluster, run_jobs
from .matrix import Matrix
from .report import write_results
from .run_list import clear_outdated_runs, list_runs, select_runs
from .runs import Run, count_parameters, embedding_size

OVERHEAD = 1.15  # time of a run over that of its training: start, validation and test


def run_benchmark(
    matrix: Matrix,
    tools: Path,
    work_dir: Path,
    out: Path,
    workers: int,
    gpus: Sequence[str] = (),
    only: Sequence[str] = (),
    report_only: bool = False,
    show_progress: bool = False,
    server: str | None = None,
    retries: int = 0,
) -> bool:
    """Runs what is not finished yet, and writes the tables and charts after each run.

    Args:
        tools: The folder of train.py, test.py and export_lookup_table.py.
        out: The folder of the tables and charts.
        workers: Runs at a time, if there is no ``server``.
        gpus: Names as in CUDA_VISIBLE_DEVICES; each run has one.
        only: Patterns; only runs with one of them in their names are made, and the teachers that they need.
        report_only: Only write the tables and charts.
        show_progress: Show a progress bar for each training.
        server: Address or scheduler file of a running Dask scheduler, whose workers make the runs. They see the same folders.
        retries: How often a command that failed is tried again.

    Returns:
        Whether all selected runs are finished.

    Raises:
        ValueError: No run matches ``only``, a folder is in the way, or another benchmark runs in ``work_dir``.
        OSError: The scheduler does not answer.
    """
    runs = list_runs(matrix, work_dir)
    selected = select_runs(runs, only)
    if report_only:
        Progress(matrix, runs, selected, work_dir, out, workers).write_results()
        return True
    with lock_folder(work_dir):
        if matrix.synthesise:
            generate(matrix.data, **matrix.synthesise, workers=os.cpu_count() or 1)
        failed: set[Path] = set()
        while True:  # again once weights are chosen, and after a restart of the scheduler
            clear_outdated_runs(runs, [run for run in selected if not run.waits])
            progress = Progress(matrix, runs, selected, work_dir, out, workers)
            stopped_late = [run for run in progress.unfinished() if run.is_trained and run.is_tested]
            for run in stopped_late:  # the last call was stopped before it wrote the result
                progress.finish_run(run)
            progress.failed = {run for run in runs if run.work_dir in failed}
            progress.write_results()
            todo = [run for run in progress.unfinished() if not run.waits and run not in progress.failed]
            if not todo and not stopped_late:
                return not progress.unfinished()
            try:
                with open_cluster(workers, gpus, server) as cluster:
                    print(progress.headline(f'on {server}' if server else f'{workers} at a time', work_dir), flush=True)
                    jobs = list_jobs(todo, tools, show_progress)
                    for ended in run_jobs(jobs, cluster, retries, show_progress=show_progress):
                        progress.end_job(ended)
            except SchedulerLost:
                tell(f'the scheduler is gone; waiting for it at {server}')
            failed |= {run.work_dir for run in progress.failed}
            runs = list_runs(matrix, work_dir)
            selected = select_runs(runs, only)


@contextmanager
def lock_folder(work_dir: Path) -> Iterator[None]:
    """Refuses two calls in one folder, as both would write there. The system frees the lock of a call that was killed."""
    work_dir.mkdir(parents=True, exist_ok=True)
    with open(work_dir / 'lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f'{work_dir}: another benchmark runs there') from None
        yield


@dataclass(eq=False)
class RunJob(Job):
    """The training and test of a run, or the export of the lookup table that some runs start with."""

    runs: Sequence[Run] = ()
    is_export: bool = False


def list_jobs(todo: Sequence[Run], tools: Path, count_steps: bool = False) -> list[RunJob]:
    """Lists the jobs of the runs in order. A test follows its training at once, so that its result is there soon.

    Args:
        count_steps: Whether training jobs count their steps, for which the data set is read.
    """
    jobs: dict[str, RunJob] = {}
    training = {run for run in todo if not run.is_trained}
    for run in todo:
        teacher, after = run.teacher, [run.teacher.name] if run.teacher in training else []
        if teacher and run.lookup_table and not run.lookup_table.is_file():
            name = f'lookup table {run.lookup_table.name} of {teacher.student.name}'
            if name not in jobs:
                command = export_command(teacher, run.lookup_table, embedding_size(run.student.cfg), tools)
                jobs[name] = RunJob(name, [(command, run.lookup_table.with_suffix('.log'))], after=after, is_export=True)
            jobs[name].runs = [*jobs[name].runs, run]
            after = [name]
        job = jobs[run.name] = RunJob(run.name, [(run.test_command(tools), run.work_dir / 'test.log')], after=after, runs=[run])
        run.write_configs()  # again: MMEngine replaces config.py, and a kill would leave half of it
        if run in training:
            shutil.rmtree(run.work_dir / 'test', ignore_errors=True)
            job.commands = [(run.train_command(tools), run.work_dir / 'train.log'), *job.commands]
            if count_steps:
                job.num_steps, job.count_steps_done = run.num_steps, run.count_steps_done
    return list(jobs.values())


def export_command(teacher: Run, lookup_table: Path, dims: int, tools: Path) -> list[str]:
    command = [str(tools / 'export_lookup_table.py'), str(teacher.test_config), str(teacher.final_checkpoint)]
    return [*command, '--out', str(lookup_table), '--dims', str(dims)]


class Progress:
    """Keeps which runs are finished and which failed, and estimates how long the others will take."""

    def __init__(self, matrix: Matrix, runs: Sequence[Run], selected: Sequence[Run], work_dir: Path, out: Path, workers: int):
        self.matrix, self.runs, self.selected = matrix, runs, selected
        self.work_dir, self.out, self.workers = work_dir, out, workers
        self.results = {run: result for run in runs if (result := run.load_result()) is not None}
        self.failed: set[Run] = set()

    def headline(self, where: str, work_dir: Path) -> str:
        done = len(self.selected) - len(self.unfinished())
        return f'{len(self.selected)} runs, {done} of them finished, {where}; logs in {work_dir}/*/*/*.log'

    def unfinished(self) -> list[Run]:
        return [run for run in self.selected if run not in self.results]

    def end_job(self, ended: EndedJob[RunJob]) -> None:
        """Notes that a job ended."""
        job = ended.job
        if ended.failure:
            self.failed.update(job.runs)
            tell(f'{job.name} failed ({ended.failure}): {ended.last_words} [{ended.log}]')
            self.failed.update(
                run for run in self.unfinished() if run.teacher and run.teacher in job.runs and not run.teacher.is_trained
            )
            self.write_results()
        elif not job.is_export:
            self.finish_run(job.runs[0])

    def finish_run(self, run: Run) -> None:
        result = self.results[run] = run.save_result(count_parameters(run.student))
        scores = '  '.join(f'{name} {value * 100:.1f}' for name, value in result.scores.items() if value is not None)
        done = len(self.selected) - len(self.unfinished())
        tell(
            f'[{done:>{len(str(len(self.selected)))}}/{len(self.selected)}] {run.name}   {scores}  {result.minutes:.1f} min   '
            f'{self.time_left()}'
        )
        self.write_results()

    def time_left(self) -> str:
        minutes = self.minutes_left()
        hours, rest = divmod(round(minutes), 60)
        return f'left about {f"{hours} h " if hours else ""}{rest} min' if minutes else 'done'

    def minutes_left(self) -> float:
        """Estimates the minutes until the end. The runs in progress count as half done."""
        todo = [self.expected_minutes(run) for run in self.unfinished() if run not in self.failed]
        running = min(self.workers - 1, len(todo))
        return (sum(todo) - sum(todo[:running]) / 2) / min(self.workers, max(len(todo), 1)) * OVERHEAD

    def expected_minutes(self, run: Run) -> float:
        """Averages the runs of the same student and method, else those of the same student, else all runs."""
        for is_similar in (
            lambda other: other.student is run.student and other.method is run.method,
            lambda other: other.student is run.student,
            lambda other: True,
        ):
            minutes = [result.minutes for other, result in self.results.items() if is_similar(other)]
            if minutes:
                return sum(minutes) / len(minutes)
        return 0.0

    def write_results(self) -> None:
        runs = sorted(self.runs, key=lambda run: row_place(self.matrix, run))
        write_results(
            self.out, [run.entry(self.matrix, self.work_dir, self.results.get(run), run in self.failed) for run in runs]
        )


def row_place(matrix: Matrix, run: Run) -> tuple[int, int]:
    """Returns the place of the run's row in the tables: teachers first, then the methods of each student."""
    if run.method is None:
        return -1, 0
    return list(matrix.students).index(run.student.name), list(matrix.methods).index(run.method.name)


def tell(line: str) -> None:
    """Prints a line above the progress bars, at once."""
    tqdm.write(line)
    sys.stdout.flush()  # tqdm.write does not
