"""Hooks for identities, lookup tables, seeds, checkpoints, validations and invalid losses."""

import os
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import get_file_backend
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import FUNCTIONS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.priority import get_priority
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmps.datasets.cuhk_sysu import CUHKSYSU
from mmps.datasets.fingerprint import fingerprint
from mmps.distillation.lookup_table import Header, save_lookup_table
from mmps.engine.hooks import (
    DueValidationHook,
    IdentityHook,
    LookupTableHook,
    SafeCheckpointHook,
    SeedHook,
    StopOnInvalidLossHook,
)
from mmps.models import IdentityMemory


class Persons(Dataset):
    def __init__(self, metainfo):
        self.metainfo = metainfo

    def __len__(self):
        return 1


class Loop(BaseLoop):
    def run(self):
        pass


def model_with(num_identities, teacher=None):
    model = nn.Module()
    model.memory = IdentityMemory(num_identities, 4, 8)
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


def test_the_data_set_sizes_a_memory_without_identities():
    model = model_with(0)
    IdentityHook().before_run(runner_with(model, num_identities=7, dataset_type='PRW'))
    assert model.memory.num_identities == 7 and not model.memory.lut.any()


def test_a_memory_of_the_right_size_does_not_change():
    model = model_with(7, teacher=7)
    model.memory.lut.fill_(1)
    IdentityHook().before_run(runner_with(model, num_identities=7))
    assert model.memory.lut.eq(1).all()


def test_a_wrapped_model_is_sized_too():
    wrapper = wrapped(model_with(0))
    IdentityHook().before_run(runner_with(wrapper, num_identities=7))
    assert wrapper.module.memory.num_identities == 7


@pytest.mark.parametrize(
    'model, numbers',
    [
        (model_with(5), ('num_identities=5', '7')),
        (model_with(7, teacher=9), ('teacher', '9', '7')),
        (model_with(0, teacher=9), ('teacher', '9', '7')),
    ],
    ids=['model', 'teacher', 'teacher of an open student'],
)
def test_another_number_of_identities_is_refused_in_one_line_with_both(model, numbers):
    with pytest.raises(ValueError) as error:
        IdentityHook().before_run(runner_with(model, num_identities=7, dataset_type='PRW'))
    message = str(error.value)
    assert all(number in message for number in numbers) and 'PRW' in message and '\n' not in message


@pytest.mark.parametrize('metainfo', [{}, {'num_identities': 0}])
def test_a_training_set_without_identities_is_refused(metainfo):
    with pytest.raises(ValueError, match=r'PRW.*no labelled identity'):
        IdentityHook().before_run(runner_with(model_with(0), dataset_type='PRW', **metainfo))


def test_a_test_needs_no_training_set():
    model = model_with(0)
    IdentityHook().before_run(SimpleNamespace(_train_loop=dict(type='EpochBasedTrainLoop'), model=model))
    assert model.memory.num_identities == 0


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_an_invalid_loss_stops_the_training_and_is_named(value):
    outputs = {
        'loss': torch.tensor(value),
        'loss_reid': torch.tensor(value),
        'loss_cls': torch.tensor(0.5),
        'acc': torch.tensor(float('nan')),
    }
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


def test_the_default_runtime_has_the_hooks_and_checks_losses_before_saving(repository, mmps_scope):
    cfg = Config.fromfile(repository / 'configs/_base_/default_runtime.py')
    hooks = {type(hook): get_priority(hook.priority) for hook in map(ROOT_HOOKS.build, cfg.custom_hooks)}
    checkpoint = ROOT_HOOKS.build(cfg.default_hooks.checkpoint)
    assert {IdentityHook, StopOnInvalidLossHook, SeedHook, DueValidationHook} <= hooks.keys()
    assert type(checkpoint) is SafeCheckpointHook
    priority = get_priority(checkpoint.priority)
    assert max(hooks[IdentityHook], hooks[StopOnInvalidLossHook]) < priority < hooks[DueValidationHook]


def test_a_teacher_without_identities_points_to_its_checkpoint():
    with pytest.raises(ValueError, match=r'set its checkpoint in model\.teacher_ckpt'):
        IdentityHook().before_run(runner_with(model_with(0, teacher=0), num_identities=7, dataset_type='PRW'))


