"""torchrun on two CPU ranks, as tools/dist_train.sh starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmps.synthetic import generate

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py'
TWO_RANKS = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
pytestmark = pytest.mark.soak


def run(command, folder, *arguments):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run([*command, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]


def scores(work_dir):
    log = json.loads(max(work_dir.glob('2*/2*.json')).read_text().splitlines()[-1])
    return {name: value for name, value in log.items() if name.startswith('search/')}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two_ranks')
    generate(folder / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')
    roots = [f'{split}_dataloader.dataset.data_root={folder / "tiny"}' for split in ('train', 'val', 'test')]
    options = [
        '--cfg-options',
        *roots,
        'randomness.seed=0',
        'train_cfg.max_epochs=1',
        'param_scheduler.1.end=1',
        'model.test_cfg.rcnn.score_thr=0.0',
        'val_evaluator.score_thr=0.01',
        'test_evaluator.score_thr=0.01',
    ]
    run(TWO_RANKS, folder, ROOT / 'tools/train.py', STUDENT, '--launcher', 'pytorch', '--work-dir', folder / 'run', *options)
    return folder, options


def test_two_ranks_train_and_save_a_memory_that_both_filled(trained):
    folder, _ = trained
    weights = torch.load(folder / 'run/epoch_1.pth')['state_dict']
    lut = weights['roi_head.reid_loss.memory.lut']
    # 24 scenes over two ranks show every one of the 10 identities; a rank alone would have written its own half.
    assert lut.shape == (10, 128) and (lut.norm(dim=1) - 1).abs().max() < 1e-5


def test_two_ranks_score_what_one_process_scores(trained):
    folder, options = trained
    for command, launcher, name in (([sys.executable], 'none', 'one'), (TWO_RANKS, 'pytorch', 'two')):
        run(
            command,
            folder,
            ROOT / 'tools/test.py',
            STUDENT,
            folder / 'run/epoch_1.pth',
            '--launcher',
            launcher,
            '--work-dir',
            folder / name,
            *options,
        )
    one, two = scores(folder / 'one'), scores(folder / 'two')
    assert one == pytest.approx(two, abs=1e-6) and one['search/det_recall'] > 0
    # Both ranks validated the network that was saved: their running statistics had been made one before.
    logged = json.loads(max((folder / 'run').glob('2*/vis_data/scalars.json')).read_text().splitlines()[-1])
    validated = {name: score for name, score in one.items() if name.split('/')[1].startswith(('mAP', 'top', 'det'))}
    assert {name: logged[name] for name in validated} == pytest.approx(validated, abs=1e-6)


def test_two_ranks_distil(trained):
    folder, options = trained
    distil = ROOT / 'configs/gdps/gdps_oim-r18-w32_oim-r18-w8_10e_synthps-mini.py'
    run(
        TWO_RANKS,
        folder,
        ROOT / 'tools/train.py',
        distil,
        '--launcher',
        'pytorch',
        '--work-dir',
        folder / 'distilled',
        *options[:-3],
        'model.teacher.cfg_path=mmps::oim/oim_r18-w8-fpn_10e_synthps-mini.py',
        f'model.teacher_ckpt={folder / "run/epoch_1.pth"}',
    )
    weights = torch.load(folder / 'distilled/epoch_1.pth')['state_dict']
    assert not any(name.startswith('teacher.') for name in weights)
    assert (weights['roi_head.reid_loss.memory.lut'].norm(dim=1) - 1).abs().max() < 1e-5


def test_two_ranks_with_a_share_of_the_lookup_table_each_train_as_with_all_of_it(trained):
    folder, options = trained
    loss = 'model.roi_head.reid_loss'
    sharded = [*options, f'{loss}.sharded=True', f'{loss}.rows_at_once=4', 'default_hooks.checkpoint.save_best=search/mAP']
    train = ROOT / 'tools/train.py', STUDENT, '--launcher', 'pytorch', '--work-dir', folder / 'sharded'
    run(TWO_RANKS, folder, *train, *sharded)
    whole, spread = (torch.load(folder / name / 'epoch_1.pth')['state_dict'] for name in ('run', 'sharded'))
    memory = 'roi_head.reid_loss.memory.'
    assert spread[f'{memory}lut'].shape == whole[f'{memory}lut'].shape
    torch.testing.assert_close(spread[f'{memory}queue'], whole[f'{memory}queue'], rtol=0, atol=0.05)
    assert (F.cosine_similarity(spread[f'{memory}lut'], whole[f'{memory}lut']) > 0.99).all()
    (best,) = (folder / 'sharded').glob('best_*.pth')
    assert torch.equal(torch.load(best)['state_dict'][f'{memory}lut'], spread[f'{memory}lut'])
    run(TWO_RANKS, folder, *train, '--resume', *sharded, 'train_cfg.max_epochs=2')
    assert torch.load(folder / 'sharded/epoch_2.pth')['state_dict'][f'{memory}lut'].shape == whole[f'{memory}lut'].shape
