"""What the set-up promises: nothing is compiled, one installation, a package that is found."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
METAFILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob('configs/*/metafile.yml'))
needs_metafiles = pytest.mark.skipif(not METAFILES, reason='no configs/*/metafile.yml')


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """What ``make install`` needs, in an empty folder, with a Python whose pip writes down what it is asked for."""
    for name in ('Makefile', 'requirements.txt', 'setup.cfg', 'setup.py', 'pyproject.toml'):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    for name in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'TORCH', 'PYTHON'):  # of the make that runs these tests
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def fake_venv(clone, has_mmcv=False, status=0):
    """A .venv whose python answers ``pip show mmcv`` and notes ``pip install``."""
    python = clone / '.venv/bin/python'
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'''#!/bin/sh
case "$*" in
    *"pip show -q mmcv"*) exit {0 if has_mmcv else 1};;
    *"pip "*" install "*) echo "$*" >> "{clone}/asked"; cat "{clone}/.venv/requirements.txt" > "{clone}/wanted"; exit {status};;
    *) exec "{sys.executable}" "$@";;
esac
''')
    python.chmod(0o755)


def make(clone, *args, **environment):
    return subprocess.run(['make', *args], cwd=clone, capture_output=True, text=True, env={**os.environ, **environment})


def asked(clone):
    return (clone / 'asked').read_text().splitlines() if (clone / 'asked').exists() else []


def test_an_old_python_is_turned_away_in_one_line_before_anything_is_made(clone):
    old = clone / 'old-python'
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$1" "import sys; sys.version_info = (3, 9, 1); $2"\n')
    old.chmod(0o755)
    done = make(clone, 'install', f'PYTHON={old}')
    assert done.returncode
    complaint, *rest = done.stderr.splitlines()
    assert 'Python 3.10 or newer' in complaint and 'make PYTHON=' in complaint
    assert all(line.startswith('make') for line in rest)
    assert not (clone / '.venv').exists()


def test_a_second_call_installs_nothing_until_a_requirement_changes_or_the_folder_moves(clone):
    fake_venv(clone)
    for _ in range(2):
        assert not make(clone, 'install').returncode
        assert len(asked(clone)) == 1
    with open(clone / 'requirements.txt', 'a') as file:
        file.write('another\n')
    make(clone, 'install')
    assert len(asked(clone)) == 2 and 'another' in (clone / 'wanted').read_text()
    make(clone, 'install', 'TORCH=2.12.0')
    assert 'torch==2.12.0' in asked(clone)[2]
    moved = clone.rename(clone.with_name('moved'))
    fake_venv(moved)
    make(moved, 'install')
    assert len(asked(moved)) == 4


def test_an_installation_that_failed_is_tried_again(clone):
    fake_venv(clone, status=1)
    assert make(clone, 'install').returncode
    fake_venv(clone)
    assert not make(clone, 'install').returncode
    assert len(asked(clone)) == 2


@pytest.mark.parametrize('has_mmcv', [False, True])
def test_a_compiled_mmcv_is_left_alone(clone, has_mmcv):
    fake_venv(clone, has_mmcv=has_mmcv)
    make(clone, 'install')
    assert ('mmcv-lite' in (clone / 'wanted').read_text()) == (not has_mmcv)


@pytest.mark.parametrize('status', [0, 3])
def test_ci_passes_the_outcome_on_and_ends_with_its_summary(tmp_path, monkeypatch, status):
    (tmp_path / '.ci').mkdir()
    shutil.copy(ROOT / '.ci/run', tmp_path / '.ci')
    (tmp_path / 'Makefile').write_text(f'test:\n\t@echo "1 passed in 0.10s"; echo more; exit {status}\n')
    for name in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL'):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([str(tmp_path / '.ci/run')], stdout=subprocess.PIPE, text=True)
    assert done.stdout.splitlines()[-1] == '1 passed in 0.10s'
    assert (done.returncode == 0) == (status == 0)


@pytest.mark.parametrize('name', ['configs', 'tools', 'model-index.yml'])
def test_openmmlab_tools_find_what_belongs_to_the_installed_package(name):
    from mmengine.utils import get_installed_path

    assert Path(get_installed_path('mmps'), '.mim', name).resolve() == ROOT / name


def test_an_editable_install_is_found_from_any_folder(tmp_path):
    code = 'from mmengine.utils import get_installed_path; print(get_installed_path("mmps"))'
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert Path(done.stdout.strip()).resolve() == ROOT / 'mmps', done.stderr


def test_a_wheel_holds_configs_tools_licence_and_command(tmp_path):
    clone = tmp_path / 'clone'
    clone.mkdir()
    for name in ('mmps', 'configs', 'tools'):
        shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'setup.cfg', 'pyproject.toml', 'requirements.txt', 'model-index.yml', 'MANIFEST.in', 'LICENSE'):
        shutil.copy(ROOT / name, clone)
    offline = ['--no-deps', '--no-index', '--no-build-isolation']
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', *offline, '-w', '..', '.'], cwd=clone, check=True)
    with zipfile.ZipFile(next(tmp_path.glob('mmps-*.whl'))) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist()}
    wanted = [path for name in ('configs', 'tools') for path in clone.joinpath(name).rglob('*.py')]
    for path in [*wanted, *clone.glob('configs/*/metafile.yml'), clone / 'model-index.yml']:
        assert held[f'mmps/.mim/{path.relative_to(clone).as_posix()}'] == path.read_bytes()
    info = next(name.split('/')[0] for name in held if '.dist-info/' in name)
    assert held[f'{info}/licenses/LICENSE'] == (clone / 'LICENSE').read_bytes()
    assert held[f'{info}/entry_points.txt'].decode().split() == ['[console_scripts]', 'mmps', '=', 'mmps.cli.main:main']
    metadata = held[f'{info}/METADATA'].decode()
    assert 'License: Apache-2.0' in metadata and 'Author: mmps contributors' in metadata and 'Author-email' not in metadata


@needs_metafiles
def test_the_model_index_names_every_metafile():
    assert sorted(yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']) == METAFILES


@needs_metafiles
def test_every_published_config_is_reached_by_name_after_importing_mmps():
    from mmengine.hub import get_config

    import mmps  # noqa: F401

    models = [model for path in METAFILES for model in yaml.safe_load((ROOT / path).read_text())['Models']]
    for model in models:
        assert (ROOT / model['Config']).is_file()
    name = models[0]['Config'].removeprefix('configs/')
    assert get_config(f'mmps::{name}').model
