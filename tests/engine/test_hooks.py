"""The hooks that keep a training honest."""
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import BaseLoop
from mmengine.runner.priority import get_priority
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmps.datasets.cuhk_sysu import CUHKSYSU
from mmps.datasets.fingerprint import fingerprint
from mmps.distillation.lookup_table import Header, save_lookup_table
from mmps.engine.hooks import IdentityHook, LookupTableHook, StopOnInvalidLossHook
from mmps.models import IdentityMemory


class Persons(Dataset):

    def __init__(self, metainfo):
        self.metainfo = metainfo

    def __len__(self):
        return 1


class Loop(BaseLoop):

    def run(self):
        pass


def model_with(num_persons, teacher=None):
    model = nn.Module()
    model.memory = IdentityMemory(num_persons, 4, 8)
    if teacher is not None:
        model.teacher = model_with(teacher)
    return model


def wrapped(model):
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = model
    return wrapper


def runner_with(model, **metainfo):
    loop = Loop(None, DataLoader(Persons(metainfo)))
    return SimpleNamespace(_train_loop=loop, train_loop=loop, model=model, logger=MMLogger.get_instance('hooks'))


def test_the_data_set_sizes_an_open_memory():
    model = model_with(0)
    IdentityHook().before_run(runner_with(model, num_persons=7, dataset_type='PRW'))
    assert model.memory.num_persons == 7 and not model.memory.lut.any()


def test_a_memory_of_the_right_size_is_left_alone():
    model = model_with(7, teacher=7)
    model.memory.lut.fill_(1)
    IdentityHook().before_run(runner_with(model, num_persons=7))
    assert model.memory.lut.eq(1).all()


def test_a_wrapped_model_is_sized_too():
    wrapper = wrapped(model_with(0))
    IdentityHook().before_run(runner_with(wrapper, num_persons=7))
    assert wrapper.module.memory.num_persons == 7


@pytest.mark.parametrize('model, numbers', [
    (model_with(5), ('num_persons=5', '7')),
    (model_with(7, teacher=9), ('teacher', '9', '7')),
    (model_with(0, teacher=9), ('teacher', '9', '7')),
], ids=['model', 'teacher', 'teacher of an open student'])
def test_another_number_is_refused_in_one_line_with_both(model, numbers):
    with pytest.raises(ValueError) as error:
        IdentityHook().before_run(runner_with(model, num_persons=7, dataset_type='PRW'))
    message = str(error.value)
    assert all(number in message for number in numbers) and 'PRW' in message and '\n' not in message


@pytest.mark.parametrize('metainfo', [{}, {'num_persons': 0}])
def test_a_training_set_without_identities_is_refused(metainfo):
    with pytest.raises(ValueError, match=r'PRW.*no labelled identity'):
        IdentityHook().before_run(runner_with(model_with(0), dataset_type='PRW', **metainfo))


def test_a_test_needs_no_training_set():
    model = model_with(0)
    IdentityHook().before_run(SimpleNamespace(_train_loop=dict(type='EpochBasedTrainLoop'), model=model))
    assert model.memory.num_persons == 0


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_an_invalid_loss_stops_the_training_and_is_named(value):
    outputs = {'loss': torch.tensor(value), 'loss_reid': torch.tensor(value), 'loss_cls': torch.tensor(0.5),
               'acc': torch.tensor(float('nan'))}
    with pytest.raises(FloatingPointError, match='iteration 42') as error:
        StopOnInvalidLossHook().after_train_iter(SimpleNamespace(iter=41), 0, None, outputs)
    message = str(error.value)
    assert f'loss = {value}' in message and f'loss_reid = {value}' in message
    assert 'loss_cls' not in message and 'acc' not in message and '\n' not in message


def test_valid_losses_pass():
    hook = StopOnInvalidLossHook()
    hook.after_train_iter(SimpleNamespace(iter=0), 0, None, {'loss': torch.tensor(1.0), 'acc': torch.tensor(float('nan'))})
    hook.after_train_iter(SimpleNamespace(iter=0), 0, None, None)


def test_an_interval_skips_checks():
    hook, runner = StopOnInvalidLossHook(interval=10), SimpleNamespace(iter=8)
    hook.after_train_iter(runner, 0, None, {'loss': torch.tensor(float('nan'))})
    runner.iter = 9
    with pytest.raises(FloatingPointError, match='iteration 10'):
        hook.after_train_iter(runner, 0, None, {'loss': torch.tensor(float('nan'))})


def test_the_default_runtime_has_both_and_checks_before_it_saves(repository, mmps_scope):
    cfg = Config.fromfile(repository / 'configs/_base_/default_runtime.py')
    hooks = [ROOT_HOOKS.build(hook) for hook in cfg.custom_hooks]
    assert {type(hook) for hook in hooks} == {IdentityHook, StopOnInvalidLossHook}
    from mmengine.hooks import CheckpointHook
    assert all(get_priority(hook.priority) < get_priority(CheckpointHook.priority) for hook in hooks)


def test_a_teacher_without_identities_points_to_its_checkpoint():
    with pytest.raises(ValueError, match=r'name its checkpoint as model\.teacher_ckpt'):
        IdentityHook().before_run(runner_with(model_with(0, teacher=0), num_persons=7, dataset_type='PRW'))


