"""Runs command lines in parallel, a few at a time, and shows their progress."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tqdm import tqdm


@dataclass(eq=False)
class Job:
    """A command to run.

    Attributes:
        name: Unique; shown beside the progress bar.
        log: The file that takes its output.
        num_steps: How many steps it has.
        count_steps_done: Returns how many of them are done.
        after: Names of the jobs that must succeed before it starts.
    """

    name: str
    command: Sequence[str]
    log: Path
    num_steps: int = 1
    count_steps_done: Callable[[], int] = lambda: 0
    after: Sequence[str] = ()


AnyJob = TypeVar('AnyJob', bound=Job)


@dataclass(frozen=True)
class EndedJob(Generic[AnyJob]):
    """A job that ran, its exit status, and how many seconds it took."""

    job: AnyJob
    status: int
    seconds: float

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        lines = [line for line in self.job.log.read_text(errors='replace').splitlines() if line.strip()]
        return lines[-1] if lines else 'it printed nothing'


def run_jobs(
    jobs: Sequence[AnyJob],
    workers: int,
    poll: float = 1.0,
    *,
    show_progress: bool = False,
    gpus: Sequence[str] = (),
) -> Iterator[EndedJob[AnyJob]]:
    """Runs the jobs in their order, as many at a time as there are workers.

    Every job gets the same share of the cores, so that their times compare. If a job fails, only the jobs after it are not
    started.

    Args:
        poll: Seconds between two looks at the jobs.
        gpus: Names as in CUDA_VISIBLE_DEVICES. Each worker sees one of them.

    Yields:
        Each job when it ends. If the caller stops asking, the jobs that still run are ended.
    """
    waiting, succeeded = list(jobs), set[str]()
    running: dict[AnyJob, tuple[subprocess.Popen, float, tqdm, int]] = {}
    places, threads = list(range(workers)), max((os.cpu_count() or 1) // workers, 1)
    try:
        while True:
            ready = [job for job in waiting if succeeded.issuperset(job.after)]
            if not ready and not running:
                return
            for job in ready[: len(places)]:
                waiting.remove(job)
                place = places.pop(0)
                gpu = {'CUDA_VISIBLE_DEVICES': gpus[place % len(gpus)]} if gpus else {}
                process = _start(job, threads, gpu)
                bar = tqdm(
                    total=job.num_steps,
                    desc=f'{job.name:<24}',
                    unit='step',
                    file=sys.stdout,
                    mininterval=5,
                    disable=not show_progress,
                )
                running[job] = process, time.monotonic(), bar, place
            time.sleep(poll)
            for job, (process, began, bar, place) in list(running.items()):
                status = process.poll()
                if show_progress:
                    bar.update(min(job.count_steps_done(), job.num_steps) - bar.n)
                if status is None:
                    continue
                del running[job]
                if status == 0:
                    bar.update(job.num_steps - bar.n)
                bar.close()
                places.append(place)
                if not status:
                    succeeded.add(job.name)
                yield EndedJob(job, status, time.monotonic() - began)
    finally:
        for process, _, bar, _ in running.values():
            process.terminate()
            bar.close()


def _start(job: Job, threads: int, environment: dict[str, str]) -> subprocess.Popen:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads), **environment}
    with open(job.log, 'w') as log:
        return subprocess.Popen(
            job.command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            preexec_fn=_end_with_parent if sys.platform == 'linux' else None,
        )


def _end_with_parent() -> None:
    """Ends this process when its parent ends, also by a kill: a job left behind would write where the next call resumes."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
