"""The hook in MMEngine's loops, with a model of one weight that predicts the content of its data samples."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, VISUALIZERS
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from PIL import Image
from torch.utils.data import Dataset

from mmps.engine.hooks import SearchVisualizationHook
from mmps.evaluation import PersonSearchMetric, SearchProtocol
from mmps.visualization import SearchVisualizer
from mmps.visualization.ranked_results import GOLD, GREEN, RED
from mmps.visualization.sheet import read_picture

BOX = torch.tensor([[10.0, 5, 30, 55]])
NAMES = ['failures', 'precision_recall', 'ranked_results', 'similarities']


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples, mode):
        return {'loss': self.weight.sum()} if mode == 'loss' else data_samples


class Scenes(Dataset):
    """The images: of the query, of a more similar other person, of the target, and of a target that is missed."""

    def __init__(self, folder):
        box = BOX.numpy()
        protocol = SearchProtocol.from_galleries(
            ['0', '1', '2', '3'], None, ['0'], box, [0], [[('1', None), ('2', box[0]), ('3', box[0])]]
        )
        self.metainfo = {'protocol': protocol}
        self.paths = [str(folder / f'{i}.png') for i in range(4)]
        for path in self.paths:
            cv2.imwrite(path, np.full((60, 90, 3), 120, np.uint8))

    def __len__(self):
        return 4

    def get_data_info(self, index):
        return {'img_path': self.paths[index]}

    def __getitem__(self, index):
        sample = DetDataSample(metainfo={'img_id': index})
        cosine = torch.tensor([1, 0.8, 0.6, 0.1])[index : index + 1]
        sample.pred_instances = InstanceData(
            bboxes=BOX + (torch.tensor([50, 0, 50, 0]) if index == 3 else 0),
            scores=torch.ones(1),
            embeddings=torch.stack([cosine, (1 - cosine**2).sqrt()], dim=1),
        )
        sample.gt_instances = InstanceData(bboxes=BOX, person_ids=torch.tensor([[0, 1, 0, 0][index]]))
        if index == 0:
            sample.query_instances = InstanceData(query_ids=torch.tensor([0]), embeddings=torch.tensor([[1.0, 0]]))
        return {'inputs': torch.zeros(1), 'data_samples': sample}


class OtherMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {'other': 0}


@pytest.fixture
def make_runner(tmp_path, mmps_scope):
    """make_runner(draw=True, ...) returns a runner with the hook, a visualizer with two backends and two training epochs."""
    dataset = Scenes(tmp_path)

    def make(metric=None, visualizer='SearchVisualizer', **hook):
        loader = dict(dataset=dataset, batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False))
        return Runner(
            Model(),
            str(tmp_path / 'work'),
            train_dataloader=loader,
            val_dataloader=loader,
            test_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1),
            val_cfg=dict(),
            test_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_scope='mmps',
            val_evaluator=[metric or PersonSearchMetric()],
            test_evaluator=[metric or PersonSearchMetric()],
            default_hooks=dict(visualization=dict(type='SearchVisualizationHook', **hook), checkpoint=None),
            visualizer=dict(type=visualizer, vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]),
            experiment_name=tmp_path.name,
            log_level='WARNING',
        )

    return make


def folder_of(runner):
    return Path(runner.log_dir) / 'vis_data/vis_image'


def written(runner):
    return sorted(path.stem for path in folder_of(runner).glob('*.png'))


def has(picture, colour):
    return (picture == colour).all(axis=-1).any()


def test_every_backend_gets_all_pictures_of_a_test(make_runner):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    runner = make_runner(draw=True, topk=2)
    runner.test()
    assert written(runner) == [f'{name}_0' for name in NAMES]
    for name in ('ranked_results', 'failures'):  # the other person, then the target; one target is missed
        assert all(has(read_picture(folder_of(runner) / f'{name}_0.png'), colour) for colour in (RED, GREEN, GOLD))
    runner.visualizer.close()
    events = accumulator.EventAccumulator(str(folder_of(runner).parent))
    events.Reload()
    assert sorted(events.Tags()['images']) == NAMES
    for name in NAMES:
        (event,) = events.Images(name)
        shown = np.array(Image.open(io.BytesIO(event.encoded_image_string)).convert('RGB'))
        np.testing.assert_array_equal(shown, read_picture(folder_of(runner) / f'{name}_0.png'))


def test_test_out_dir_gets_the_pictures_of_a_test(make_runner, tmp_path):
    runner = make_runner(draw=True, test_out_dir=str(tmp_path / 'show'))
    runner.test()
    assert sorted(path.name for path in (tmp_path / 'show').iterdir()) == [f'{name}.png' for name in NAMES]
    assert not folder_of(runner).exists()


def test_every_nth_validation_is_drawn_with_its_iteration(make_runner):
    runner = make_runner(draw=True, interval=2)
    runner.train()
    assert written(runner) == sorted(f'{name}_{iteration}' for name in NAMES for iteration in (4, 8))


def test_nothing_is_drawn_by_default(make_runner):
    runner = make_runner()
    runner.train()
    runner.test()
    assert not folder_of(runner).exists()


def test_num_queries_and_num_failures_limit_the_rows(make_runner):
    runner = make_runner(draw=True, num_queries=1, num_failures=0)
    runner.test()
    heights = {name: read_picture(folder_of(runner) / f'{name}_0.png').shape[0] for name in ('ranked_results', 'failures')}
    assert heights['ranked_results'] > 150 and heights['failures'] < 50  # one row; only the legend


def test_the_drawing_uses_the_settings_of_the_metric(make_runner, monkeypatch):
    drawn = {}
    monkeypatch.setattr(SearchVisualizer, 'add_search', lambda self, *args, **kwargs: drawn.update(kwargs))
    make_runner(metric=PersonSearchMetric(score_thr=0.3, cameras=0), draw=True).test()
    assert (drawn['score_thr'], drawn['cameras']) == (0.3, 0)


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(visualizer='Visualizer'), r"needs visualizer = dict\(type='SearchVisualizer', \.\.\.\), got Visualizer"),
        (dict(metric=OtherMetric()), 'needs a PersonSearchMetric in the evaluator'),
    ],
    ids=['visualizer', 'metric'],
)
def test_a_missing_visualizer_or_metric_is_named(make_runner, wrong, message):
    with pytest.raises(ValueError, match=message):
        make_runner(draw=True, **wrong).test()


def test_a_missing_image_does_not_lose_the_scores(make_runner, tmp_path):
    runner = make_runner(draw=True)
    (tmp_path / '2.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'2\.png: there is no readable image'):
        runner.test()
    scores = [path.read_text() for path in (tmp_path / 'work').glob('*/*.json')]
    assert any('search/mAP' in text for text in scores)


def test_the_default_runtime_can_draw_but_does_not(repository, tmp_path, mmps_scope):
    cfg = Config.fromfile(repository / 'configs/_base_/default_runtime.py')
    hook = HOOKS.build(cfg.default_hooks.visualization)
    assert isinstance(hook, SearchVisualizationHook) and not hook.draw
    assert isinstance(VISUALIZERS.build(dict(cfg.visualizer, name=tmp_path.name, save_dir=str(tmp_path))), SearchVisualizer)
