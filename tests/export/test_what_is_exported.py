"""Which model a file holds, and what it says of it. Nothing is traced here."""

import copy

import pytest
import torch
from mmengine.config import Config
from small_exports import config_for_export

from mmps import __version__
from mmps.cli.main import main
from mmps.export import ExportOptions, export_onnx, exporter
from mmps.fileio.checkpoint import model_fingerprint
from mmps_runtime.about import KEY, About

onnx = pytest.importorskip('onnx', reason='onnx is not installed')


@pytest.fixture
def untraced(monkeypatch):
    """Exports write an empty graph. The list gets the input sizes that they were asked for."""
    sizes = []
    monkeypatch.setattr(exporter, 'to_onnx', lambda graph, divisor, size: sizes.append(size) or onnx.ModelProto())
    return sizes


@pytest.fixture
def checkpoint(build_finder, detector_config, tmp_path):
    """The weights of a small OIM, and beside them a tensor of a distiller."""
    weights = build_finder(detector_config('fpn')).state_dict() | {'distiller.connector.weight': torch.ones(2)}
    torch.save(dict(state_dict=weights), tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth'


def read(path):
    return About.from_text({each.key: each.value for each in onnx.load(path).metadata_props}[KEY], str(path))


def test_of_a_distilled_run_the_student_is_written(untraced, checkpoint, detector_config, tmp_path):
    student = config_for_export(detector_config('fpn'))
    distilled = config_for_export(dict(type='PersonSearchDistill', architecture=detector_config('fpn'), teacher=dict()))
    found = [export_onnx(copy.deepcopy(each), str(checkpoint), tmp_path / 'out.onnx') for each in (student, distilled)]
    assert found[0] == found[1] == read(tmp_path / 'out.onnx')


def test_the_file_says_what_it_holds(untraced, checkpoint, detector_config, build_finder, tmp_path):
    config = config_for_export(detector_config('fpn'), scale=(200, 100), score_thr=0.3)
    about = export_onnx(config, str(checkpoint), tmp_path / 'out.onnx', ExportOptions(size=(100, 161), persons=9, half=True))
    state = build_finder(detector_config('fpn')).state_dict()
    assert about == About(
        model='TwoStagePersonSearch/PersonSearchRoIHead',
        persons=9,
        embed_dims=16,
        size=(128, 192),
        scale=(200, 100),
        divisor=32,
        score_thr=0.3,
        thresholds={'rpn.nms.iou_threshold': 0.7, 'rcnn.score_thr': 0.05, 'rcnn.nms.iou_threshold': 0.5},
        fingerprint=model_fingerprint(config.model, str(checkpoint), state),
        precision='float16',
        version=__version__,
    )
    assert untraced == [(128, 192)]


def test_a_config_without_a_test_is_refused(checkpoint, detector_config, tmp_path):
    with pytest.raises(ValueError, match='expected a config with a model and a test_dataloader'):
        export_onnx(Config(dict(model=detector_config('fpn'))), str(checkpoint), tmp_path / 'out.onnx')
    config = config_for_export(detector_config('fpn'))
    config.test_dataloader.dataset.pipeline.pop()
    with pytest.raises(ValueError, match='expected a test that resizes images'):
        exporter.test_scale(config)


def test_the_command_replaces_no_file_unasked(untraced, checkpoint, detector_config, tmp_path, monkeypatch, capsys):
    config_for_export(detector_config('fpn')).dump(tmp_path / 'config.py')

    def mmps_export(*more):
        arguments = [tmp_path / 'config.py', checkpoint, '--out', tmp_path / 'out.onnx', *more]
        monkeypatch.setattr('sys.argv', ['mmps', 'export', *map(str, arguments)])
        main()

    mmps_export()
    assert 'out.onnx: TwoStagePersonSearch/PersonSearchRoIHead, float32, 0.00 MB, any size' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='is there already: --force replaces it'):
        mmps_export()
    with pytest.raises(SystemExit, match='--calibrate: expected with --int8 only'):
        mmps_export('--force', '--calibrate', 'data')
