"""A data set is written completely or not at all, and its bytes depend on the arguments alone."""

import ast
import hashlib
import os
import runpy
import sys
from pathlib import Path

import pytest

import mmps.synthetic
from mmps.synthetic import OutputInUse, Size, contact_sheet, generate

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/make_synthetic.py'
FEW = Size('few', 64, 112, 6, 6, 2, 2, (2, 3), 2, 2)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def run_tool(monkeypatch, *args):
    """Runs the tool in this process, because a new one would spend its time on imports."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
    runpy.run_path(str(TOOL), run_name='__main__')


@pytest.mark.parametrize('layout', ['cuhk-sysu', 'prw'])
def test_two_workers_write_the_bytes_of_one(tmp_path, layout):
    assert generate(tmp_path / 'one', layout, 'tiny', seed=5, workers=1, progress=False)
    assert generate(tmp_path / 'two', layout, 'tiny', seed=5, workers=2, progress=False)
    one = digests(tmp_path / 'one')
    assert len(one) > 40
    assert one == digests(tmp_path / 'two')


def test_another_seed_draws_other_scenes(tmp_path):
    generate(tmp_path / 'a', 'prw', FEW, seed=0, progress=False)
    generate(tmp_path / 'b', 'prw', FEW, seed=1, progress=False)
    a, b = digests(tmp_path / 'a'), digests(tmp_path / 'b')
    assert not {a[name] for name in a if name.endswith('.jpg')} & {b[name] for name in b if name.endswith('.jpg')}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / 'out').mkdir()
    assert generate(tmp_path / 'out', 'prw', FEW, progress=False)
    assert (tmp_path / 'out/synthps.json').is_file()
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_a_second_call_does_nothing(tmp_path):
    generate(tmp_path / 'out', 'prw', FEW, progress=False)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')}
    assert not generate(tmp_path / 'out', 'prw', FEW, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')}


@pytest.mark.parametrize('other', [dict(layout='cuhk-sysu'), dict(seed=1), dict(size='tiny')])
def test_another_data_set_is_not_overwritten(tmp_path, other):
    generate(tmp_path / 'out', 'prw', FEW, progress=False)
    before = digests(tmp_path / 'out')
    with pytest.raises(OutputInUse, match='not overwritten'):
        generate(tmp_path / 'out', **{'layout': 'prw', 'size': FEW, 'seed': 0, **other}, progress=False)
    assert digests(tmp_path / 'out') == before


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    module = sys.modules['mmps.synthetic.generate']
    drawn = []

    def stop(scene, studio):
        drawn.append(scene)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return render(scene, studio)

    render = module.render_jpeg
    monkeypatch.setattr(module, 'render_jpeg', stop)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / 'out', 'prw', FEW, progress=False)
    assert len(drawn) == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs a process to kill')
def test_a_killed_run_leaves_no_data_set_and_does_not_block_the_next(tmp_path, monkeypatch):
    module = sys.modules['mmps.synthetic.generate']
    with monkeypatch.context() as patch:
        # The process ends without cleaning up, at the point where it would write its annotations.
        patch.setattr(module, 'write_annotations', lambda *_: os._exit(9))
        # OpenCV's threads would not survive the fork.
        with module._single_opencv_thread():
            child = os.fork()
            if child == 0:
                try:
                    generate(tmp_path / 'out', 'prw', FEW, progress=False)
                finally:
                    os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (tmp_path / 'out').exists()
    assert generate(tmp_path / 'out', 'prw', FEW, progress=False)


def test_the_tool_refuses_a_folder_with_other_files_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / 'thesis.txt').write_text('years of work')
    with pytest.raises(SystemExit) as stop:
        run_tool(monkeypatch, '--layout', 'prw', '--size', 'tiny', tmp_path)
    # Python prints such a code on stderr and exits with 1.
    assert isinstance(stop.value.code, str)
    assert 'not overwritten' in stop.value.code
    assert '\n' not in stop.value.code
    assert capsys.readouterr() == ('', '')
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']
    assert (tmp_path / 'thesis.txt').read_text() == 'years of work'


def test_the_tool_draws_once_and_then_says_that_there_is_nothing_to_do(tmp_path, monkeypatch, capsys):
    arguments = '--layout', 'prw', '--size', 'tiny', '--seed', 2, tmp_path / 'out'
    run_tool(monkeypatch, *arguments)
    before = digests(tmp_path / 'out')
    capsys.readouterr()
    run_tool(monkeypatch, *arguments)
    assert 'nothing to do' in capsys.readouterr().out
    assert digests(tmp_path / 'out') == before


def test_too_few_scenes_for_the_identities_are_refused(tmp_path):
    with pytest.raises(ValueError, match='too few'):
        generate(tmp_path / 'out', 'prw', Size('bad', 64, 112, 3, 3, 50, 2, (2, 3), 2, 2), progress=False)
    assert not list(tmp_path.iterdir())


def test_a_contact_sheet_has_a_row_for_every_identity():
    sheet = contact_sheet('prw', FEW, rows=2, columns=3)
    assert sheet.shape == (400, 300, 3)


def test_it_needs_nothing_from_the_rest_of_mmps():
    allowed = {*sys.stdlib_module_names, 'numpy', 'cv2', 'scipy', 'tqdm'}
    for path in Path(mmps.synthetic.__file__).parent.glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {name.name.split('.')[0] for name in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (node.level == 0 and node.module.split('.')[0] in allowed), path
