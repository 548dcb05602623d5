"""Tests what a tool says about wrong input."""

import argparse
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import Registry
from torch._utils import ExceptionWrapper

from mmps.cli import config_parser, few, run_tool
from mmps.cli.explain import one_line
from mmps.cli.run import lost_peer
from mmps.fileio.annotations import AnnotationError
from mmps.registry import MODELS


def message_of(error):
    """Returns the message that run_tool ends with."""

    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_tool(main)
    return stop.value.code


@pytest.mark.parametrize('text', ['-1', '101', 'many'])
def test_a_picture_shows_up_to_a_hundred(text):
    assert few('0') == 0 and few('100') == 100
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected a number from 0 to 100, got '{text}'"):
        few(text)


@pytest.mark.parametrize(
    'error',
    [
        FileNotFoundError('a.mat: no such file'),
        ValueError('a.mat: no such file'),
        FloatingPointError('a.mat: no such file'),
        AnnotationError('a.mat: no such file'),
    ],
)
def test_wrong_input_ends_with_one_line(error):
    assert message_of(error) == 'error: a.mat: no such file'


def test_an_error_of_the_system_names_its_file(tmp_path):
    with pytest.raises(OSError) as raised:
        (tmp_path / 'nothing').read_text()
    assert message_of(raised.value) == f'error: {tmp_path}/nothing: No such file or directory'


def test_a_registrys_words_are_left_out():
    registry = Registry('thing')

    @registry.register_module()
    class Thing:
        def __init__(self):
            raise ValueError('a.mat: expected the key Img')

    with pytest.raises(ValueError) as error:
        registry.build(dict(type='Thing'))
    assert one_line(error.value) == 'a.mat: expected the key Img'
    wrapped = ValueError(
        'class `Runner` in mmengine/runner/runner.py: class `CUHKSYSU` in mmps/datasets/cuhk_sysu.py: '
        'a.mat: expected the key Img'
    )
    assert one_line(wrapped) == 'a.mat: expected the key Img'


@pytest.mark.parametrize(
    'error',
    [FileNotFoundError('a.jpg: no such file'), ValueError('a.jpg: no such file'), AnnotationError('a.jpg: no such file')],
)
def test_a_data_workers_traceback_is_left_out(error):
    try:
        try:
            raise KeyError('what it came from')
        except KeyError as cause:
            raise error from cause
    except Exception:
        wrapped = ExceptionWrapper(where='in DataLoader worker process 0')  # what a DataLoader hands over
    with pytest.raises(type(error)) as raised:
        wrapped.reraise()
    assert 'Original Traceback' in str(raised.value)
    assert one_line(raised.value) == 'a.jpg: no such file'


def test_several_lines_become_one():
    assert one_line(ValueError('first\nsecond')) == 'first second'
    assert one_line(ValueError()) == 'ValueError'


@pytest.mark.parametrize('error', [KeyError('x'), RuntimeError('x'), TypeError('x'), AssertionError('x')])
def test_bugs_keep_their_traceback(error):
    def main():
        raise error

    with pytest.raises(type(error)):
        run_tool(main)


def test_a_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv('MMPS_TRACEBACK', '1')

    def main():
        raise ValueError('x')

    with pytest.raises(ValueError):
        run_tool(main)


def test_nothing_wrong_is_no_exit():
    done = []
    run_tool(lambda: done.append(True))
    assert done


@pytest.mark.parametrize('wrong, near', [('ResNot', 'ResNet'), ('SeqentialRoIHead', 'SequentialRoIHead'), ('FPM', 'FPN')])
def test_an_unknown_type_is_answered_with_names_that_are_like_it(wrong, near):
    with pytest.raises(KeyError) as raised:
        MODELS.build(dict(type='TwoStagePersonSearch', backbone=dict(type=wrong)))
    message = message_of(raised.value)
    assert message.startswith(f"error: there is no model of type '{wrong}': did you mean ") and near in message
    assert '\n' not in message


def test_a_name_like_no_other_is_only_named():
    with pytest.raises(KeyError) as raised:
        MODELS.build(dict(type='Xyzzyqwerty'))
    assert message_of(raised.value) == "error: there is no model of type 'Xyzzyqwerty'"


@pytest.mark.parametrize(
    'wrong, words',
    [
        (
            dict(type='OIMLoss', num_identities=3, queue_size=2, embed_dims=4, scal=1),
            "OIMLoss has no argument 'scal': did you mean scale",
        ),
        (dict(type='ResNet'), "ResNet: missing 1 required positional argument: 'depth'"),
        (
            dict(type='OIMLoss', num_identities='many', queue_size=2, embed_dims=4),
            "IdentityMemory|OIMLoss.*num_identities='many'",
        ),
        (dict(type='TwoStagePersonSearch', backbone=3), 'TwoStagePersonSearch cannot be built with .*dict'),
    ],
)
def test_a_wrong_argument_is_answered_with_its_class(wrong, words):
    with pytest.raises((TypeError, ValueError)) as raised:
        MODELS.build(wrong)
    assert re.match(f'error: .*({words})', message_of(raised.value))


def test_a_wrong_call_inside_the_code_is_a_bug():
    class Part:
        def __init__(self):
            dict.fromkeys()

    def helper(**given):
        Part(**given)

    for call in (Part, lambda: helper(x=1)):
        with pytest.raises(TypeError):
            run_tool(call)


@pytest.mark.parametrize(
    'text, reason',
    [('x', 'expected KEY=VALUE'), ('=1', 'expected KEY=VALUE'), ('x=[1,', 'brackets'), ('x=(1,2),(3,4)', 'brackets around')],
)
def test_an_option_that_is_none_is_refused(text, reason, capsys):
    with pytest.raises(SystemExit) as stop:
        config_parser(None).parse_args(['config.py', '--cfg-options', text])
    assert stop.value.code == 2 and reason in capsys.readouterr().err
    taken = config_parser(None).parse_args(['config.py', '--cfg-options', 'x=[1,2]', 'y=a=b']).cfg_options
    assert taken == {'x': [1, 2], 'y': 'a=b'}


@pytest.mark.parametrize(
    'said, words',
    [
        ('DataLoader worker (pid 7) is killed by signal: Killed. ', 'was killed (signal: Killed): out of memory'),
        ('DataLoader worker (pid(s) 7, 8) exited unexpectedly', 'was killed: out of memory'),
    ],
)
def test_a_killed_data_worker_is_said_so(said, words):
    assert words in message_of(RuntimeError(said))


@pytest.mark.parametrize(
    'said, is_lost',
    [
        ('[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:5. This may indicate', True),
        ('[x.cc:1] Timed out waiting 10000ms for recv operation to complete', True),
        ('DataLoader timed out after 30 seconds', False),
        ('CUDA error: the launch timed out and was terminated\nCUDA kernel errors might be', False),
    ],
)
def test_only_a_rank_that_waited_for_another_has_lost_it(said, is_lost, monkeypatch):
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'get_rank', lambda: 3)
    message = lost_peer(RuntimeError(said))
    assert message.startswith('rank 3 lost another rank') if is_lost else message is None


def test_a_module_that_a_config_imports_may_have_a_bug(tmp_path, monkeypatch):
    (tmp_path / 'with_a_bug.py').write_text("{}['k']")
    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['with_a_bug'])")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyError, match='k'):
        run_tool(lambda: Config.fromfile(tmp_path / 'config.py'))
