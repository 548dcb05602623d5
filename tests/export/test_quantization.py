"""int8: a smaller file whose embeddings are nearly the same."""

import cv2
import numpy as np
import pytest
from small_exports import random_images

from mmps.cli.main import main
from mmps_runtime import PersonSearchModel

onnx = pytest.importorskip('onnx', reason='onnx is not installed')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
quantization = pytest.importorskip('mmps.export.quantization')


@pytest.fixture
def scenes(search_files):
    return [cv2.imread(str(path)) for path in sorted((search_files / 'tiny/Image/SSM').glob('*.jpg'))[:8]]


def test_int8_is_smaller_and_nearly_the_same(exported_model, scenes, tmp_path):
    done = quantization.quantize_int8(exported_model, tmp_path / 'int8.onnx', scenes, tolerance=0.05)
    assert (tmp_path / 'int8.onnx').stat().st_size < 0.5 * exported_model.stat().st_size
    whole, small = PersonSearchModel(exported_model), PersonSearchModel(tmp_path / 'int8.onnx')
    assert small.about == done.about and small.about.precision == 'int8' and done.loss <= 0.05
    # Their embeddings do not compare exactly: a gallery belongs to one of them.
    assert small.about.fingerprint != whole.about.fingerprint and ' int8 ' in small.about.fingerprint
    box = [[20, 30, 80, 200]]
    cosines = [float(whole.embed(scene, box)[0] @ small.embed(scene, box)[0]) for scene in scenes]
    assert 0.9 < np.mean(cosines) < 1 - 1e-6


def test_layers_that_hurt_stay_float(exported_model, scenes, tmp_path):
    easy = quantization.quantize_int8(exported_model, tmp_path / 'easy.onnx', scenes, tolerance=1.0)
    strict = quantization.quantize_int8(exported_model, tmp_path / 'strict.onnx', scenes, tolerance=0.5 * easy.loss)
    assert not easy.kept_float and not easy.losses
    assert strict.kept_float and strict.loss <= 0.5 * easy.loss
    assert strict.kept_float[0] == max(strict.losses, key=strict.losses.get)
    float_weights = {each.name for each in onnx.load(tmp_path / 'strict.onnx').graph.initializer if each.data_type == 1}
    assert [name for name in float_weights if f'.{strict.kept_float[0]}.' in name and name.endswith('weight')]


def test_predictions_of_scores_and_boxes_stay_float(exported_model):
    layers = quantization.layers_of(onnx.load(exported_model).graph.node)
    assert {'backbone.conv1', 'neck.fpn_convs', 'rpn_head.rpn_conv', 'roi_head.embedding_head'} <= set(layers)
    assert not {'rpn_head.rpn_cls', 'rpn_head.rpn_reg'} & set(layers)


def test_wrong_input_is_refused(exported_model, scenes, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='calibrate: expected 4 or more scenes, got 3'):
        quantization.quantize_int8(exported_model, tmp_path / 'out.onnx', scenes[:3])
    small = tmp_path / 'int8.onnx'
    quantization.quantize_int8(exported_model, small, scenes, 1.0)
    with pytest.raises(ValueError, match='expected a model in float32, got int8'):
        quantization.quantize_int8(small, tmp_path / 'out.onnx', scenes)
    monkeypatch.setattr(quantization, 'LEAST_SCORE', 1.1)
    with pytest.raises(ValueError, match='calibrate: the model finds nobody in the scenes'):
        quantization.quantize_int8(exported_model, tmp_path / 'out.onnx', scenes)


@pytest.mark.soak
def test_the_command_writes_int8(search_files, tmp_path, monkeypatch, capsys):
    arguments = [search_files / 'config.py', search_files / 'weights.pth', '--out', tmp_path / 'int8.onnx', '--int8']
    arguments += ['--calibrate', search_files / 'tiny/Image/SSM', '--scenes', 8, '--tolerance', 0.2]
    monkeypatch.setattr('sys.argv', ['mmps', 'export', *map(str, arguments)])
    main()
    assert 'int8: calibrated on 8 images; the embeddings agree to' in capsys.readouterr().out
    assert PersonSearchModel(tmp_path / 'int8.onnx').about.precision == 'int8'
    assert len(PersonSearchModel(tmp_path / 'int8.onnx')(random_images(2, 96, 128))) == 2