def load(identities, num_persons, resume):
    """What the hook leaves of a checkpoint with that many identities for a training set of ``num_persons``."""
    runner = runner_with(model_with(num_persons), num_persons=num_persons)
    runner._resume = resume
    prefix = 'roi_head.reid_loss.memory'
    checkpoint = {'state_dict': {'backbone.weight': torch.ones(1), f'{prefix}.lut': torch.ones(identities, 8),
                                 f'{prefix}.queue': torch.ones(4, 8), f'{prefix}.queue_position': torch.tensor(2)}}
    IdentityHook().after_load_checkpoint(runner, checkpoint)
    return {name.split('.')[-1] for name in checkpoint['state_dict']}


def test_the_memory_of_the_same_identities_is_taken_over():
    assert load(7, 7, resume=True) == load(7, 7, resume=False) == {'weight', 'lut', 'queue', 'queue_position'}


def test_a_training_that_starts_from_another_data_sets_weights_keeps_its_own_memory():
    assert load(9, 7, resume=False) == {'weight'}


def test_resuming_from_another_data_sets_checkpoint_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r'9 identities, the training set 7.*another data set'):
        load(9, 7, resume=True)


@pytest.fixture
def training(repository, load_script, tmp_path, monkeypatch):
    """training(model) -> its runner on a small training set of 2 identities."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    load_script(repository / 'tests/datasets/small_datasets.py').write_cuhk_sysu(tmp_path / 'data')
    dataset = CUHKSYSU(data_root=str(tmp_path / 'data'), pipeline=[])

    def make(model):
        loop = Loop(None, DataLoader(dataset))
        return SimpleNamespace(_train_loop=loop, train_loop=loop, model=model, logger=MMLogger.get_instance('hooks'),
                               _resume=False)
    return make


@pytest.fixture
def table(training, tmp_path):
    """A lookup table for it: the file's path, its header and its rows, of 8 numbers."""
    rows = torch.nn.functional.normalize(torch.randn(2, 8, generator=torch.Generator().manual_seed(0)))
    data = fingerprint(training(None).train_loop.dataloader.dataset)
    header = Header(dataset='CUHKSYSU', data=data, num_persons=2, dims=8, teacher='teacher.py', weights='ab')
    save_lookup_table(tmp_path / 'table.npz', header, rows)
    return str(tmp_path / 'table.npz'), header, rows


@pytest.mark.parametrize('wrap', [lambda model: model, wrapped], ids=['plain', 'wrapped'])
def test_a_lookup_table_is_fixed_once_the_data_set_has_sized_the_memory(training, table, wrap):
    model = model_with(0, teacher=2)  # as under distillation: `memory` is the student's
    runner = training(wrap(model))
    for hook in sorted([LookupTableHook(table[0]), IdentityHook()], key=lambda hook: get_priority(hook.priority)):
        hook.before_run(runner)
    assert torch.equal(model.memory.lut, table[2]) and model.memory.fixed
    assert not model.teacher.memory.lut.any() and not model.teacher.memory.fixed


def test_of_two_memories_only_that_of_the_searched_embeddings_is_fixed(training, table, tmp_path, build_detector):
    detector = build_detector('alignps-roi', num_persons=2)
    save_lookup_table(tmp_path / 'wide.npz', replace(table[1], dims=16), torch.ones(2, 16))
    LookupTableHook(str(tmp_path / 'wide.npz')).before_run(training(detector))
    assert detector.roi_head.reid_loss.memory.fixed and not detector.bbox_head.reid_loss.memory.fixed


@pytest.mark.parametrize('changes, words', [
    (dict(dataset='PRW'), ['training set', 'PRW', 'CUHKSYSU']),
    (dict(num_persons=3), ['number of identities', ' 3', ' 2']),
    (dict(dims=16), ['embedding size', ' 16', ' 8']),
    (dict(data='0123456789abcdef' * 4), ['fingerprint of the training set', '0123456789abcdef']),
], ids=['data set', 'identities', 'dims', 'annotations'])
def test_a_table_that_does_not_fit_is_refused_in_one_line_with_both_sides(training, table, tmp_path, changes, words):
    header = replace(table[1], **changes)
    path = str(tmp_path / 'other.npz')
    save_lookup_table(path, header, torch.ones(header.num_persons, header.dims))
    model = model_with(2)
    with pytest.raises(ValueError) as error:
        LookupTableHook(path).before_run(training(model))
    message = str(error.value)
    assert message.startswith(f'{path}: ') and all(word in message for word in words) and '\n' not in message
    assert f'python tools/export_lookup_table.py CONFIG CHECKPOINT --out {path} --dims 8 ' in message
    assert not model.memory.fixed


def test_a_test_needs_no_lookup_table():
    model = model_with(2)
    LookupTableHook('nothing.npz').before_run(SimpleNamespace(_train_loop=dict(type='EpochBasedTrainLoop'), model=model))
    assert not model.memory.fixed


def test_a_missing_lookup_table_is_named(training):
    with pytest.raises(FileNotFoundError, match=r'nothing\.npz'):
        LookupTableHook('nothing.npz').before_run(training(model_with(2)))


@pytest.mark.parametrize('resume', [False, True])
def test_other_rows_that_a_checkpoint_brings_are_replaced_unless_it_is_to_be_resumed(training, table, resume):
    model, hook = model_with(2), LookupTableHook(table[0])
    runner = training(model)
    hook.before_run(runner)
    runner._resume = resume
    hook.before_train(runner)  # what is loaded is the same table, or nothing
    model.memory.load_state_dict(model_with(2).memory.state_dict())
    if resume:
        with pytest.raises(ValueError, match=r'resume from was trained with another lookup table than .*table\.npz$'):
            hook.before_train(runner)
    else:
        hook.before_train(runner)
        assert torch.equal(model.memory.lut, table[2]) and model.memory.fixed
