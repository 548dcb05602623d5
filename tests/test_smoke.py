"""A minute's check that everything works at all: each detector, and a distillation, train, predict and are scored."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmps.registry import MODELS
from mmps.synthetic import generate
from mmps.synthetic.size import SIZES

pytestmark = pytest.mark.smoke
DETECTORS = [
    'oim/oim_r18-w8-fpn_5e',
    'nae/nae_r18-w8-fpn_10e',
    'seqnet/seqnet_r18-w8-fpn_10e',
    'alignps/alignps_r18-w8_10e',
    'alignps/alignps_r18-w16-roi_10e',
    'reid/reid_r18-w32_10e',
    'oim/oim_mobilenetv2-fpn_3e',
]
GDPS = 'gdps/gdps_oim-mobilenetv2_oim-r18-w8_5e'


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes') / 'tiny'
    generate(folder, 'cuhk-sysu', 'tiny', progress=False, style='classic')
    return folder


@pytest.fixture
def two_steps(repository, scenes, tmp_path):
    """two_steps(config, model={...}) -> scores of a network after two training steps on tiny scenes."""

    def run(name, **changes):
        cfg = Config.fromfile(repository / f'configs/{name}_synthps-mini.py')
        for split in ('train', 'val'):
            cfg[f'{split}_dataloader'].dataset.data_root = str(scenes)
        cfg.train_dataloader.dataset.indices = 2 * cfg.train_dataloader.batch_size
        for pipeline, index in ((cfg.train_dataloader.dataset.pipeline, 2), (cfg.val_dataloader.dataset.pipeline, 1)):
            pipeline[index].scale = (224, 128)
        cfg.merge_from_dict({'train_cfg.max_epochs': 1, 'work_dir': str(tmp_path), 'log_level': 'WARNING', **changes})
        cfg.experiment_name = f'{tmp_path.name}-{name}'
        runner = Runner.from_cfg(cfg)
        before = {key: value.detach().clone() for key, value in runner.model.named_parameters() if value.requires_grad}
        runner.train()
        assert runner.iter == 2
        assert any(not torch.equal(before[key], value) for key, value in runner.model.named_parameters() if key in before)
        return runner.val_loop.run()

    return run


def is_scored(scores):
    assert {'search/mAP', 'search/top-1', 'search/det_AP'} <= scores.keys()
    assert all(0 <= scores[name] <= 1 for name in ('search/mAP', 'search/top-1', 'search/det_AP'))


@pytest.mark.parametrize('name', DETECTORS)
def test_a_detector_trains_predicts_and_is_scored(two_steps, name):
    is_scored(two_steps(name))


def test_a_distilled_student_trains_predicts_and_is_scored(two_steps, repository, tmp_path):
    with DefaultScope.overwrite_default_scope('mmps'):
        teacher = MODELS.build(Config.fromfile(repository / f'configs/{DETECTORS[-1]}_synthps-mini.py').model)
    teacher.memory.resize(SIZES['tiny'].train_ids)
    torch.save({'state_dict': teacher.state_dict()}, tmp_path / 'teacher.pth')
    is_scored(two_steps(GDPS, **{'model.teacher_ckpt': str(tmp_path / 'teacher.pth')}))
