"""An exported file searches as well as its detector: both get the same mAP on the test part of SynthPS."""

import pytest
import small_exports  # noqa: F401  skips where a package is missing
from mmengine.config import Config
from mmengine.runner import Runner

from mmps.apis import PersonSearchInferencer, build_test_set
from mmps.apis.test_set import predict_test_set
from mmps.evaluation import search_scores
from mmps.export import export_onnx
from mmps.synthetic import generate

CONFIGS = {
    'oim': 'oim/oim_r18-w8-fpn_10e',
    'nae': 'nae/nae_r18-w8-fpn_10e',
    'seqnet': 'seqnet/seqnet_r18-w8-fpn_10e',
    'alignps': 'alignps/alignps_r18-w8_10e',
}
EPOCHS = 25  # 150 steps: enough to find some persons again
LEAST_SCORE = 0.05  # what was trained so shortly is sure of nobody


@pytest.fixture
def trained(repository, tmp_path):
    """trained(kind) -> the config and the checkpoint of a detector that was trained on tiny scenes."""
    generate(tmp_path / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')

    def train(kind):
        cfg = Config.fromfile(repository / f'configs/{CONFIGS[kind]}_synthps-mini.py')
        for loader, resize in ((cfg.train_dataloader, 2), (cfg.test_dataloader, 1)):
            loader.dataset.data_root = str(tmp_path / 'tiny')
            loader.dataset.pipeline[resize].scale = (224, 128)
        of_rois = cfg.model.test_cfg.get('rcnn', {})
        for stage in (of_rois, of_rois.get('first', {}), of_rois.get('second', {})):
            if 'score_thr' in stage:
                stage.score_thr = LEAST_SCORE
        cfg.test_evaluator.score_thr = LEAST_SCORE
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
        cfg.merge_from_dict(
            {'train_cfg.max_epochs': EPOCHS, 'param_scheduler': [], 'work_dir': str(tmp_path), 'log_level': 'WARNING'}
        )
        cfg.experiment_name = f'{tmp_path.name}-{kind}'
        Runner.from_cfg(cfg).train()
        cfg.dump(tmp_path / 'config.py')
        return tmp_path / 'config.py', tmp_path / f'epoch_{EPOCHS}.pth'

    return train


def mean_average_precision(inferencer, cfg):
    dataset = build_test_set(cfg)
    found = predict_test_set(inferencer, dataset)
    protocol = dataset.metainfo['protocol']
    return search_scores(protocol, found.boxes, found.scores, found.embeddings, found.query_embeddings, LEAST_SCORE).mAP


@pytest.mark.soak
@pytest.mark.parametrize('kind', CONFIGS)
def test_a_file_has_the_map_of_its_detector(trained, tmp_path, report, kind):
    """Within 0.1 of 100."""
    config, checkpoint = trained(kind)
    export_onnx(str(config), str(checkpoint), tmp_path / 'model.onnx')
    whole = PersonSearchInferencer(str(config), str(checkpoint), 'cpu', show_progress=False, score_thr=LEAST_SCORE)
    exported = PersonSearchInferencer(str(tmp_path / 'model.onnx'), show_progress=False, score_thr=LEAST_SCORE)
    of_detector, of_file = (mean_average_precision(each, whole.cfg) for each in (whole, exported))
    report(detector=of_detector, file=of_file)
    assert of_detector > 0.03  # the persons are found, so a file with other embeddings or boxes would differ
    assert of_file == pytest.approx(of_detector, abs=0.001)
