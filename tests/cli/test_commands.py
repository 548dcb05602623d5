"""The command ``mmps``: its list of subcommands, what it says of a wrong one, and that the scripts in tools/ are the same."""

import json
import runpy
import sys
from configparser import ConfigParser
from importlib import import_module

import numpy as np
import pytest

from mmps import __version__
from mmps.apis.scoring import annotated_persons
from mmps.cli.main import COMMANDS, main, module_of
from mmps.datasets import CUHKSYSU
from mmps.evaluation import Predictions, save_predictions

SCRIPTS = {
    'train': 'train.py',
    'test': 'test.py',
    'evaluate': 'evaluate.py',
    'report': 'analysis/search_report.py',
    'compare': 'analysis/compare_runs.py',
    'benchmark': 'benchmark.py',
    'demo': 'demo.py',
    'index': 'index.py',
    'search': 'search.py',
    'gallery': 'gallery.py',
    'page': 'page.py',
    'synth': 'make_synthetic.py',
    'print-config': 'print_config.py',
    'cache-teacher': 'cache_teacher.py',
    'export-lookup-table': 'export_lookup_table.py',
    'convert seqnet': 'model_converters/seqnet2mmps.py',
    'convert alignps': 'model_converters/alignps2mmps.py',
    'publish': 'model_converters/publish.py',
    'export': 'export.py',
}


@pytest.fixture
def mmps(monkeypatch, capsys):
    """mmps(arguments) -> exit status or message, and what was printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['mmps', *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return stop.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    return call


def test_every_subcommand_is_listed_with_a_short_sentence_and_none_is_imported(mmps, monkeypatch):
    for name in COMMANDS:
        monkeypatch.delitem(sys.modules, f'mmps.cli.{module_of(name)}', raising=False)
    status, printed = mmps('--help')
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines() if line.startswith('  '))
    assert status == 0 and tuple(lines) == COMMANDS
    assert all(20 < len(sentence) < 90 and sentence.endswith('.') for sentence in lines.values())
    assert not [name for name in COMMANDS if f'mmps.cli.{module_of(name)}' in sys.modules]
    assert lines['train'] == import_module('mmps.cli.train').__doc__


@pytest.mark.parametrize('name', COMMANDS)
def test_help_shows_the_arguments_of_a_subcommand(mmps, name):
    status, printed = mmps(name, '--help')
    assert status == 0 and printed.startswith(f'usage: mmps {name} [-h]')


@pytest.mark.parametrize('command', SCRIPTS)
def test_a_script_calls_the_function_of_its_subcommand(load_script, repository, command):
    name, *arguments = command.split()
    called = load_script(repository / 'tools' / SCRIPTS[command]).main
    assert getattr(called, 'func', called) is import_module(f'mmps.cli.{module_of(name)}').main
    assert list(getattr(called, 'args', [])) == arguments


def test_every_tool_has_a_subcommand(repository):
    tools = repository / 'tools'
    scripts = {path.relative_to(tools).as_posix() for path in tools.rglob('*.py') if path.parent.name != 'benchmarks'}
    assert scripts == set(SCRIPTS.values())
    assert {command.split()[0] for command in SCRIPTS} == set(COMMANDS)


def test_the_version_is_the_packages(mmps):
    assert mmps('--version') == (0, f'mmps {__version__}\n')


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['trian'], "error: there is no subcommand 'trian': did you mean train? (mmps --help lists all)"),
        (['Xyzzy'], "error: there is no subcommand 'Xyzzy' (mmps --help lists all)"),
        ([], 'error: expected a subcommand (mmps --help lists all)'),
    ],
)
def test_an_unknown_subcommand_is_answered_with_the_nearest_name(mmps, arguments, message):
    assert mmps(*arguments) == (message, '')


def test_wrong_input_of_a_subcommand_ends_with_one_line(mmps, tmp_path):
    status, printed = mmps('evaluate', tmp_path / 'nothing.npz')
    assert status.startswith('error: which test do the predictions answer?') and '\n' not in status and not printed


def test_the_installed_command_is_this_function(repository):
    metadata = ConfigParser()
    metadata.read(repository / 'setup.cfg')
    assert metadata['options.entry_points']['console_scripts'].split() == ['mmps', '=', f'{main.__module__}:main']


def test_python_m_is_the_command_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['', '--version'])
    runpy.run_module('mmps', run_name='__main__')
    assert capsys.readouterr().out == f'mmps {__version__}\n'


def test_drawn_scenes_are_scored(mmps, tmp_path, monkeypatch):
    """A whole run of the two cheapest subcommands: perfect predictions of SynthPS tiny have a mAP of 1."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    assert mmps('synth', '--size', 'tiny', tmp_path / 'tiny')[0] == 0
    dataset = CUHKSYSU(str(tmp_path / 'tiny'), test_mode=True, pipeline=[])
    protocol = dataset.metainfo['protocol']
    boxes, person_ids = annotated_persons(dataset)
    one_hot = np.eye(protocol.num_queries + 1, dtype=np.float32)
    rows = {person: row for row, person in enumerate(protocol.query_person_ids)}
    predictions = Predictions(
        protocol.images,
        boxes,
        [np.ones(len(each), np.float32) for each in boxes],
        [one_hot[[rows.get(person, -1) for person in each]] for each in person_ids],
        one_hot[[rows[person] for person in protocol.query_person_ids]],
    )
    save_predictions(tmp_path / 'predictions.npz', predictions)
    arguments = ['--dataset', 'cuhk-sysu', '--data-root', tmp_path / 'tiny', '--searches', '--out', tmp_path / 'scores']
    status, printed = mmps('evaluate', tmp_path / 'predictions.npz', *arguments)
    assert status == 0 and '## Search' in printed
    scores = json.loads((tmp_path / 'scores/scores.json').read_text())
    assert scores['search'][scores['headline']]['mAP'] == 1
