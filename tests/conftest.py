"""What tests of several folders share: reference values, small detectors and batches of persons."""

import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmps.registry import MODELS
from mmps.synthetic import generate

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='session')
def repository() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def golden() -> Callable[[str], Path]:
    """golden(name) -> a file of recorded reference values: of tests/data/golden, else of the folder MMPS_GOLDEN; or a skip."""
    elsewhere = ROOT / os.environ.get('MMPS_GOLDEN', '../shared/golden')

    def find(name: str) -> Path:
        for folder in (ROOT / 'tests/data/golden', elsewhere):
            if (folder / name).exists():
                return folder / name
        pytest.skip(f'no {name} in {elsewhere}, and it is not part of the repository (set MMPS_GOLDEN to a folder that has it)')

    return find


@pytest.fixture(scope='session')
def load_script():
    """load_script(path) -> a Python file as a module."""

    def load(path: Path):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope='session')
def named_weights(golden, load_script):
    """The module that draws weights from their names: ``fill(shapes)``, ``image()``."""
    return load_script(golden('named_weights.py'))


@pytest.fixture
def report(request):
    """report(figure=value, ...) -> one line, with the test's name and how long it has taken, in MMPS_REPORT, if that is set:
    what `make soak` measured. docs/reliability.md has the last result."""
    started = time.monotonic()

    def write(**figures) -> None:
        line = json.dumps({'test': request.node.name, 'seconds': round(time.monotonic() - started, 1), **figures})
        if path := os.environ.get('MMPS_REPORT'):
            with open(path, 'a') as file:
                file.write(line + '\n')

    return write


