"""Released checkpoints through the command line: whole and loadable, or one line and nothing written."""

import json
import re
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmps.apis.converters import build_model
from mmps.cli import run_tool
from mmps.fileio.checkpoint import load_exactly
from mmps.registry import MODELS

ALIGNPS = 'alignps/alignps_r50_24e_cuhk-sysu.py'
SEQNET = 'seqnet/seqnet_r50-c4_20e_cuhk-sysu.py'


@pytest.fixture
def call(repository, load_script, tmp_path, monkeypatch):
    """call('seqnet', arguments) runs that tool, or 'publish', in an empty folder; what it ends with, None if all is well."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        script = name if name == 'publish' else f'{name}2mmps'
        tool = load_script(repository / f'tools/model_converters/{script}.py')
        monkeypatch.setattr(sys, 'argv', [tool.__file__, *map(str, arguments)])
        try:
            run_tool(tool.main)
        except SystemExit as stop:
            return stop.code

    return run


@pytest.fixture
def small(tmp_path, detector_config):
    """A small AlignPS: its config and a checkpoint as its authors would release it, of 5 identities."""
    cfg = detector_config('alignps', num_identities=0)
    Config(dict(model=cfg)).dump(tmp_path / 'small.py')
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(cfg)
    tensors = as_released(model.state_dict(), lut=torch.randn(5, 16), queue=torch.zeros(10, 16), tail=torch.tensor(3))
    torch.save({'meta': {'epoch': 24}, 'state_dict': tensors}, tmp_path / 'epoch_24.pth')
    return tensors


def as_released(tensors, lut, queue, tail):
    named = {name: tensor for name, tensor in tensors.items() if '.memory.' not in name}
    return named | {
        'bbox_head.labeled_matching_layer.lookup_table': lut,
        'bbox_head.unlabeled_matching_layer.queue': queue,
        'bbox_head.unlabeled_matching_layer.tail': tail,
    }


def test_what_is_written_is_the_models_checkpoint(call, small, tmp_path, capsys):
    assert call('alignps', 'epoch_24.pth', 'new/ours.pth', 'small.py') is None
    said = capsys.readouterr().out
    assert said.startswith(f'new/ours.pth: {len(small)} tensors, 5 identities ') and said.count('\n') == 1
    assert said.rstrip().endswith('python tools/test.py small.py new/ours.pth')
    written = torch.load(tmp_path / 'new/ours.pth', weights_only=True)
    assert written['meta'] == dict(converted_from='epoch_24.pth', family='alignps', config='small.py')
    model = build_model('small.py')
    load_exactly(model, 'new/ours.pth', 'checkpoint')
    assert torch.equal(model.memory.lut, small['bbox_head.labeled_matching_layer.lookup_table'])
    assert model.memory.queue_position == 3
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['ours.pth']


def test_a_file_that_is_there_is_replaced_only_if_forced(call, small, tmp_path):
    (tmp_path / 'ours.pth').write_text('mine')
    assert call('alignps', 'epoch_24.pth', 'ours.pth', 'small.py') == 'error: ours.pth is there already: --force replaces it'
    assert (tmp_path / 'ours.pth').read_text() == 'mine'
    assert call('alignps', 'epoch_24.pth', 'ours.pth', 'small.py', '--force') is None
    assert len(torch.load(tmp_path / 'ours.pth', weights_only=True)['state_dict']) == len(small)


def test_all_that_is_missing_or_left_over_is_named(call, small, tmp_path):
    small['neck.extra.weight'] = small.pop('neck.fpn_convs.0.weight')
    small['bbox_head.scales.9.scale'] = small.pop('bbox_head.scales.1.scale')
    torch.save(small, tmp_path / 'epoch_24.pth')
    message = call('alignps', 'epoch_24.pth', 'ours.pth', 'small.py')
    assert message.startswith('error: epoch_24.pth is no checkpoint of alignps as small.py has it: ')
    assert '2 missing: neck.fpn_convs.0.weight, bbox_head.scales.1.scale' in message
    assert '2 left over: neck.extra.weight, bbox_head.scales.9.scale' in message
    assert '\n' not in message and not (tmp_path / 'ours.pth').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nothing.pth', 'ours.pth', 'small.py'], 'nothing.pth: No such file or directory'),
        (['small.py', 'ours.pth', 'small.py'], r'small.py is no checkpoint that can be loaded: \w+'),
        (['epoch_24.pth', 'ours.pth', 'nothing.py'], r'.*nothing\.py.*'),
        (['epoch_24.pth', 'small.py/ours.pth', 'small.py'], r'small\.py.*'),
    ],
    ids=['no checkpoint', 'garbage', 'no config', 'no folder'],
)
def test_wrong_arguments_end_with_one_line(call, small, tmp_path, arguments, message):
    said = call('alignps', *arguments)
    assert re.fullmatch(f'error: {message}', said)  # of which no dot is a new line
    assert {path.name for path in tmp_path.iterdir()} == {'small.py', 'epoch_24.pth'}


def test_another_familys_checkpoint_is_refused(call, small, tmp_path):
    message = call('seqnet', 'epoch_24.pth', 'ours.pth')
    assert 'belong to no part of this network: neck.' in message and 'bbox_head.scales.4.scale' in message
    assert '\n' not in message and not (tmp_path / 'ours.pth').exists()


@pytest.fixture
def filled(golden, named_weights):
    """filled('seqnet_r50') -> all tensors of the recorded names and shapes."""

    def fill(name):
        shapes = json.loads(golden(f'expected/{name}_seed0_shapes.json').read_text())
        return {key: torch.as_tensor(value) for key, value in named_weights.fill(shapes).items()}

    return fill


def converted(call, family, tensors, tmp_path, repository, config):
    """The released tensors as the model of the default config has them."""
    torch.save({'model' if family == 'seqnet' else 'state_dict': tensors}, tmp_path / 'released.pth')
    assert call(family, 'released.pth', 'ours.pth') is None
    model = build_model(repository / 'configs' / config)
    load_exactly(model, 'ours.pth', 'checkpoint')
    for path in tmp_path.glob('*.pth'):
        path.unlink()  # 400 MiB
    return model


def test_a_whole_seqnet_is_converted(call, filled, tmp_path, repository, capsys):
    released = filled('seqnet_r50') | {
        'roi_heads.reid_loss.lut': torch.randn(7, 256),
        'roi_heads.reid_loss.cq': torch.randn(5000, 256),
    }
    model = converted(call, 'seqnet', released, tmp_path, repository, SEQNET)
    assert '7 identities' in capsys.readouterr().out
    assert torch.equal(model.memory.lut, released['roi_heads.reid_loss.lut'])
    assert torch.equal(model.memory.queue, released['roi_heads.reid_loss.cq'])
    scores = released['roi_heads.faster_rcnn_predictor.cls_score.bias']
    assert torch.equal(model.roi_head.first.bbox_head.fc_cls.bias, scores.flip(0))


def test_a_whole_alignps_is_converted(call, filled, tmp_path, repository, capsys):
    backbone = build_model(repository / 'configs' / ALIGNPS).backbone.state_dict()
    released = filled('alignps') | {f'backbone.{name}': tensor for name, tensor in backbone.items()}
    model = converted(call, 'alignps', released, tmp_path, repository, ALIGNPS)
    assert ' 0 identities' in capsys.readouterr().out and model.memory.num_identities == 0
    assert torch.equal(model.bbox_head.scales[4].scale, released['bbox_head.scales.4.scale'])
    assert torch.equal(model.backbone.layer4[2].bn3.running_var, backbone['layer4.2.bn3.running_var'])


def test_a_published_checkpoint_is_a_half_of_the_weights_and_loads(call, tmp_path, detector_config, capsys):
    cfg = detector_config('alignps', num_identities=3)
    with DefaultScope.overwrite_default_scope('mmps'):
        trained, again = MODELS.build(cfg), MODELS.build(cfg)
    weights = trained.state_dict()
    torch.save(dict(state_dict=weights, optimizer=dict(state=weights), meta=dict(seed=0)), tmp_path / 'epoch_1.pth')
    assert call('publish', 'epoch_1.pth', 'small.pth') is None
    assert re.fullmatch(rf'small\.pth: {len(weights)} tensors, \d\.\d MB\n', capsys.readouterr().out)
    assert (tmp_path / 'small.pth').stat().st_size < (tmp_path / 'epoch_1.pth').stat().st_size / 1.8
    load_exactly(again, str(tmp_path / 'small.pth'), 'weights')
    for name, value in again.state_dict().items():
        assert value.dtype == weights[name].dtype and torch.allclose(value, weights[name], rtol=1e-3, atol=1e-6)
    assert call('publish', 'epoch_1.pth', 'small.pth') == 'error: small.pth is there already: --force replaces it'
    torch.save(dict(state_dict={'weight': torch.tensor([1e6])}), tmp_path / 'large.pth')
    assert call('publish', 'large.pth', 'never.pth') == 'error: large.pth: float16 cannot hold weight'
    assert not (tmp_path / 'never.pth').exists()
