"""What the set-up promises: refusals in one line before any download, one installation, a package that is found."""
import importlib.util
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
def setup_env(tmp_path, monkeypatch):
    """The set-up script, at work in an empty clone; what it would run is collected in ``commands``."""
    spec = importlib.util.spec_from_file_location('setup_env', ROOT / 'tools/setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / 'clone/.venv'
    venv.mkdir(parents=True)
    (venv / 'python').touch()
    shutil.copy(ROOT / 'requirements.txt', venv.parent)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    paths = {'ROOT': venv.parent, 'VENV': venv, 'PYTHON': venv / 'python', 'STAMP': venv / 'stamp', 'LOG': venv / 'log'}
    for name, path in paths.items():
        monkeypatch.setattr(module, name, str(path))
    module.commands = []
    monkeypatch.setattr(module, 'run', lambda step, command, *args: module.commands.append(command))
    monkeypatch.setattr(module, 'make_venv', lambda: None)
    monkeypatch.setattr(module, 'ask', lambda code: None)
    monkeypatch.setattr(module, 'offered_wheel', lambda version, folder: None)
    return module


def set_up(module, monkeypatch, torch='2.13.0'):
    monkeypatch.setattr(sys, 'argv', ['setup_env.py', '--torch', torch])
    module.main()


@pytest.mark.parametrize('version', ['2, 7', '3, 6', '3, 9'])
def test_an_old_python_is_turned_away_in_one_line_before_anything_is_made(tmp_path, version):
    (tmp_path / 'tools').mkdir()
    script = str(shutil.copy(ROOT / 'tools/setup_env.py', tmp_path / 'tools'))
    pretend = f'import runpy, sys; sys.version_info = ({version}, 1); sys.argv = ["setup_env.py", "--torch", "2.13.0"]'
    code = f'{pretend}; runpy.run_path({script!r}, run_name="__main__")'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and not done.stdout
    assert 'Python 3.10 or newer' in done.stderr and 'make PYTHON=' in done.stderr
    assert not (tmp_path / '.venv').exists()


def test_a_python_newer_than_any_known_is_not_turned_away(setup_env):
    setup_env.check_python((3, 99, 0))


def test_a_missing_compiler_is_told_in_one_line_before_any_download(setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    with pytest.raises(setup_env.SetupError, match=r'C\+\+ compiler .* is missing: install it') as refusal:
        set_up(setup_env, monkeypatch)
    assert '\n' not in str(refusal.value)
    assert setup_env.commands == []


@pytest.mark.parametrize('source', ['cache', 'index'])
def test_no_compiler_is_needed_where_there_is_a_wheel(setup_env, monkeypatch, tmp_path, source):
    monkeypatch.setenv('PATH', str(tmp_path))
    wheel = Path(setup_env.wheel_folder('2.13.0', 'cpu'), 'mmcv-2.1.0-any.whl')
    if source == 'cache':
        wheel.parent.mkdir(parents=True)
        wheel.touch()
    else:
        monkeypatch.setattr(setup_env, 'offered_wheel', lambda version, folder: str(wheel))
    works = iter([False, False, True])  # not there before and after torch; there, once the wheel is installed
    monkeypatch.setattr(setup_env, 'mmcv_works', lambda version: next(works))
    monkeypatch.setattr(setup_env, 'torch_and_device', lambda: ('2.13.0+cpu', 'cpu'))
    monkeypatch.setattr(setup_env, 'ask', lambda code: '2.13.0')
    set_up(setup_env, monkeypatch)
    assert [command[-1] for command in setup_env.commands].count(str(wheel)) == 1


def test_a_wheel_that_does_not_load_with_this_torch_gives_way_to_a_compiled_one(setup_env, monkeypatch):
    compiled = []
    works = iter([False, False, True])  # not there; the offered wheel; the compiled one
    monkeypatch.setattr(setup_env, 'mmcv_works', lambda version: next(works))
    monkeypatch.setattr(setup_env, 'torch_and_device', lambda: ('2.12.0', 'cpu'))
    monkeypatch.setattr(setup_env, 'compile_mmcv', lambda *args: compiled.append(args) or 'compiled.whl')
    setup_env.install_mmcv('step', '2.1.0', 'offered.whl')
    assert [command[-1] for command in setup_env.commands] == ['offered.whl', 'compiled.whl'] and len(compiled) == 1


def test_a_second_call_installs_nothing_until_a_requirement_changes(setup_env, monkeypatch):
    calls = []
    monkeypatch.setattr(setup_env, 'install', calls.append)
    set_up(setup_env, monkeypatch)
    set_up(setup_env, monkeypatch)
    assert calls == ['2.13.0']
    set_up(setup_env, monkeypatch, torch='2.12.0')
    assert calls == ['2.13.0', '2.12.0']
    with open(Path(setup_env.ROOT, 'requirements.txt'), 'a') as file:
        file.write('another\n')
    set_up(setup_env, monkeypatch, torch='2.12.0')
    assert len(calls) == 3


def test_an_installation_that_failed_is_tried_again(setup_env, monkeypatch):
    def fail(torch):
        raise setup_env.SetupError('no network')

    with monkeypatch.context() as patch:
        patch.setattr(setup_env, 'install', fail)
        with pytest.raises(setup_env.SetupError):
            set_up(setup_env, monkeypatch)
    assert setup_env.stamped_state() == ''


def test_a_compiled_wheel_serves_every_clone_with_the_same_python_torch_and_device(setup_env, monkeypatch):
    folder = setup_env.wheel_folder('2.13.0+cpu', 'cpu')
    monkeypatch.setattr(setup_env, 'ROOT', '/elsewhere')
    assert setup_env.wheel_folder('2.13.0', 'cpu') == folder
    assert setup_env.wheel_folder('2.12.0', 'cpu') != folder
    assert setup_env.wheel_folder('2.13.0', 'cuda13.0-_9_0_') != folder
    assert sys.implementation.cache_tag in Path(folder).name
    assert not Path(folder).is_relative_to(ROOT)


def test_progress_is_the_last_count_that_ninja_gave(setup_env):
    assert setup_env.ninja_progress(b'Collecting mmcv') == ''
    output = b'  [1/77] c++ a.o\n  x.h:3: warning\n  [12/77] c++ b.o\n'
    assert setup_env.ninja_progress(output) == 'compiled 12 of 77 files, '


@pytest.mark.parametrize('links', ['', '/some/wheels'])
@pytest.mark.parametrize('status', [0, 3])
def test_ci_adds_the_wheels_beside_the_clone_and_passes_the_outcome_on(tmp_path, monkeypatch, links, status):
    (tmp_path / 'shared/wheels').mkdir(parents=True)
    (tmp_path / 'clone/.ci').mkdir(parents=True)
    shutil.copy(ROOT / '.ci/run', tmp_path / 'clone/.ci')
    recipe = f'@echo "links: $$PIP_FIND_LINKS"; echo "1 passed in 0.10s"; exit {status}'
    (tmp_path / 'clone/Makefile').write_text(f'test:\n\t{recipe}\n')
    monkeypatch.setenv('PIP_FIND_LINKS', links)
    for name in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL'):  # of the make that runs these tests
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([str(tmp_path / 'clone/.ci/run')], stdout=subprocess.PIPE, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == ' '.join(['links:', *filter(None, [links, str(tmp_path.resolve() / 'shared/wheels')])])
    assert lines[-1] == '1 passed in 0.10s'
    assert (done.returncode == 0) == (status == 0)


@pytest.mark.parametrize('name', ['configs', 'tools', 'model-index.yml'])
def test_openmmlab_tools_find_what_belongs_to_the_installed_package(name):
    from mmengine.utils import get_installed_path

    assert Path(get_installed_path('mmps'), '.mim', name).resolve() == ROOT / name


def test_an_editable_install_is_found_from_any_folder(tmp_path):
    code = 'from mmengine.utils import get_installed_path; print(get_installed_path("mmps"))'
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert Path(done.stdout.strip()).resolve() == ROOT / 'mmps', done.stderr


def test_a_wheel_holds_configs_and_tools_as_files(tmp_path):
    clone = tmp_path / 'clone'
    clone.mkdir()
    for name in ('mmps', 'configs', 'tools'):
        shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'setup.cfg', 'pyproject.toml', 'requirements.txt', 'model-index.yml', 'MANIFEST.in'):
        shutil.copy(ROOT / name, clone)
    offline = ['--no-deps', '--no-index', '--no-build-isolation']
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', *offline, '-w', '..', '.'], cwd=clone, check=True)
    with zipfile.ZipFile(next(tmp_path.glob('mmps-*.whl'))) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist()}
    wanted = [path for name in ('configs', 'tools') for path in clone.joinpath(name).rglob('*.py')]
    for path in [*wanted, *clone.glob('configs/*/metafile.yml'), clone / 'model-index.yml']:
        assert held[f'mmps/.mim/{path.relative_to(clone).as_posix()}'] == path.read_bytes()


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
