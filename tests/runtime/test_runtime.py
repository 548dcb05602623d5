"""The runtime of exported models: what it takes, what it refuses, and that it needs no PyTorch."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmps import __version__
from mmps_runtime import About, ImageError, ModelFileError, PersonSearchModel
from mmps_runtime.images import stack, target_size

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
onnx = pytest.importorskip('onnx', reason='onnx is not installed')

BARE = ('numpy', 'numpy.libs', 'cv2', 'opencv_python.libs', 'onnxruntime', 'google', 'flatbuffers', 'packaging')


@pytest.fixture
def model(exported_model):
    return PersonSearchModel(exported_model)


@pytest.fixture
def scene(search_files):
    return cv2.imread(str(next((search_files / 'tiny/Image/SSM').glob('*.jpg'))))


@pytest.fixture
def changed(exported_model, tmp_path):
    """changed(change) -> the exported file after change(its graph, its metadata)."""

    def write(change) -> Path:
        graph = onnx.load(exported_model)
        about = json.loads(graph.metadata_props[0].value)
        change(graph, about)
        if graph.metadata_props:
            graph.metadata_props[0].value = json.dumps(about)
        onnx.save(graph, tmp_path / 'changed.onnx')
        return tmp_path / 'changed.onnx'

    return write


def test_without_pytorch_it_finds_the_same(exported_model, model, scene, repository, tmp_path):
    """A Python that can import NumPy, OpenCV and ONNX Runtime, and nothing else."""
    site = tmp_path / 'site'
    site.mkdir()
    (site / 'mmps_runtime').symlink_to(repository / 'mmps_runtime')
    for folder in map(Path, sys.path):
        for name in BARE:
            if (folder / name).is_dir() and not (site / name).exists():
                (site / name).symlink_to(folder / name)
    cv2.imwrite(str(tmp_path / 'scene.png'), scene)
    program = f"""
import sys; sys.path[:0] = ['', {str(site)!r}]  # OpenCV puts its folder second
from importlib.util import find_spec
assert not [name for name in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmps', 'scipy') if find_spec(name)]
sys.argv = ['', {str(exported_model)!r}, {str(tmp_path / 'scene.png')!r}, '--embeddings']
from mmps_runtime.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, '-I', '-S', '-c', program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    (persons,) = model([scene])
    assert len(found) == len(persons.boxes) > 0
    np.testing.assert_allclose([each['box'] for each in found], persons.boxes, atol=1e-3)
    np.testing.assert_allclose([each['embedding'] for each in found], persons.embeddings, atol=1e-5)


def test_importing_it_imports_no_pytorch(repository):
    program = 'import sys, mmps_runtime; print({"torch", "mmengine", "mmcv", "mmdet", "mmps"}.intersection(sys.modules))'
    environment = os.environ | {'PYTHONPATH': str(repository)}
    assert subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, env=environment).stdout == 'set()\n'


def test_its_own_distribution_does_not_ask_for_pytorch(repository, tmp_path):
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', tmp_path]
    source = tmp_path / 'mmps_runtime'
    source.mkdir()
    for path in (repository / 'mmps_runtime').glob('*.*'):
        (source / path.name).write_bytes(path.read_bytes())
    subprocess.run([*command, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob('*.whl')
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        metadata = files.read(next(name for name in names if name.endswith('METADATA'))).decode()
    assert {'mmps_runtime/model.py', 'mmps_runtime/py.typed'} <= set(names)
    assert f'Version: {__version__}\n' in metadata
    needed = [line.split(': ')[1] for line in metadata.splitlines() if line.startswith('Requires-Dist') and 'extra' not in line]
    assert sorted(name.split('>')[0] for name in needed) == ['numpy', 'onnxruntime', 'opencv-python-headless']


def test_grey_images_and_alpha_channels_are_taken(model, scene):
    grey = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY)
    in_colour, flat, deep = model([cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), grey, grey[..., None]])
    for other in (flat, deep):
        np.testing.assert_allclose(other.boxes, in_colour.boxes)
    plain, with_alpha = model([scene, np.dstack([scene, np.full(scene.shape[:2], 7, np.uint8)])])
    np.testing.assert_allclose(with_alpha.embeddings, plain.embeddings)


