"""Runs command lines side by side, a few at a time, and shows how far each has come."""
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
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
    total: int
    done: Callable[[], int]
    after: Sequence[str] = field(default_factory=tuple)


def run_jobs(jobs: Sequence[Job], workers: int, poll: float = 1.0) -> dict[str, float]:
    """Runs the jobs in their order, as many at a time as there are workers, sharing the cores among those that run.

    Returns:
        Seconds each took.

    Raises:
        ChildProcessError: A job ended with another status than 0; names its log. The others are stopped.
    """
    waiting, running, seconds = list(jobs), {}, {}
    cores = os.cpu_count() or 1
    try:
        while waiting or running:
            ready = [job for job in waiting if all(name in seconds for name in job.after)]
            for job in ready[:workers - len(running)]:
                waiting.remove(job)
                alone = not waiting and not running  # to the end: nothing is left to run beside it
                running[job] = _start(job, cores if alone else max(cores // workers, 1))
            time.sleep(poll)
            for job, (process, began, bar) in list(running.items()):
                status = process.poll()
                bar.update(min(job.done(), job.total) - bar.n)
                if status is None:
                    continue
                del running[job]
                bar.close()
                if status:
                    raise ChildProcessError(f'{job.name} failed (exit status {status}): {_last_line(job.log)} [{job.log}]')
                seconds[job.name] = time.monotonic() - began
    finally:
        for process, _, bar in running.values():
            process.terminate()
            bar.close()
    return seconds


def _start(job: Job, threads: int) -> tuple[subprocess.Popen, float, tqdm]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)}
    with open(job.log, 'w') as log:
        process = subprocess.Popen(job.command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env=environment, preexec_fn=_end_with_parent if sys.platform == 'linux' else None)
    bar = tqdm(total=job.total, desc=f'{job.name:<24}', unit='step', file=sys.stdout, mininterval=5)
    return process, time.monotonic(), bar


def _end_with_parent() -> None:
    """However the parent ends, killed too: a job left behind would write where the next call resumes."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()]
    return lines[-1] if lines else 'it printed nothing'
