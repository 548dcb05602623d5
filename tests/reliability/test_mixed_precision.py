"""Half precision, over a training: every detector and every distiller has the losses that it has in float32."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmps.models import IdentityMemory
from mmps.registry import MODELS

DISTILLERS = Path(__file__).parents[2] / 'configs' / '_base_' / 'distillers'
DETECTORS = ['fpn', 'nae', 'seqnet', 'alignps', 'alignps-roi', 'deformable']
METHODS = sorted(path.stem for path in DISTILLERS.glob('*.py'))
DTYPES = {'float32': None, 'float16': torch.float16, 'bfloat16': torch.bfloat16}
PERSONS = [[[0, 3], [-1, 5, 1]], [[2], [4, -1]], [[1, 0, -1], [3]], [[5, 2], []]]  # of four batches, over and over


@pytest.fixture
def build(detector_config):
    """build(a detector, or a method of distillation, which then distils that of an FPN) -> the model, always the same."""

    def config(kind):
        cfg = detector_config('alignps' if kind == 'deformable' else kind)
        if kind == 'deformable':
            cfg.neck.conv_cfg = dict(type='DCN')
            cfg.bbox_head.dcn_on_last_conv = True
        parts = [cfg.get('train_cfg') or {}]
        for part in parts:  # which grows
            parts += [each for each in part.values() if isinstance(each, dict)]
            if 'sampler' in part:
                part.sampler.num = 100000  # all: which boxes are drawn is not to depend on the last bit
        return cfg

    def make(kind):
        if kind in METHODS:
            cfg = Config.fromfile(DISTILLERS / f'{kind}.py').distil
            teacher = None if kind == 'hkd-self' else config('fpn')
            if cfg.get('teacher_input') == 'rois':
                teacher = dict(type='CropReIDHead', detector=teacher, crop_size=(32, 16))
            cfg.update(type='PersonSearchDistill', architecture=config('fpn'), teacher=teacher)
        else:
            cfg = config(kind)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmps'):
            model = MODELS.build(cfg)
            model.init_weights()
        for module in model.modules():
            if isinstance(module, IdentityMemory):
                module.lut.copy_(torch.nn.functional.normalize(torch.randn_like(module.lut)))
            elif hasattr(module, 'conv_offset'):  # an offset of 0 would read no neighbour
                torch.nn.init.normal_(module.conv_offset.weight, std=0.1)
        return model.train()

    return make


class Training:
    """SGD, gradients clipped at 10, a loss scaler for float16 with a scale at which no step is skipped."""

    def __init__(self, model, precision, make_batch):
        self.model, self.dtype, self.make_batch = model, DTYPES[precision], make_batch
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.SGD(self.weights, lr=0.003, momentum=0.9, weight_decay=5e-4)
        self.scaler = torch.amp.GradScaler('cpu', init_scale=128.0, enabled=precision == 'float16')

    def losses(self, step):
        torch.manual_seed(step)
        batch = self.make_batch(PERSONS[step % 4], seed=step % 4)
        with torch.autocast('cpu', dtype=self.dtype, enabled=self.dtype is not None):
            losses = self.model.loss(*batch)
        return {
            name: sum(part.sum() for part in (value if isinstance(value, list | tuple) else [value]))
            for name, value in losses.items()
            if 'loss' in name
        }

    def step(self, step):
        losses = self.losses(step)
        self.optimizer.zero_grad()
        self.scaler.scale(sum(losses.values())).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.weights, 10)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {name: value.item() for name, value in losses.items()}


def means(losses):
    """Over the steps, of each term and of their sum."""
    found = {name: sum(each[name] for each in losses) / len(losses) for name in losses[0]}
    return {'total': sum(found.values()), **found}


def compare(build, make_batch, kind, precision, steps):
    """Mean losses in float32, and at the same weights, memories and statistics in another precision.

    The weights are those of float32's training: two free trainings part even if nothing but the last bit of a weight differs.
    """
    training, half = (Training(build(kind), each, make_batch) for each in ('float32', precision))
    expected, found = [], []
    for step in range(steps):
        half.model.load_state_dict(training.model.state_dict())
        with torch.no_grad():
            found.append({name: value.item() for name, value in half.losses(step).items()})
        expected.append(training.step(step))
        assert_sound(half.model)
    return means(expected), means(found)


def assert_sound(model):
    """The memory: float32, of unit length where it normalizes."""
    for memory in (module for module in model.modules() if isinstance(module, IdentityMemory) and module.training):
        assert memory.lut.dtype == memory.queue.dtype == torch.float32
        assert memory.lut.isfinite().all() and memory.queue.isfinite().all()
        if memory.normalize:
            torch.testing.assert_close(memory.lut.norm(dim=1), torch.ones(memory.num_identities))


def changes(found, expected):
    return {name: round(found[name] / value - 1, 4) for name, value in expected.items() if value > 0.01}


@pytest.mark.parametrize('kind', ['alignps', 'gdps'])
@pytest.mark.parametrize('precision', ['float16', 'bfloat16'])
def test_losses_in_half_precision_are_those_in_float32(build, make_batch, kind, precision):
    expected, found = compare(build, make_batch, kind, precision, steps=4)
    assert found.keys() == expected.keys() and found['total'] == pytest.approx(expected['total'], rel=0.02)


def test_a_whole_maps_squares_do_not_overflow(build):
    losses = build('munjal-detector').distiller.distill_losses
    maps = torch.randn(2, 16, 100, 100).half(), torch.randn(2, 16, 100, 100).half()
    with torch.autocast('cpu', dtype=torch.float16):
        found = [loss(s_feature=maps[0], t_feature=maps[1]) for name, loss in losses.items() if 'feature' in name]
    assert found and all(value.dtype == torch.float32 and value.item() == pytest.approx(1, rel=0.02) for value in found)


@pytest.mark.soak
@pytest.mark.parametrize('kind', [*DETECTORS, *METHODS])
@pytest.mark.parametrize('precision', ['float16', 'bfloat16'])
def test_over_50_steps_losses_in_half_precision_are_those_in_float32(build, make_batch, report, kind, precision):
    expected, found = compare(build, make_batch, kind, precision, steps=50)
    report(kind=kind, precision=precision, float32=round(expected['total'], 4), changes=changes(found, expected))
    assert found['total'] == pytest.approx(expected['total'], rel=0.02)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=0.08, abs=0.01), name


@pytest.mark.soak
@pytest.mark.parametrize('kind', ['fpn', 'seqnet', 'alignps', 'gdps'])
def test_trainings_in_half_precision_go_as_one_in_float32(build, make_batch, report, kind):
    """Each on its own for 50 steps; beside them one whose first weights differ in the last bit, for what chance alone does."""
    found = {}
    for name in ('float32', 'float32, other bits', 'float16', 'bfloat16'):
        model = build(kind)
        if 'bits' in name:
            for weight in model.parameters():
                weight.data.mul_(1 + 1e-7 * torch.randn_like(weight))
        training = Training(model, name.split(',')[0], make_batch)
        with torch.backends.mkldnn.flags(enabled=name != 'float16'):  # six times as slow backwards with it
            found[name] = means([training.step(step) for step in range(50)])
        assert_sound(model)
        assert training.scaler.get_scale() >= 128 or name != 'float16'
    expected = found.pop('float32')
    report(kind=kind, float32=round(expected['total'], 4), **{name: changes(each, expected) for name, each in found.items()})
    for name, each in found.items():
        assert each['total'] == pytest.approx(expected['total'], rel=0.15), name