def test_images_of_several_sizes_in_a_batch_keep_their_boxes(model, scene):
    smaller = cv2.resize(scene, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    box = np.array([[20, 30, 80, 200]], np.float32)
    apart = [*model([scene], [box]), *model([smaller], [box / 2])]
    together = model([scene, smaller], [box, box / 2])
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
        np.testing.assert_allclose(one.given_embeddings, other.given_embeddings, atol=1e-4)


def test_an_image_of_a_hundred_megapixels_is_searched(model):
    (persons,) = model([np.zeros((10000, 10000, 3), np.uint8)], [[[1000, 1000, 3000, 9000]]])
    assert persons.given_embeddings.shape == (1, model.about.embed_dims)
    assert (persons.boxes >= 0).all() and (persons.boxes <= 10000.1).all()


@pytest.mark.parametrize(
    'image, message',
    [
        (np.zeros((1, 1, 3), np.uint8), 'image: 1 x 1 pixels; expected at least 8 on each side'),
        (np.zeros((64, 96, 3), np.float32), r'image: expected uint8 \(H, W, 3\), BGR, got float32 \(64, 96, 3\)'),
        (np.zeros((64, 96, 2), np.uint8), r'image: expected uint8 \(H, W, 3\), BGR, got the shape \(64, 96, 2\)'),
        (None, r'image: expected uint8 \(H, W, 3\), BGR, got NoneType'),
    ],
)
def test_what_is_no_image_is_refused(model, image, message):
    with pytest.raises(ImageError, match=f'^{message}$'):
        model([image])


def test_wrong_boxes_are_refused(model, scene):
    with pytest.raises(ImageError, match=r'^boxes: expected x1 < x2 and y1 < y2, got \[5\.0, 5\.0, 5\.0, 9\.0\]$'):
        model.embed(scene, [[5, 5, 5, 9]])
    with pytest.raises(ImageError, match=r'^boxes: expected \(N, 4\), got the shape \(1, 3\)$'):
        model.embed(scene, [[5, 5, 9]])
    with pytest.raises(ValueError, match=r'^boxes: expected those of 1 images, got 2$'):
        model([scene], [[], []])


def test_sizes_are_those_of_mmcv():
    from mmcv.image import rescale_size

    for size in ((1080, 1920), (333, 77), (1600, 900), (8, 4000)):
        width, height = rescale_size(size[::-1], (336, 192))
        assert target_size(size, (336, 192), None) == (max(1, height), max(1, width))
    assert target_size((100, 50), (1, 1), within=(60, 60)) == (60, 30)
    assert stack([np.ones((30, 50, 3), np.uint8), np.ones((40, 20, 3), np.uint8)], 32, None).shape == (2, 64, 64, 3)


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda graph, about: graph.ClearField('metadata_props'),
            "no model that mmps exported: the file has no metadata 'mmps'",
        ),
        (lambda graph, about: about.update(kind='tracking'), "expected a graph for person search of format 1, got 'tracking'"),
        (lambda graph, about: about.update(format=2), "expected a graph for person search of format 1, got 'person search' of"),
        (lambda graph, about: about.pop('persons'), r"the metadata differ from those of format 1: \['persons'\]"),
        (lambda graph, about: about.update(scale=[]), "the metadata 'mmps' are damaged"),
        (
            lambda graph, about: about.update(persons=7),
            "the metadata say 7 persons with embeddings of 128 numbers, and the graph's",
        ),
        (lambda graph, about: about.update(embed_dims=7), 'the metadata say 20 persons with embeddings of 7 numbers, and the'),
        (lambda graph, about: graph.graph.output.pop(), "the graph has no output 'given_embeddings': it has"),
    ],
)
def test_other_files_are_refused_with_one_line(changed, change, message):
    with pytest.raises(ModelFileError, match=f'changed.onnx: {message}') as error:
        PersonSearchModel(changed(change))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('share', [0.5, 0.999])
@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_a_file_that_is_cut_off_is_refused_with_one_line(exported_model, tmp_path, share, backend):
    pytest.importorskip(backend, reason=f'{backend} is not installed')
    whole = exported_model.read_bytes()
    (tmp_path / 'half.onnx').write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelFileError, match=r'half\.onnx: ') as error:
        PersonSearchModel(tmp_path / 'half.onnx', backend)
    assert '\n' not in str(error.value)


def test_a_runtime_without_an_operator_is_named(exported_model, monkeypatch):
    """As ONNX Runtime 1.24 answers a graph with a deformable convolution."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as MissingError

    def refuse(*_):
        raise MissingError(
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for DeformConv(19) node with name 'x'"
        )

    monkeypatch.setattr(onnxruntime, 'InferenceSession', refuse)
    with pytest.raises(
        ModelFileError, match=r'has no operator DeformConv: install 1\.26 or newer, or export .* with --unroll$'
    ):
        PersonSearchModel(exported_model)


def test_wrong_arguments_are_refused(exported_model, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r'nothing\.onnx: there is no such file'):
        PersonSearchModel(tmp_path / 'nothing.onnx')
    with pytest.raises(ValueError, match='backend: expected one of onnxruntime, openvino, got'):
        PersonSearchModel(exported_model, 'tensorflow')
    with pytest.raises(ValueError, match='height: expected 1 or more, got 0'):
        PersonSearchModel(exported_model, height=0)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match='onnxruntime is missing: pip install onnxruntime'):
        PersonSearchModel(exported_model)


def test_a_model_of_one_size_takes_no_other(changed):
    def of_one_size(graph, about):
        about['size'] = [192, 352]

    with pytest.raises(ValueError, match=r'height: .* takes images of 352 x 192 pixels only'):
        PersonSearchModel(changed(of_one_size), height=100)


def test_the_metadata_come_back(model):
    assert About.from_text(model.about.to_text(), 'again') == model.about


@pytest.mark.skipif(find_spec('openvino') is None, reason='openvino is not installed')
def test_openvino_finds_the_same(exported_model, model, scene):
    box = [[20, 30, 80, 200]]
    (one,), (other,) = model([scene], [box]), PersonSearchModel(exported_model, 'openvino', threads=1)([scene], [box])
    assert len(one.boxes) == len(other.boxes) > 0
    np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-2)
    np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)
    np.testing.assert_allclose(other.embeddings, one.embeddings, atol=1e-4)
    np.testing.assert_allclose(other.given_embeddings, one.given_embeddings, atol=1e-4)