def load(identities, num_identities, resume):
    """Returns what the hook keeps of a checkpoint for a training set of ``num_identities`` identities."""
    runner = runner_with(model_with(num_identities), num_identities=num_identities)
    runner._resume = resume
    prefix = 'roi_head.reid_loss.memory'
    checkpoint = {
        'state_dict': {
            'backbone.weight': torch.ones(1),
            f'{prefix}.lut': torch.ones(identities, 8),
            f'{prefix}.queue': torch.ones(4, 8),
            f'{prefix}.queue_position': torch.tensor(2),
        }
    }
    IdentityHook().after_load_checkpoint(runner, checkpoint)
    return {name.split('.')[-1] for name in checkpoint['state_dict']}


def test_a_memory_of_as_many_identities_is_loaded():
    assert load(7, 7, resume=True) == load(7, 7, resume=False) == {'weight', 'lut', 'queue', 'queue_position'}


def test_weights_of_another_data_set_are_loaded_without_their_memory():
    assert load(9, 7, resume=False) == {'weight'}


def test_resuming_from_a_checkpoint_of_another_data_set_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r'9 identities, the training set has 7.*another data set'):
        load(9, 7, resume=True)


@pytest.fixture
def training(repository, load_script, tmp_path, monkeypatch):
    """training(model) returns its runner on a small training set of 2 identities."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    load_script(repository / 'tests/datasets/small_datasets.py').write_cuhk_sysu(tmp_path / 'data')
    dataset = CUHKSYSU(data_root=str(tmp_path / 'data'), pipeline=[])

    def make(model):
        loop = Loop(None, DataLoader(dataset))
        return SimpleNamespace(
            _train_loop=loop, train_loop=loop, model=model, logger=MMLogger.get_instance('hooks'), _resume=False
        )

    return make


@pytest.fixture
def table(training, tmp_path):
    """A lookup table for this training set: path of the file, header and rows (2, 8)."""
    rows = torch.nn.functional.normalize(torch.randn(2, 8, generator=torch.Generator().manual_seed(0)))
    data = fingerprint(training(None).train_loop.dataloader.dataset)
    header = Header(dataset='CUHKSYSU', data=data, num_identities=2, dims=8, teacher='teacher.py', weights='ab')
    save_lookup_table(tmp_path / 'table.npz', header, rows)
    return str(tmp_path / 'table.npz'), header, rows


@pytest.mark.parametrize('wrap', [lambda model: model, wrapped], ids=['plain', 'wrapped'])
def test_the_lookup_table_is_fixed_after_the_data_set_sizes_the_memory(training, table, wrap):
    model = model_with(0, teacher=2)  # as in distillation, where `memory` is that of the student
    runner = training(wrap(model))
    for hook in sorted([LookupTableHook(table[0]), IdentityHook()], key=lambda hook: get_priority(hook.priority)):
        hook.before_run(runner)
    assert torch.equal(model.memory.lut, table[2]) and model.memory.fixed
    assert not model.teacher.memory.lut.any() and not model.teacher.memory.fixed


def test_of_two_memories_only_model_memory_is_fixed(training, table, tmp_path, build_detector):
    detector = build_detector('alignps-roi', num_identities=2)
    save_lookup_table(tmp_path / 'wide.npz', replace(table[1], dims=16), torch.ones(2, 16))
    LookupTableHook(str(tmp_path / 'wide.npz')).before_run(training(detector))
    assert detector.roi_head.reid_loss.memory.fixed and not detector.bbox_head.reid_loss.memory.fixed


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(dataset='PRW'), ['training set', 'PRW', 'CUHKSYSU']),
        (dict(num_identities=3), ['number of identities', ' 3', ' 2']),
        (dict(dims=16), ['embedding size', ' 16', ' 8']),
        (dict(data='0123456789abcdef' * 4), ['fingerprint of the training set', '0123456789abcdef']),
    ],
    ids=['data set', 'identities', 'dims', 'annotations'],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line_with_both_sides(training, table, tmp_path, changes, words):
    header = replace(table[1], **changes)
    path = str(tmp_path / 'other.npz')
    save_lookup_table(path, header, torch.ones(header.num_identities, header.dims))
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
def test_loaded_rows_are_replaced_by_the_table_but_resuming_with_other_rows_is_refused(training, table, resume):
    model, hook = model_with(2), LookupTableHook(table[0])
    runner = training(model)
    hook.before_run(runner)
    runner._resume = resume
    hook.before_train(runner)  # the LUT still holds the table
    model.memory.load_state_dict(model_with(2).memory.state_dict())
    if resume:
        with pytest.raises(ValueError, match=r'resume from was trained with another lookup table than .*table\.npz$'):
            hook.before_train(runner)
    else:
        hook.before_train(runner)
        assert torch.equal(model.memory.lut, table[2]) and model.memory.fixed


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(1, dtype=torch.float64))  # noqa: NPY002


def drawn(before, seed=0, rank=0, iteration=0):
    """Returns the random numbers after SeedHook's ``before``, with other numbers drawn before it."""
    draws()
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    runner = SimpleNamespace(seed=seed, rank=rank, iter=iteration, train_loop=loop)
    SeedHook().before_train_epoch(runner) if before == 'epoch' else SeedHook().before_train_iter(runner, 0)
    return draws()


