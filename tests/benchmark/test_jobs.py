import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmps.benchmark.jobs import Job, run_jobs


def job(tmp_path, name, code, after=()):
    return Job(name, [sys.executable, '-c', code], tmp_path / f'{name}.log', 1, lambda: 0, after)


def test_a_job_waits_only_for_the_jobs_that_it_is_after(tmp_path):
    stamp = 'import time, pathlib; {} pathlib.Path({!r}).write_text(str(time.time()))'
    files = {name: tmp_path / name for name in 'abc'}
    until_c = f'[time.sleep(0.02) for _ in range(1000) if not pathlib.Path({str(files["c"])!r}).exists()];'
    jobs = [
        job(tmp_path, 'a', stamp.format(until_c, str(files['a']))),
        job(tmp_path, 'b', stamp.format('', str(files['b'])), after=['a']),
        job(tmp_path, 'c', stamp.format('', str(files['c']))),
    ]
    seconds = {each.job.name: each.seconds for each in run_jobs(jobs, workers=2, poll=0.02)}
    ended = {name: float(path.read_text()) for name, path in files.items()}
    assert ended['c'] < ended['a'] < ended['b'] and seconds.keys() == {'a', 'b', 'c'}


def test_a_failure_is_reported_and_the_other_jobs_end_when_the_caller_stops(tmp_path):
    jobs = [
        job(tmp_path, 'long', 'import time; time.sleep(60)'),
        job(tmp_path, 'bad', "import sys; sys.exit('error: no such thing')"),
    ]
    began = time.monotonic()
    ended = next(run_jobs(jobs, workers=2, poll=0.02))
    assert (ended.job.name, ended.status, ended.last_words) == ('bad', 1, 'error: no such thing')
    assert time.monotonic() - began < 20


def test_jobs_at_a_time_see_different_gpus_and_equal_shares_of_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 6)
    code = (
        'import os, time; print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"], flush=True); time.sleep({})'
    )
    jobs = [job(tmp_path, name, code.format(seconds)) for name, seconds in (('a', 1), ('b', 0), ('c', 0))]
    ended = [each.job.name for each in run_jobs(jobs, workers=2, poll=0.02, gpus=['3', '5'])]
    assert ended == ['b', 'c', 'a']
    assert [each.log.read_text() for each in jobs] == ['3 3\n', '5 3\n', '5 3\n']


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a child that its parent is gone')
def test_no_job_outlives_a_killed_parent(tmp_path):
    child, parent_code = tmp_path / 'child.py', tmp_path / 'parent.py'
    child.write_text(
        'import os, pathlib, time\npathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))\ntime.sleep(60)\n'
    )
    parent_code.write_text(
        'import pathlib, sys\nfrom mmps.benchmark.jobs import Job, run_jobs\n'
        f'child = pathlib.Path({str(child)!r})\n'
        'list(run_jobs([Job("long", [sys.executable, str(child)], child.with_name("log"))], workers=1))\n'
    )
    parent = subprocess.Popen(
        [sys.executable, str(parent_code)], env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    )
    while not (tmp_path / 'pid').exists() or not (tmp_path / 'pid').read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    pid = int((tmp_path / 'pid').read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f'process {pid} still runs')