@pytest.fixture(scope='session')
def environment(tmp_path_factory):
    """Of a tool that is called: one thread, this checkout, a cache of its own."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(('SLURM_', 'OMPI_'))},
        'PYTHONPATH': str(ROOT),
        'OMP_NUM_THREADS': '1',
        'PYTHONWARNINGS': 'ignore',
        'MMPS_CACHE': str(tmp_path_factory.mktemp('cache')),
    }


@pytest.fixture(scope='session')
def search_files(tmp_path_factory) -> Path:
    """A folder with ``tiny`` (SynthPS), ``config.py`` for it, and ``weights.pth`` that find somebody everywhere."""
    folder = tmp_path_factory.mktemp('search')
    generate(folder / 'tiny', 'cuhk-sysu', 'tiny', progress=False, style='classic')
    cfg = Config.fromfile(ROOT / 'configs/oim/oim_r18-w8-fpn_10e_synthps-mini.py')
    cfg.test_dataloader.dataset.data_root = str(folder / 'tiny')
    cfg.dump(folder / 'config.py')
    torch.manual_seed(3)
    with DefaultScope.overwrite_default_scope('mmps'):
        detector = MODELS.build(cfg.model)
    detector.roi_head.bbox_head.fc_cls.bias.data[:] = torch.tensor([2.0, -2.0])
    torch.save({'state_dict': detector.state_dict()}, folder / 'weights.pth')
    return folder


@pytest.fixture(scope='session')
def exported_model(search_files) -> Path:
    """The model of ``search_files`` as an ONNX file for images of any size."""
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    pytest.importorskip('onnxscript', reason='onnxscript is not installed')
    from mmps.export import export_onnx

    export_onnx(str(search_files / 'config.py'), str(search_files / 'weights.pth'), search_files / 'model.onnx')
    return search_files / 'model.onnx'


@pytest.fixture
def mmps_scope():
    """Names resolve as in a config with ``default_scope = 'mmps'``."""
    with DefaultScope.overwrite_default_scope('mmps'):
        yield


def fpn_config(width: int = 8, num_identities: int = 6) -> dict:
    """The small FPN detector of the demo, smaller still; D is twice the width."""
    return changed(
        'oim_r18-w8_fpn.py',
        {
            'backbone.base_channels': width,
            'neck.in_channels': [width, 2 * width, 4 * width, 8 * width],
            'neck.out_channels': 2 * width,
            'rpn_head.in_channels': 2 * width,
            'rpn_head.feat_channels': 2 * width,
            'roi_head.bbox_roi_extractor.out_channels': 2 * width,
            'roi_head.bbox_head.in_channels': 2 * width,
            'roi_head.bbox_head.fc_out_channels': 16,
            'roi_head.embedding_head.in_channels': 2 * width,
            'roi_head.embedding_head.embed_dims': 2 * width,
            'roi_head.reid_loss.embed_dims': 2 * width,
            'roi_head.reid_loss.queue_size': 10,
            'roi_head.reid_loss.num_identities': num_identities,
            'train_cfg.rpn_proposal.max_per_img': 30,
            'test_cfg.rpn.max_per_img': 20,
            'test_cfg.rcnn.max_per_img': 5,
        },
    )


C4_RESNET18 = {
    'backbone.depth': 18,
    'backbone.frozen_stages': -1,
    'backbone.init_cfg': None,
    'rpn_head.in_channels': 256,
    'rpn_head.feat_channels': 16,
    'train_cfg.rpn_proposal.max_per_img': 30,
    'train_cfg.rcnn.sampler.num': 32,
    'test_cfg.rpn.max_per_img': 10,
}


def c4_config(num_identities: int = 6) -> dict:
    """OIM's C4 form on a ResNet-18; MMDetection's shared head knows no other width than the full one."""
    return changed(
        'oim_r50_c4.py',
        {
            **C4_RESNET18,
            'roi_head.shared_head.depth': 18,
            'roi_head.shared_head.init_cfg': None,
            'roi_head.bbox_roi_extractor.out_channels': 256,
            'roi_head.bbox_roi_extractor.roi_layer.output_size': 4,
            'roi_head.bbox_head.roi_feat_size': 2,
            'roi_head.bbox_head.in_channels': 512,
            'roi_head.embedding_head.in_channels': 512,
            'roi_head.embedding_head.embed_dims': 16,
            'roi_head.reid_loss.embed_dims': 16,
            'roi_head.reid_loss.queue_size': 10,
            'roi_head.reid_loss.num_identities': num_identities,
            'test_cfg.rcnn.max_per_img': 5,
        },
    )


def nae_config(num_identities: int = 6) -> dict:
    """NAE on the same small C4 ResNet-18."""
    return changed(
        'nae_r50_c4.py',
        {
            **C4_RESNET18,
            'roi_head.shared_head.depth': 18,
            'roi_head.shared_head.init_cfg': None,
            'roi_head.bbox_roi_extractor.out_channels': 256,
            'roi_head.bbox_roi_extractor.roi_layer.output_size': 4,
            'roi_head.bbox_head.in_channels': 512,
            'roi_head.embedding_head.in_channels': [256, 512],
            'roi_head.embedding_head.embed_dims': 16,
            'roi_head.reid_loss.embed_dims': 16,
            'roi_head.reid_loss.queue_size': 10,
            'roi_head.reid_loss.num_identities': num_identities,
            'test_cfg.rcnn.score_thr': 0.05,
            'test_cfg.rcnn.max_per_img': 5,
        },
    )


def seqnet_config(num_identities: int = 6) -> dict:
    """SeqNet over a small FPN."""
    return changed(
        'seqnet_r18-w8_fpn.py',
        {
            'neck.out_channels': 16,
            'rpn_head.in_channels': 16,
            'rpn_head.feat_channels': 16,
            'roi_head.first.bbox_roi_extractor.out_channels': 16,
            'roi_head.first.bbox_head.in_channels': 16,
            'roi_head.first.bbox_head.fc_out_channels': 16,
            'roi_head.second.bbox_roi_extractor.out_channels': 16,
            'roi_head.second.shared_head.in_channels': 16,
            'roi_head.second.shared_head.fc_dims': 16,
            'roi_head.second.bbox_head.in_channels': 16,
            'roi_head.second.embedding_head.in_channels': [16 * 7 * 7, 16],
            'roi_head.second.embedding_head.embed_dims': 16,
            'roi_head.second.reid_loss.embed_dims': 16,
            'roi_head.second.reid_loss.queue_size': 10,
            'roi_head.second.reid_loss.num_identities': num_identities,
            'train_cfg.rpn_proposal.max_per_img': 30,
            'test_cfg.rpn.max_per_img': 20,
            'test_cfg.rcnn.first.score_thr': 0.05,
            'test_cfg.rcnn.second.score_thr': 0.05,
            'test_cfg.rcnn.second.max_per_img': 5,
        },
    )


def alignps_config(num_identities: int = 6) -> dict:
    """AlignPS with plain convolutions, and with the paper's strides, losses and rule for given boxes."""
    cfg = changed(
        'alignps_r18-w8.py',
        {
            'neck.start_level': 1,
            'neck.num_outs': 5,
            'bbox_head.strides': [8, 16, 32, 64, 128],
            'bbox_head.center_sample_radius': 1.5,
            'bbox_head.batch_norm': False,
            'bbox_head.embed_from': 'best_detection',
            'bbox_head.reid_loss.gamma': 2.0,
            'bbox_head.reid_loss.scale': 10.0,
            'bbox_head.reid_loss.momentum': 0.5,
            'bbox_head.reid_loss.normalize': False,
            'bbox_head.reid_loss.loss_weight': 1.0,
            'neck.out_channels': 16,
            'bbox_head.in_channels': 16,
            'bbox_head.feat_channels': 16,
            'bbox_head.stacked_convs': 1,
            'bbox_head.norm_cfg.num_groups': 4,
            'bbox_head.reid_loss.num_identities': num_identities,
            'bbox_head.reid_loss.embed_dims': 16,
            'bbox_head.reid_loss.queue_size': 10,
            'bbox_head.reid_loss.queue_dims': 4,
            'test_cfg.max_per_img': 6,
        },
    )
    cfg.bbox_head.triplet_loss = dict(type='TripletLoss')
    return cfg


