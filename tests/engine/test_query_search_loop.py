"""The search loop runs every query with every image of its gallery."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmps.models.detectors.qeeps import QEEPS
from mmps.registry import MODELS
from mmps.synthetic import generate


@pytest.fixture
def runner(tmp_path, repository, monkeypatch):
    """runner(model type, **test_cfg) -> a runner with the small QEEPS over 'tiny' scenes."""
    monkeypatch.setitem(MODELS.module_dict, 'DetectsWithoutQuery', DetectsWithoutQuery)
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    generate(tmp_path / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')

    def build(model='QEEPS', evaluator='QuerySearchMetric', **test_cfg):
        cfg = Config.fromfile(repository / 'configs/qeeps/qeeps_r18-w8-fpn_10e_synthps-mini.py')
        cfg.work_dir, cfg.model.type = str(tmp_path / 'work'), model
        cfg.model.test_cfg.rcnn.score_thr = 0.0
        cfg.test_dataloader.dataset.data_root, cfg.test_dataloader.dataset.gallery_size = str(tmp_path / 'tiny'), 4000
        cfg.test_cfg.update(test_cfg)
        cfg.test_evaluator = dict(type=evaluator, score_thr=0.0)
        cfg.custom_hooks = [dict(type='IdentityHook')]
        for name in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'val_dataloader', 'val_cfg'):
            cfg.pop(name)
        cfg.pop('val_evaluator')
        return Runner.from_cfg(cfg)

    return build


class DetectsWithoutQuery(QEEPS):
    """A detector whose detections do not depend on the query, and whose similarity is the dot product."""

    def describe_queries(self, feats, samples, boxes):
        return InstanceData(embeddings=torch.cat(self.embed(feats, boxes)))

    def search(self, feats, samples, queries, rescale=True):
        results = self.detect(tuple(level[:1] for level in feats), samples[:1])
        results[0].embeddings = self.embed(tuple(level[:1] for level in feats), [results[0].bboxes])[0]
        results[0].bboxes = results[0].bboxes / results[0].bboxes.new_tensor(samples[0].scale_factor).repeat(2)
        found = []
        for query in queries.embeddings:
            found.append(results[0].clone())
            found[-1].similarities = torch.from_numpy((query[None].numpy() @ found[-1].embeddings.numpy().T)[0])
        return found


def test_a_query_independent_detector_scores_as_in_the_ordinary_search(runner):
    scores = runner('DetectsWithoutQuery', pairs_per_step=3).test()
    assert 0 < scores['search/mAP'] < 1
    for name in ('mAP', 'top-1', 'top-5', 'top-10'):
        assert scores[f'search/query_{name}'] == scores[f'search/{name}']


class OtherWeights(Hook):
    """Gives the detector other weights for the test, as EMAHook does."""

    def before_test_epoch(self, runner):
        torch.manual_seed(5)
        for weight in runner.model.roi_head.embedding_head.parameters():
            torch.nn.init.normal_(weight)


def test_queries_are_searched_with_the_weights_of_the_test(runner):
    model = runner('DetectsWithoutQuery')
    before = model.test()
    model.register_hook(OtherWeights())
    scores = model.test()
    assert 0 < scores['search/query_mAP'] == scores['search/mAP'] != before['search/mAP']


@pytest.mark.soak
def test_qeeps_is_scored_with_and_without_queries_whatever_the_number_of_pairs_at_once(runner):
    torch.manual_seed(0)
    model = runner()
    once = model.test()
    assert 0 < once['search/mAP'] < 1 and 0 < once['search/query_mAP'] < 1
    assert once['search/query_mAP'] != once['search/mAP']
    model.test_loop.pairs_per_step = 3
    again = model.test()
    assert again['search/query_mAP'] == pytest.approx(once['search/query_mAP'], abs=1e-3)


def test_another_metric_is_refused(runner):
    with pytest.raises(ValueError, match="QuerySearchLoop: test_evaluator: expected type='QuerySearchMetric'"):
        runner(evaluator='PersonSearchMetric').test()
