"""Runs command lines side by side, a few at a time, and shows how far each has come."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm


@dataclass(eq=False)
class Job:
    """A command to run.

    Attributes:
        name: Unique; shown beside the progress bar.
        command: Command line.
        log: Where its output goes.
        total: Steps.
        done: Tells how many steps are done.
        after: Names of the jobs that must have ended before it starts.
    """

    name: str
    command: Sequence[str]
    log: Path
    total: int = 1
    done: Callable[[], int] = lambda: 0
    after: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Ended:
    """A job that ran: its exit status, and how many seconds it took."""

    job: Job
    status: int
    seconds: float

    @property
    def complaint(self) -> str:
        """The last line of its log."""
        lines = [line for line in self.job.log.read_text(errors='replace').splitlines() if line.strip()]
        return lines[-1] if lines else 'it printed nothing'


def run_each(
    jobs: Sequence[Job], workers: int, poll: float = 1.0, *, bars: bool = False, gpus: Sequence[str] = (), equal: bool = False
) -> Iterator[Ended]:
    """Runs the jobs in their order, as many at a time as there are workers, sharing the cores among those that run.

    A failure stops none but those that are after it, which never start.

    Args:
        bars: Show progress.
        gpus: Names as in CUDA_VISIBLE_DEVICES; each job sees one of them, by turns.
        equal: Each job has the same share of the cores, the last one too, so that their times compare.

    Yields:
        Each job when it ends. Those that still run are stopped if no more are asked for.
    """
    waiting, running, succeeded = list(jobs), {}, set()
    places, cores = list(range(workers)), os.cpu_count() or 1
    try:
        while True:
            ready = [job for job in waiting if succeeded.issuperset(job.after)]
            if not ready and not running:
                return
            for job in ready[: len(places)]:
                waiting.remove(job)
                alone = not waiting and not running and not equal  # to the end: nothing is left to run beside it
                place = places.pop(0)
                gpu = {'CUDA_VISIBLE_DEVICES': gpus[place % len(gpus)]} if gpus else {}
                process = _start(job, cores if alone else max(cores // workers, 1), gpu)
                bar = tqdm(
                    total=job.total, desc=f'{job.name:<24}', unit='step', file=sys.stdout, mininterval=5, disable=not bars
                )
                running[job] = process, time.monotonic(), bar, place
            time.sleep(poll)
            for job, (process, began, bar, place) in list(running.items()):
                status = process.poll()
                if bars:
                    bar.update(min(job.done(), job.total) - bar.n)
                if status is None:
                    continue
                del running[job]
                if status == 0:
                    bar.update(job.total - bar.n)
                bar.close()
                places.append(place)
                if not status:
                    succeeded.add(job.name)
                yield Ended(job, status, time.monotonic() - began)
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
    """However the parent ends, killed too: a job left behind would write where the next call resumes."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