def roi_alignps_config(num_identities: int = 6) -> dict:
    """AlignPS with OIM's small RoI head on the backbone's third level."""
    cfg, of_rois = alignps_config(num_identities), fpn_config(num_identities=num_identities)
    cfg.roi_head = of_rois.roi_head
    cfg.roi_head.bbox_roi_extractor.update(featmap_strides=[16], out_channels=32)
    cfg.roi_head.bbox_head.in_channels = cfg.roi_head.embedding_head.in_channels = 32
    cfg.train_cfg = dict(rcnn=of_rois.train_cfg.rcnn)
    cfg.test_cfg.rcnn = of_rois.test_cfg.rcnn
    return cfg


SMALL = {
    'fpn': fpn_config,
    'c4': c4_config,
    'nae': nae_config,
    'seqnet': seqnet_config,
    'alignps': alignps_config,
    'alignps-roi': roi_alignps_config,
}


def changed(base: str, changes: dict) -> dict:
    cfg = Config.fromfile(ROOT / 'configs/_base_/models' / base)
    cfg.merge_from_dict({f'model.{name}': value for name, value in changes.items()})
    return cfg.model


@pytest.fixture
def detector_config():
    """detector_config(a key of SMALL, num_identities, ...) -> config of a small detector."""

    def make(kind: str = 'fpn', **kwargs) -> dict:
        return SMALL[kind](**kwargs)

    return make


@pytest.fixture
def build_detector(mmps_scope):
    """As ``detector_config``, and builds it: weights drawn from ``seed``."""

    def make(kind: str = 'fpn', seed: int = 0, **kwargs):
        torch.manual_seed(seed)
        detector = MODELS.build(SMALL[kind](**kwargs))
        detector.init_weights()
        return detector

    return make


# Where the persons of an image stand: x1 y1 x2 y2 in an image of 64 x 96.
PLACES = torch.tensor([[4.0, 6, 24, 58], [34, 10, 50, 50], [60, 4, 88, 62], [10, 30, 20, 60]])


@pytest.fixture
def make_batch():
    """make_batch([[3, -1], []]) -> two images of 64 x 96, two persons in the first, and their data samples."""

    def make(person_ids: list[list[int]], seed: int = 0, scale: tuple[float, float] = (1.0, 1.0)):
        generator = torch.Generator().manual_seed(seed)
        samples = []
        for index, ids in enumerate(person_ids):
            sample = DetDataSample(
                metainfo=dict(
                    img_id=index,
                    img_shape=(64, 96),
                    batch_input_shape=(64, 96),
                    pad_shape=(64, 96),
                    ori_shape=(int(64 / scale[1]), int(96 / scale[0])),
                    scale_factor=scale,
                )
            )
            sample.gt_instances = InstanceData(
                bboxes=PLACES[: len(ids)].clone(),
                labels=torch.zeros(len(ids), dtype=torch.long),
                person_ids=torch.tensor(ids, dtype=torch.long),
            )
            sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
            samples.append(sample)
        return torch.randn(len(person_ids), 3, 64, 96, generator=generator), samples

    return make
