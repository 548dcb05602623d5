"""A long training does not grow: not in memory, not in file handles, not in processes."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmps.registry import MODELS
from mmps.synthetic import generate

ROOT = Path(__file__).parents[2]
CONFIGS = {
    'gdps': 'gdps/gdps_oim-r18-w32_oim-r18-w8_10e_synthps-mini.py',
    'oim': 'oim/oim_r18-w8-fpn_10e_synthps-mini.py',
    'seqnet': 'seqnet/seqnet_r18-w8-fpn_10e_synthps-mini.py',
    'alignps': 'alignps/alignps_r18-w8_10e_synthps-mini.py',
}
TEACHER = ROOT / 'configs/oim/oim_r18-w32-fpn_10e_synthps-mini.py'
STEPS = 12  # an epoch: 24 scenes, two a step
IN_FLIGHT = 8  # handles that come and go: batches on their way from a worker


def held() -> dict[str, float]:
    """Of this process and its children: memory in MB, where a page that n processes share counts 1 / n for each; open file
    handles; and how many processes they are."""
    children = Path('/proc/self/task', str(os.getpid()), 'children').read_text().split()
    folders = [Path('/proc', process) for process in ('self', *children)]
    rollups = [(folder / 'smaps_rollup').read_text().splitlines() for folder in folders]
    return dict(
        memory=sum(int(line.split()[1]) for lines in rollups for line in lines if line.startswith('Pss:')) / 1024,
        handles=sum(len(list((folder / 'fd').iterdir())) for folder in folders),
        processes=len(folders),
    )


class Measure(Hook):
    """Writes what is held in the middle of every ``interval``-th epoch, when the data workers live, as a line of JSON."""

    def __init__(self, path: Path, interval: int):
        self.path, self.interval = path, interval

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == STEPS // 2 and (runner.epoch + 1) % self.interval == 0:
            with open(self.path, 'a') as file:
                file.write(json.dumps(dict(step=runner.iter + 1, **held())) + '\n')


def train(kind: str, data: str, folder: str, epochs: int, between: int) -> None:
    """A training with a checkpoint and a validation every ``between`` epochs; the tests call it in a process of its own."""
    cfg = Config.fromfile(ROOT / 'configs' / CONFIGS[kind])
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.num_workers = 2
        loader.dataset.data_root = data
        for step in loader.dataset.pipeline:
            if 'scale' in step:
                step.scale = (112, 64)
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg.update(max_epochs=epochs, val_interval=between)
    cfg.default_hooks.checkpoint.interval = between
    cfg.param_scheduler = []
    cfg.work_dir = folder
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = f'{data}/teacher.pth'
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Measure(Path(folder) / 'held.jsonl', max(between // 5, 1)))
    runner.train()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """The data set, and a teacher beside it."""
    folder = tmp_path_factory.mktemp('soak') / 'tiny'
    generate(folder, 'cuhk-sysu', 'tiny', progress=False, style='classic')
    cfg = Config.fromfile(TEACHER).model
    cfg.roi_head.reid_loss.num_identities = 10
    with DefaultScope.overwrite_default_scope('mmps'):
        teacher = MODELS.build(cfg)
    teacher.memory.lut.copy_(torch.nn.functional.normalize(torch.randn_like(teacher.memory.lut)))
    torch.save(dict(state_dict=teacher.state_dict()), folder / 'teacher.pth')
    return folder


@pytest.fixture
def soak(data, environment, tmp_path):
    """soak(kind, steps, epochs between validations) -> what was held, one dict a measurement."""

    def run(kind, steps, between):
        call = f'from test_soak import train; train({kind!r}, {str(data)!r}, {str(tmp_path)!r}, {steps // STEPS}, {between})'
        done = subprocess.run(
            [sys.executable, '-c', call],
            env=environment,
            cwd=Path(__file__).parent,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        measured = [json.loads(line) for line in (tmp_path / 'held.jsonl').read_text().splitlines()]
        assert measured[-1]['step'] > steps - between * STEPS and len(list(tmp_path.glob('epoch_*.pth'))) == 2
        return measured

    return run


@pytest.mark.soak
@pytest.mark.parametrize('kind, steps', [('gdps', 3000), ('oim', 1008), ('seqnet', 1008), ('alignps', 1008)])
def test_a_long_training_does_not_grow(soak, report, kind, steps):
    """Memory: the median of the sixth of the steps after the first sixth against that of the last sixth."""
    measured = soak(kind, steps, between=20 if steps > 2000 else 10)
    begin, end = ([each for each in measured if low <= each['step'] / steps <= low + 1 / 6] for low in (1 / 6, 5 / 6))
    memory = [statistics.median(each['memory'] for each in part) for part in (begin, end)]
    report(
        kind=kind,
        steps=steps,
        memory_mb=[round(each) for each in memory],
        growth=round(memory[1] / memory[0] - 1, 4),
        memory_each=[[each['step'], round(each['memory'], 1)] for each in measured],
        handles=[max(each['handles'] for each in part) for part in (begin, end)],
        processes=measured[-1]['processes'],
    )
    assert memory[1] < 1.03 * memory[0]
    assert max(each['handles'] for each in end) <= max(each['handles'] for each in begin) + IN_FLIGHT
    assert {each['processes'] for each in measured} == {3}
