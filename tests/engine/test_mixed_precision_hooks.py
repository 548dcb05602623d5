"""A step that the loss scaler skips does not change the model and does not stop the training."""

from operator import itemgetter
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmps.engine.hooks import SkippedStepHook, StopOnInvalidLossHook
from mmps.models import IdentityMemory
from mmps.models.losses import OIMLoss

NAN, HUGE = float('nan'), 1e34  # factors of the loss; HUGE overflows only when the scaler scales it


class Embedder(BaseModel):
    """One layer, normalization and OIM. A sample is the factor of the loss; NaN reaches the embeddings too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm, self.oim = nn.Linear(6, 4), nn.BatchNorm1d(4), OIMLoss(5, queue_size=3, embed_dims=4)

    def forward(self, inputs, data_samples, mode):
        embeddings = nn.functional.normalize(self.norm(self.linear(inputs)).float())
        return dict(loss_reid=data_samples * self.oim(embeddings, torch.arange(len(inputs)) % 6 - 1))


@pytest.fixture
def train(monkeypatch, tmp_path, mmps_scope):
    """train(factor of the first batch, of the second, ...) returns the runner after as many iterations.

    MMEngine's wrapper wants a GPU: here its scaler is that for the CPU.
    """
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)

    def run(*factors, hooks=None, scaled=True, fused=False, resume=False, **kwargs):
        generator = torch.Generator().manual_seed(1)
        batches = [
            dict(inputs=torch.randn(6, 6, generator=generator) * (factor if factor is NAN else 1), data_samples=factor)
            for factor in factors
        ]
        model = Embedder()
        wrapper = AmpOptimWrapper(
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=fused), dtype='bfloat16', **kwargs
        )
        wrapper.loss_scaler = torch.amp.GradScaler('cpu', enabled=scaled)
        runner = Runner(
            model,
            str(tmp_path / str(len(list(tmp_path.iterdir())) - resume)),
            optim_wrapper=wrapper,
            resume=resume,
            train_dataloader=DataLoader(batches, collate_fn=itemgetter(0)),
            train_cfg=dict(by_epoch=False, max_iters=len(factors)),
            default_scope='mmps',
            custom_hooks=hooks if hooks is not None else [StopOnInvalidLossHook(), SkippedStepHook()],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
            experiment_name=f'{tmp_path.name}{id(model)}',
        )
        runner.train()
        return runner

    return run


def assert_same(one, other):
    for name, value in other.items():
        assert torch.equal(one[name], value), name


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('overflow', [HUGE, NAN])
def test_a_skipped_step_changes_neither_weights_nor_memory_nor_statistics(train, overflow, fused):
    expected, found = train(1, 1, fused=fused), train(1, 1, overflow, fused=fused)
    assert found.iter == 3 and found.optim_wrapper.loss_scaler.get_scale() == 2.0**15
    assert_same(found.model.state_dict(), expected.model.state_dict())
    start = Embedder().state_dict()
    assert not any(torch.equal(value, start[name]) for name, value in found.model.state_dict().items())


@pytest.mark.parametrize('factors', [(1, 1, HUGE, 1), (1, 1, 1, HUGE), (1, 1, NAN, 1), (1, 1, NAN), (1, 1, HUGE)])
def test_one_overflow_restores_all_accumulated_batches(train, factors):
    """This includes the last batches of an epoch, which may be fewer."""
    expected, found = (train(*each, accumulative_counts=2) for each in ((1, 1), factors))
    assert_same(found.model.state_dict(), expected.model.state_dict())


def test_the_next_step_trains_again(train):
    skipped, step = train(1, HUGE).model.state_dict(), train(1, HUGE, 1).model.state_dict()
    assert not any(torch.equal(value, skipped[name]) for name, value in step.items())


def test_steps_that_are_not_skipped_equal_those_without_the_hook(train):
    assert_same(train(1, 1, 1).model.state_dict(), train(1, 1, 1, hooks=[]).model.state_dict())


def test_overflows_in_a_row_stop_the_training_after_patience_steps(train, tmp_path):
    hooks = [StopOnInvalidLossHook(), SkippedStepHook(patience=2)]
    assert train(NAN, NAN, 1, NAN, NAN, 1, hooks=hooks).iter == 6
    hooks = [StopOnInvalidLossHook(), SkippedStepHook(patience=2)]
    with pytest.raises(
        FloatingPointError, match=r'^iteration 4: the loss scaler skipped 3 steps in a row .*loss_reid = nan.*$'
    ):
        train(1, NAN, NAN, NAN, hooks=hooks)
    saved = sorted((tmp_path / '1').glob('*.pth'))
    assert [path.name for path in saved] == ['iter_1.pth', 'iter_2.pth', 'iter_3.pth']
    assert all(value.isfinite().all() for value in torch.load(saved[-1])['state_dict'].values())


@pytest.mark.parametrize('how', [dict(scaled=False), dict(hooks=[StopOnInvalidLossHook()])], ids=['no scaler', 'no hook'])
def test_without_restored_buffers_the_first_invalid_loss_stops(train, tmp_path, how):
    with pytest.raises(FloatingPointError, match=r'^iteration 2: loss = nan, loss_reid = nan; training stopped'):
        train(1, NAN, 1, **how)
    assert [path.name for path in (tmp_path / '0').glob('*.pth')] == ['iter_1.pth']


def test_an_invalid_loss_with_finite_gradients_stops_at_once(train, monkeypatch):
    """The scaler checks only the gradients, so it does not skip the step."""
    forward = Embedder.forward
    monkeypatch.setattr(
        Embedder,
        'forward',
        lambda self, **batch: {name: value + torch.tensor(NAN) for name, value in forward(self, **batch).items()},
    )
    with pytest.raises(FloatingPointError, match=r'iteration 1: .*loss_reid = nan'):
        train(1, 1)


def test_the_scaler_is_saved_and_resumed(train):
    before = train(1, HUGE, 1)
    after = train(1, HUGE, 1, 1, resume=True)
    assert before.optim_wrapper.loss_scaler.state_dict()['_growth_tracker'] == 1
    found = after.optim_wrapper.loss_scaler.state_dict()
    assert found['scale'] == 2.0**15 and found['_growth_tracker'] == 2


def test_all_memories_of_the_student_are_saved_but_not_of_the_teacher(build_detector, make_batch):
    """A detector with two memories whose teacher, of the same kind, does not train."""
    model = nn.ModuleDict(dict(student=build_detector('alignps-roi'), teacher=build_detector('alignps-roi')))
    model.teacher.eval()
    hook, runner = SkippedStepHook(), SimpleNamespace(model=model, optim_wrapper=SimpleNamespace(should_update=lambda: True))
    hook.active = True
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hook.before_train_iter(runner, 0)
    model.student.loss(*make_batch([[0, 3], [-1, 5, 1]]))
    memories = [module for module in model.student.modules() if isinstance(module, IdentityMemory)]
    assert len(memories) == 2 and all(memory.lut.any() and memory.queue_position for memory in memories)
    saved = {id(buffer) for buffer, _ in hook.saved_buffers}
    assert not saved & {id(buffer) for buffer in model.teacher.buffers()}
    hook.after_train_iter(runner, 0)
    assert_same(model.state_dict(), before)
