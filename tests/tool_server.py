"""Tools called one after another without importing each time what all of them need."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Imports once what every call needs, then each line of stdin is a call in a process of its own.
SERVER = """
import json, os, runpy, sys
import matplotlib.pyplot, mmengine.runner, mmps.apis, mmps.visualization
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        for stream, name in ((1, 'stdout'), (2, 'stderr')):
            os.dup2(os.open(call[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.argv = call['argv']
        runpy.run_path(call['argv'][0], run_name='__main__')
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ToolServer:
    """``server(tool, ...)`` -> exit status, stdout and stderr of a script of tools/, or of one with its whole path."""

    def __init__(self, environment: dict[str, str], folder: Path):
        self.streams = {name: str(folder / name) for name in ('stdout', 'stderr')}
        self.process = subprocess.Popen(
            [sys.executable, '-c', SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def __call__(self, tool, *args) -> subprocess.CompletedProcess:
        return self.start(tool, *args).wait()

    def start(self, tool, *args) -> 'Call':
        """The call while it runs; it has to be waited for before the next one."""
        argv = [str(ROOT / 'tools' / tool), *map(str, args)]
        self.process.stdin.write(json.dumps({'argv': argv, **self.streams}) + '\n')
        self.process.stdin.flush()
        return Call(self, int(self.process.stdout.readline()), args)


@dataclass
class Call:
    server: ToolServer
    pid: int
    args: tuple

    @property
    def is_running(self) -> bool:
        return Path(f'/proc/{self.pid}').exists()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> subprocess.CompletedProcess:
        status = int(self.server.process.stdout.readline())
        with contextlib.suppress(ProcessLookupError):  # data workers see only after seconds that they are orphans
            os.killpg(self.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(
            self.args, status, *(Path(path).read_text() for path in self.server.streams.values())
        )
