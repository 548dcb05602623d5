"""Runs command lines on Dask workers: the threads of this process, or the workers of a scheduler that runs elsewhere.

Dask does the rest: order, dependencies, retries, and another worker where one died. It was chosen because workers can join and
leave a running scheduler, by hand or from Slurm and PBS, and because all of it is on PyPI.
"""

import ctypes
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from uuid import uuid4

import cloudpickle
import dask
from distributed import Client, Future, LocalCluster, get_worker
from tqdm import tqdm

PATIENCE = 600  # seconds that a scheduler has to answer, as after a restart


@dataclass(eq=False)
class Job:
    """Commands to run one after another, on one worker, until one fails.

    Attributes:
        name: Unique; shown beside the progress bar.
        commands: Arguments of the worker's Python, and the file that takes the output. Two jobs whose first commands have the
            same log do not run at the same time.
        num_steps: How many steps it has.
        count_steps_done: Returns how many of them are done.
        after: Names of earlier jobs in the list that must succeed before it starts.
    """

    name: str
    commands: Sequence[tuple[Sequence[str], Path]]
    num_steps: int = 1
    count_steps_done: Callable[[], int] = lambda: 0
    after: Sequence[str] = ()


AnyJob = TypeVar('AnyJob', bound=Job)


@dataclass(frozen=True)
class EndedJob(Generic[AnyJob]):
    """A job that ran.

    Attributes:
        failure: Why it failed; '' if it succeeded.
        log: Of the command that failed; of the first one if it is not known.
    """

    job: AnyJob
    failure: str
    log: Path

    @property
    def last_words(self) -> str:
        """The last line of the log."""
        text = self.log.read_text(errors='replace') if self.log.is_file() else ''
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else 'it printed nothing'


class SchedulerLost(ConnectionError):
    """The scheduler is gone, and with it the state of all jobs."""


@dataclass(frozen=True)
class Cluster:
    """Where jobs run.

    Attributes:
        places: Environment variables of each worker, by its name; empty where workers bring their own.
    """

    client: Client
    places: Mapping[int, Mapping[str, str]]


@contextmanager
def open_cluster(workers: int, gpus: Sequence[str] = (), server: str | None = None) -> Iterator[Cluster]:
    """Starts a scheduler with its workers in this process, or connects to a running scheduler.

    Args:
        workers: Jobs at a time in this process. Each gets the same share of the cores, so that their times compare.
        gpus: Names as in CUDA_VISIBLE_DEVICES. Each worker in this process sees one of them.
        server: Address or scheduler file of a running scheduler, whose workers run the jobs.

    Raises:
        OSError: No scheduler answers.
    """
    if server:
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers start at once: they do not import mmps
        logging.getLogger('distributed.client').setLevel(logging.CRITICAL)  # SchedulerLost says it in one line
        where = {'address': server} if '://' in server else {'scheduler_file': server}
        with Client(**where, timeout=PATIENCE, set_as_default=False) as client:
            yield Cluster(client, {})
        return
    threads = str(max((os.cpu_count() or 1) // workers, 1))
    share = {'OMP_NUM_THREADS': threads, 'MKL_NUM_THREADS': threads}
    places = {i: share | ({'CUDA_VISIBLE_DEVICES': gpus[i % len(gpus)]} if gpus else {}) for i in range(workers)}
    with (
        dask.config.set({'distributed.scheduler.worker-saturation': 1.0}),  # no worker hoards jobs that another could start
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=False, memory_limit=None, dashboard_address='127.0.0.1:0'
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield Cluster(client, places)


def run_jobs(
    jobs: Sequence[AnyJob], cluster: Cluster, retries: int = 0, poll: float = 1.0, *, show_progress: bool = False
) -> Iterator[EndedJob[AnyJob]]:
    """Runs the jobs in their order, as many at a time as there are workers.

    If a job fails, only the jobs after it are not started. A job whose worker died starts again on another one.

    Args:
        retries: How often a job that failed is tried again.
        poll: Seconds between two looks at the jobs.

    Yields:
        Each job when it ends. If the caller stops asking, the jobs that still run are ended.

    Raises:
        SchedulerLost: The scheduler is gone.
    """
    futures: dict[AnyJob, Future] = {}
    by_name: dict[str, Future] = {}
    for number, job in enumerate(jobs):
        futures[job] = by_name[job.name] = cluster.client.submit(
            _run,
            job.name,
            [(list(arguments), str(log.resolve())) for arguments, log in job.commands],
            os.getcwd(),
            cluster.places,
            *(by_name[name] for name in job.after if name in by_name),
            key=f'{job.name} {uuid4().hex}',
            priority=-number,
            retries=retries,
        )
    bars: dict[AnyJob, tqdm] = {}
    try:
        while futures:
            time.sleep(poll)
            for job, future in list(futures.items()):
                if show_progress:
                    _show(job, bars, future.status == 'finished')
                if future.status in ('cancelled', 'lost'):
                    raise SchedulerLost('the scheduler is gone')
                if future.done():
                    del futures[job]
                    error = future.exception()
                    if not isinstance(error, subprocess.CalledProcessError):  # also a worker that died too often
                        yield EndedJob(job, ' '.join(str(error).split()) if error else '', job.commands[0][1])
                    elif error.cmd == job.name:  # otherwise a job before it failed
                        yield EndedJob(job, f'exit status {error.returncode}', Path(error.output))
    finally:
        cluster.client.cancel(list(futures.values()))
        for bar in bars.values():
            bar.close()


def _show(job: AnyJob, bars: dict[AnyJob, tqdm], is_finished: bool) -> None:
    """Moves the job's progress bar, which appears with its first step."""
    done = job.num_steps if is_finished else min(job.count_steps_done(), job.num_steps)
    if done and job not in bars:
        bars[job] = tqdm(total=job.num_steps, desc=f'{job.name:<24}', unit='step', file=sys.stdout, mininterval=5)
    if done:
        bars[job].update(done - bars[job].n)


def _run(
    name: str, commands: Sequence[tuple[list[str], str]], folder: str, places: Mapping[int, Mapping[str, str]], *after: None
) -> None:
    """Runs the commands of a job on a worker. They end with the worker, and when the client no longer asks for them.

    Raises:
        subprocess.CalledProcessError: One failed. ``cmd`` is the job's name, ``output`` the command's log.
    """
    worker = get_worker()
    task = worker.state.tasks[worker.get_current_task()]
    os.makedirs(os.path.dirname(commands[0][1]), exist_ok=True)
    with open(f'{commands[0][1]}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may still be ending the same job
        for arguments, log in commands:
            with open(log, 'w') as output:
                process = subprocess.Popen(
                    [sys.executable, *arguments],
                    cwd=folder,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **places.get(worker.name, {})},
                    preexec_fn=_end_with_parent if sys.platform == 'linux' else None,
                )
            while process.poll() is None and task.state == 'executing':
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.5)
            if process.poll() is None:
                process.terminate()
                process.wait()
                return
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, name, log)


def _end_with_parent() -> None:
    """Ends this process when its parent ends, also by a kill: a job left behind would write where the next call resumes."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
