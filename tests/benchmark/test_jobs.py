import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmps.benchmark.jobs import Job, open_cluster, run_jobs

WAIT_FOR = """
import pathlib, time
while not (pathlib.Path({0!r}).exists() and pathlib.Path({0!r}).read_text()):
    time.sleep(0.05)
"""


def job(tmp_path, name, code, after=()):
    return Job(name, [(['-c', code], tmp_path / f'{name}.log')], after=after)


@pytest.fixture
def run():
    """run(jobs, workers) -> an iterator over the ended jobs."""

    def called(jobs, workers, gpus=(), **kwargs):
        with open_cluster(workers, gpus) as cluster:
            yield from run_jobs(jobs, cluster, poll=0.02, **kwargs)

    return called


def test_a_job_waits_only_for_the_jobs_that_it_is_after(tmp_path, run):
    stamp = 'import time, pathlib; {} pathlib.Path({!r}).write_text(str(time.time()))'
    files = {name: tmp_path / name for name in 'abc'}
    until_c = f'[time.sleep(0.02) for _ in range(3000) if not pathlib.Path({str(files["c"])!r}).exists()];'
    jobs = [
        job(tmp_path, 'a', stamp.format(until_c, str(files['a']))),
        job(tmp_path, 'b', stamp.format('', str(files['b'])), after=['a']),
        job(tmp_path, 'c', stamp.format('', str(files['c']))),
    ]
    assert {each.job.name for each in run(jobs, 2)} == {'a', 'b', 'c'}
    ended = {name: float(path.read_text()) for name, path in files.items()}
    assert ended['c'] < ended['a'] < ended['b']


def test_jobs_start_in_their_order(tmp_path, run):
    log = tmp_path / 'order'
    jobs = [job(tmp_path, str(i), f'open({str(log)!r}, "a").write("{i} ")') for i in range(6)]
    assert all(not each.failure for each in run(jobs, 1)) and log.read_text() == '0 1 2 3 4 5 '


def test_a_failure_is_reported_once_and_what_is_after_it_is_not_started(tmp_path, run):
    bad = job(tmp_path, 'bad', "import sys; sys.exit('error: no such thing')")
    later = job(tmp_path, 'later', 'pass', after=['bad'])
    (ended,) = run([bad, later], 2)
    assert (ended.job.name, ended.failure, ended.last_words) == ('bad', 'exit status 1', 'error: no such thing')
    assert not (tmp_path / 'later.log').exists()


def test_the_commands_of_a_job_run_one_after_another_until_one_fails(tmp_path, run):
    codes = ["print('one')", "import sys; sys.exit('error: two')", "print('three')"]
    (ended,) = run([Job('job', [(['-c', code], tmp_path / f'{i}.log') for i, code in enumerate(codes)])], 1)
    assert (ended.log, ended.last_words) == (tmp_path / '1.log', 'error: two')
    assert (tmp_path / '0.log').read_text() == 'one\n' and not (tmp_path / '2.log').exists()


def test_the_other_jobs_end_when_the_caller_stops(tmp_path, run):
    pid = tmp_path / 'pid'
    code = f'import os, time; open({str(pid)!r}, "w").write(str(os.getpid())); time.sleep(120)'
    ended = run([job(tmp_path, 'long', code), job(tmp_path, 'short', WAIT_FOR.format(str(pid)))], 2)
    assert next(ended).job.name == 'short'
    ended.close()
    wait_until_gone(int(pid.read_text()))


def test_a_failed_job_is_tried_again_as_often_as_asked(tmp_path, run):
    code = f'import pathlib, sys; p = pathlib.Path({str(tmp_path / "tried")!r}); sys.exit(0 if p.exists() else p.touch() or 1)'
    (ended,) = run([job(tmp_path, 'job', code)], 1, retries=1)
    assert not ended.failure


def test_jobs_at_a_time_see_different_gpus_and_equal_shares_of_the_cores(tmp_path, run, monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 6)
    show = 'import os; print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"], flush=True);'
    jobs = [job(tmp_path, name, show + WAIT_FOR.format(str(tmp_path / f'{other}.log'))) for name, other in ('ab', 'ba')]
    assert all(not each.failure for each in run(jobs, 2, ['8', '5']))
    assert sorted((tmp_path / f'{name}.log').read_text() for name in 'ab') == ['5 3\n', '8 3\n']


def wait_until_gone(pid):
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f'process {pid} still runs')


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a child that its parent is gone')
def test_no_job_outlives_a_killed_parent(tmp_path):
    child, parent_code = tmp_path / 'child.py', tmp_path / 'parent.py'
    child.write_text(
        'import os, pathlib, time\npathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))\ntime.sleep(60)\n'
    )
    parent_code.write_text(
        'import pathlib, sys\nfrom mmps.benchmark.jobs import Job, open_cluster, run_jobs\n'
        f'child = pathlib.Path({str(child)!r})\n'
        'with open_cluster(1) as cluster:\n'
        '    list(run_jobs([Job("long", [([str(child)], child.with_name("log"))])], cluster))\n'
    )
    parent = subprocess.Popen(
        [sys.executable, str(parent_code)], env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    )
    while not (tmp_path / 'pid').exists() or not (tmp_path / 'pid').read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until_gone(int((tmp_path / 'pid').read_text()))