def test_random_numbers_depend_on_seed_rank_iteration_and_purpose():
    cases = [
        dict(before=before, seed=seed, rank=rank, iteration=iteration)
        for before in ('epoch', 'iteration')
        for seed in (0, 1)
        for rank in (0, 1)
        for iteration in (0, 1, 6)
    ]
    found = [drawn(**case) for case in cases]
    assert found == [drawn(**case) for case in cases]
    for column in zip(*found, strict=True):
        assert len(set(column)) == len(cases)


def test_an_iteration_loop_draws_the_same_batches_whether_trained_or_skipped():

    def batches(trained_from):
        loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
        loop.dataloader_iterator = iter(draws, None)
        runner = SimpleNamespace(seed=0, rank=0, iter=trained_from, train_loop=loop)
        SeedHook().before_train_epoch(runner)
        for number in range(5):
            yield next(loop.dataloader_iterator)
            if number >= trained_from:
                runner.iter = number
                SeedHook().before_train_iter(runner, 0)
                draws()

    assert list(batches(0)) == list(batches(3)) and len(set(batches(0))) == 5


class Drawn(Dataset):
    def __getitem__(self, index):
        return torch.tensor(draws(), dtype=torch.float64)

    def __len__(self):
        return 4


def test_data_workers_draw_differently_in_each_epoch_and_the_same_after_resuming():
    loader = DataLoader(Drawn(), num_workers=2, worker_init_fn=FUNCTIONS.get('seed_worker'))

    def epoch(iteration, rank=0):
        drawn('epoch', iteration=iteration, rank=rank)
        return torch.cat(list(loader))

    first, second, other = epoch(0), epoch(2), epoch(2, rank=1)
    assert torch.equal(epoch(2), second)
    assert torch.cat([first, second, other]).unique().numel() == 3 * 4 * 3  # all are different


@pytest.fixture
def saver(tmp_path, monkeypatch):
    """make(**hook arguments) returns the hook, a runner and the list of files that were written (+) and removed (-)."""

    def make(**kwargs):
        hook = SafeCheckpointHook(interval=1, **kwargs)
        runner = SimpleNamespace(
            work_dir=str(tmp_path),
            message_hub=MessageHub.get_instance(f'{tmp_path}'),
            logger=MMLogger.get_instance('hooks'),
            model=torch.nn.Module(),
            epoch=0,
            iter=0,
        )

        def save(out_dir, filename, *args, backend_args, **_):
            get_file_backend(out_dir, backend_args=backend_args).put(b'checkpoint', os.path.join(out_dir, filename))

        runner.save_checkpoint = save
        hook.before_train(runner)
        return hook, runner

    steps = []
    replace, unlink = os.replace, os.remove
    monkeypatch.setattr(os, 'replace', lambda one, other: (steps.append(f'+{Path(other).name}'), replace(one, other)))
    monkeypatch.setattr(os, 'remove', lambda path: (steps.append(f'-{Path(path).name}'), unlink(path)))
    return make, steps


