"""A clone in an empty folder is set up without a compiler."""

import os
import subprocess
import time

import pytest

pytestmark = pytest.mark.soak


def test_a_clone_is_set_up_without_a_compiler(repository, tmp_path, report):
    subprocess.run(['git', 'clone', '-q', str(repository), str(tmp_path / 'clone')], check=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'TORCH', 'PYTHON', 'PYTHONPATH', 'VIRTUAL_ENV')
    }
    environment |= dict(CC='/bin/false', CXX='/bin/false')
    began = time.monotonic()
    subprocess.run(['make', 'install'], cwd=tmp_path / 'clone', env=environment, check=True)
    report(install_seconds=round(time.monotonic() - began))
    code = 'import mmps; from mmps.compat import operators as o; print(o.on_cpu.__name__, o.compiled_mmcv())'
    found = subprocess.run(
        ['.venv/bin/python', '-W', 'ignore', '-c', code],
        cwd=tmp_path / 'clone',
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ['mmps.compat.torch_kernels', 'None']