def test_a_checkpoint_is_removed_after_its_successor_is_the_last_checkpoint(saver):
    make, steps = saver
    hook, runner = make(max_keep_ckpts=1)
    for runner.epoch in range(2):
        hook._save_checkpoint(runner)
    assert steps == ['+epoch_1.pth', '+last_checkpoint', '+epoch_2.pth', '+last_checkpoint', '-epoch_1.pth']


def test_the_best_checkpoint_is_removed_after_a_better_one_is_written(saver):
    make, steps = saver
    hook, runner = make(save_best='mAP', rule='greater')
    for runner.epoch, score in ((1, 0.1), (2, 0.3), (3, 0.2)):
        hook._save_best_checkpoint(runner, {'mAP': score})
    assert steps == ['+best_mAP_epoch_1.pth', '+best_mAP_epoch_2.pth', '-best_mAP_epoch_1.pth']


def test_a_run_of_validation_only_saves_nothing():
    SafeCheckpointHook(interval=1).after_val_epoch(SimpleNamespace(), {'mAP': 0.1})


@pytest.mark.parametrize('arguments', [dict(out_dir='s3://bucket/x'), dict(file_client_args=dict(backend='disk'))])
def test_remote_files_are_written_by_mmengine(arguments):
    assert SafeCheckpointHook(interval=1, **arguments).backend_args is None


def test_files_left_by_a_killed_training_are_removed_at_the_next_start(saver, tmp_path):
    hook, runner = saver[0](max_keep_ckpts=1)
    (tmp_path / 'epoch_1.pth').touch()
    (tmp_path / 'epoch_2.pth.1.tmp').touch()
    (tmp_path / 'last_checkpoint.2.tmp').touch()
    (tmp_path / 'mine.tmp').touch()
    runner.message_hub.update_info('keep_ckpt_ids', [1, 2])  # killed after writing the second, before removing the first
    hook.before_train(runner)
    assert {path.name for path in tmp_path.iterdir()} == {'mine.tmp'} and list(hook.keep_ckpt_ids) == [2]


@pytest.mark.parametrize(
    'loop, done, validated, due',
    [
        (EpochBasedTrainLoop, 0, None, False),  # a new training
        (EpochBasedTrainLoop, 4, None, True),
        (EpochBasedTrainLoop, 4, 2, True),
        (EpochBasedTrainLoop, 4, 4, False),  # saved after the validation
        (EpochBasedTrainLoop, 5, None, False),  # not a validation epoch: the interval is 2
        (EpochBasedTrainLoop, 2, None, False),  # before val_begin
        (EpochBasedTrainLoop, 9, None, True),  # the last epoch
        (IterBasedTrainLoop, 4, None, True),
        (IterBasedTrainLoop, 5, None, False),
        (IterBasedTrainLoop, 9, None, True),
    ],
)
def test_a_validation_that_was_due_at_the_checkpoint_runs_first(loop, done, validated, due, tmp_path):
    hub, made = MessageHub.get_instance(f'{tmp_path}'), []
    by_epoch = loop is EpochBasedTrainLoop
    loop = loop.__new__(loop)
    vars(loop).update(
        _epoch=done if by_epoch else 0,
        _iter=done * 10 if by_epoch else done,
        _max_epochs=9 if by_epoch else 1,
        _max_iters=90 if by_epoch else 9,
        val_begin=3,
        dynamic_milestones=[0],
        dynamic_intervals=[2],
    )
    runner = SimpleNamespace(
        train_loop=loop,
        _train_loop=loop,
        epoch=loop.epoch,
        iter=loop.iter,
        message_hub=hub,
        logger=MMLogger.get_instance('hooks'),
        val_loop=SimpleNamespace(run=lambda: made.append(DueValidationHook().before_val(runner))),
    )
    if validated:
        hub.update_info('validated', validated)
    DueValidationHook().before_train(runner)
    assert len(made) == due and hub.runtime_info.get('validated') == (done if due else validated)
