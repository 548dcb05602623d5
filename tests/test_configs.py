"""Every published config is what its name says, and builds."""

import copy
import re
from functools import cache
from math import ceil
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.dataset import Compose
from mmrazor.models.losses import ChannelWiseDivergence

from mmps.benchmark.matrix import Method, Network, compose
from mmps.registry import DATASETS, METRICS, MODELS

FOLDER = Path(__file__).parents[1] / 'configs'
CONFIGS = sorted(path for path in FOLDER.glob('*/*.py') if path.parent.name != '_base_')
EACH = pytest.mark.parametrize('path', CONFIGS, ids=[path.stem for path in CONFIGS])
SMALL = [path for path in CONFIGS if path.stem.endswith('_synthps-mini')]
DETECTS_ONLY = [path for path in CONFIGS if '/_base_/models/frcnn_' in path.read_text()]


def varied(path):
    """Returns the config of the same folder that a config changes, or None."""
    base = re.search(r"^_base_ = '\./(\S+)'", path.read_text(), re.MULTILINE)
    return base and path.parent / base[1]


def is_taught(path):
    text = path.read_text()
    return (
        '/_base_/distillers/' in text or path.stem.startswith('munjal-lut_') or bool(varied(path) and is_taught(varied(path)))
    )


TAUGHT = [path for path in CONFIGS if is_taught(path)]
VARIANTS = [path for path in TAUGHT if varied(path)]
WITH_TABLE = [path for path in TAUGHT if path.stem.startswith(('munjal-lut_', 'munjal_'))]
# Of each kind of pair one: maps of the same strides; one map of the teacher, and the level of its stride, or a coarser one.
PAIRS = [
    path
    for path in CONFIGS
    if path.stem.startswith('gdps_')
    and (
        path in SMALL
        or path.stem
        in (
            'gdps_alignps-r50-dcn_oim-r18_20e_cuhk-sysu',
            'gdps_seqnet-r50_alignps-r18_24e_cuhk-sysu',
            'gdps_seqnet-r50_seqnet-r18_20e_cuhk-sysu',
        )
    )
]


def networks(path):
    return path.stem.split('_')[1:-1] if path in TAUGHT else [path.stem]


# Methods differ in the distiller, which the small ones build: real teachers and students are built once, for GDPS if it can be.
REAL = {
    tuple(networks(path)): path
    for path in sorted(set(CONFIGS) - set(SMALL), key=lambda path: (path.parent.name == 'gdps', path))
}
BUILT = sorted({*SMALL, *REAL.values()} - set(PAIRS))
# The end of a config's name, and the class that reads it.
DATA = {
    'cuhk-sysu': 'CUHKSYSU',
    'prw': 'PRW',
    'mot': 'MOTChallenge',
    'mot17-mini': 'MOTChallenge',
    'synthps-mini': 'CUHKSYSU',
    'synthps-photo': 'CUHKSYSU',
}
STEPS = {'e': 1, 'k': 1000, 'it': 1}


def test_there_are_configs():
    assert {path.parent.name for path in CONFIGS} == {
        'oim',
        'qeeps',
        'nae',
        'seqnet',
        'alignps',
        'real',
        'reid',
        'gdps',
        'munjal',
        'dkd',
        'ddps',
        'hkd',
        'pkd',
        'fgd',
        'mgd',
        'cwd',
    }


@cache
def read(path):
    return Config.fromfile(path)


@pytest.mark.parametrize('path', BUILT, ids=[path.stem for path in BUILT])
def test_model_builds(path, mmps_scope):
    model = build(path)
    assert hasattr(getattr(model, 'student', model), 'embed') == (path not in DETECTS_ONLY)


def build(path):
    cfg = copy.deepcopy(read(path).model)
    if 'teacher_ckpt' in cfg:
        cfg.teacher_ckpt = None
    return MODELS.build(cfg)


@pytest.mark.parametrize('path', PAIRS, ids=[path.stem for path in PAIRS])
def test_compared_maps_have_the_stride_of_their_pair(path, mmps_scope, make_batch, monkeypatch):
    compared, forward = [], ChannelWiseDivergence.forward

    def noted(loss, preds_S, preds_T):
        compared.append((preds_S.shape, preds_T.shape))
        return forward(loss, preds_S, preds_T)

    monkeypatch.setattr(ChannelWiseDivergence, 'forward', noted)
    model = build(path).train()
    for memory in (model.memory, model.teacher.memory):
        memory.resize(4)
    losses = model.loss(*make_batch([[3, -1], [2]]))
    assert compared and all(losses[f'distill.loss_{name}'].isfinite() for name in ('feature', 'relation', 'response'))
    for pair, (ours, theirs) in zip(model.distiller.pairs, compared, strict=True):
        assert ours == theirs and tuple(ours[2:]) == (ceil(64 / pair.stride), ceil(96 / pair.stride))


def test_two_stage_weights_are_the_published_ones_times_the_number_of_maps(mmps_scope):
    """The published losses add up the maps of an FPN. Here the loss is their mean."""
    maps = len(build(FOLDER / 'pkd/pkd-two-stage_seqnet-r50-fpn_seqnet-r18_20e_cuhk-sysu.py').distiller.pairs)
    fgd, ddps, mgd, pkd, ddps_pkd, cwd = (
        read(FOLDER / f'_base_/distillers/{name}.py').distil.distiller.distill_losses.loss_feature
        for name in ('fgd-two-stage', 'ddps-two-stage', 'mgd-two-stage', 'pkd-two-stage', 'ddps-pkd', 'cwd-two-stage')
    )
    assert fgd == ddps and pkd == ddps_pkd
    assert fgd.person_weight == 2 * fgd.background_weight == fgd.attention_weight == 5e-5 and fgd.relation_weight == 5e-7
    assert fgd.loss_weight == maps and mgd.alpha_mgd == pytest.approx(5e-7 * maps)
    assert pkd.loss_weight == 6 * maps and cwd.loss_weight == 10 * maps


@EACH
def test_data_sets_and_metric_exist(path, mmps_scope):
    cfg = read(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert DATASETS.get(loader.dataset.type).__module__.startswith('mmps.')
        Compose(loader.dataset.pipeline)
    assert not cfg.train_dataloader.dataset.get('test_mode', False)
    assert cfg.val_dataloader.dataset.test_mode and cfg.test_dataloader.dataset.test_mode
    if path in DETECTS_ONLY:  # its detections have no embeddings to search with
        assert cfg.val_evaluator == cfg.test_evaluator and METRICS.get(cfg.test_evaluator.type)
        return
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert METRICS.get(evaluator.type).__module__.startswith('mmps.')
    assert cfg.test_evaluator.cbgm and cfg.test_evaluator.upper_bound


@EACH
def test_name_says_what_it_is(path):
    cfg = read(path)
    method, *networks, schedule, data = parts = path.stem.split('_')
    assert len(networks) == (2 if path in TAUGHT and method != 'hkd-self' else 1), (
        '{method}_{teacher}_{student}_{schedule}_{dataset}, {method}_{student}_... or {model}_{backbone}_...'
    )
    assert method.split('-')[0] == path.parent.name
    assert all(re.fullmatch(r'[a-z0-9]+(-[a-z0-9]+)*', part) for part in parts)
    assert cfg.train_dataloader.dataset.type == DATA[data]
    count, unit = re.fullmatch(r'(\d+)(e|k|it)', schedule).groups()
    assert cfg.train_cfg['max_epochs' if unit == 'e' else 'max_iters'] == int(count) * STEPS[unit]
    assert (cfg.model.type == 'PersonSearchDistill') == (path in TAUGHT and method != 'munjal-lut')
    if len(networks) == 2:
        teacher = teacher_of(path)
        assert networks[0] in teacher.stem.replace('_', '-') and teacher.stem.endswith(f'_{data}')


def last_checkpoint(config):
    return f'work_dirs/{config.stem}/epoch_{read(config).max_epochs}.pth'


def teacher_of(path):
    """The config of the teacher that a config names."""
    if path.stem.startswith('munjal-lut_'):
        return teacher_of_table(path)
    return FOLDER / read(path).model.teacher.cfg_path.removeprefix('mmps::')


def teacher_of_table(path):
    """The config of the teacher whose lookup table a config names."""
    (folder,) = Path(read(path).custom_hooks[-1].path).parent.relative_to('work_dirs').parts
    return FOLDER / folder.split('_')[0] / f'{folder}.py'


@pytest.mark.parametrize('path', [path for path in TAUGHT if path not in VARIANTS], ids=lambda path: path.stem)
def test_a_taught_student_is_what_a_benchmark_makes_of_student_method_and_teacher(path):
    method, *_, student, schedule, data = path.stem.split('_')
    bases = re.findall(r"'\.\./(\S+)\.py'", path.read_text())
    assert bases[1:] == ([] if method == 'munjal-lut' else [f'_base_/distillers/{method}'])
    base = FOLDER / f'{bases[0]}.py'
    assert student in base.stem.replace('_', '-') and base.stem.endswith(f'_{schedule}_{data}')
    cfg, plain = read(path), read(base)
    distil, teacher, checkpoint, table = None, None, None, None
    if method == 'munjal-lut':
        table = cfg.custom_hooks[-1].path
    else:
        distil = read(FOLDER / f'{bases[1]}.py').distil
    if method not in ('munjal-lut', 'hkd-self'):
        teacher = Network('teacher', read(teacher_of(path)))
        checkpoint = last_checkpoint(teacher_of(path))
    way = Method(method, distil, (), table is not None, None, {}, 1)
    expected = compose(Network('student', plain), way, teacher, checkpoint, table, plain.randomness.seed)
    if teacher:
        expected.model.teacher = dict(cfg_path=f'mmps::{teacher_of(path).relative_to(FOLDER)}', pretrained=False)
    assert {key: cfg.get(key) for key in expected} == expected.to_dict()
    assert cfg.keys() - expected.keys() <= (read(FOLDER / f'{bases[1]}.py').keys() if distil else set())


@pytest.mark.parametrize('path', VARIANTS, ids=lambda path: path.stem)
def test_a_variant_changes_the_method_and_not_the_student_or_its_schedule(path):
    cfg, base = read(path), read(varied(path))
    assert cfg.model.architecture == base.model.architecture
    assert {key for key in cfg if cfg[key] != base.get(key)} <= {'model', 'custom_hooks'} and cfg != base
    assert set(cfg.model.distiller.get('losses') or ()) <= cfg.model.distiller.distill_losses.keys()
    assert cfg.model.teacher_ckpt == last_checkpoint(teacher_of(path))


@pytest.mark.parametrize('path', WITH_TABLE, ids=lambda path: path.stem)
def test_a_fixed_table_is_the_teachers_in_the_students_size(path):
    (size,) = set(re.findall(r"'reid_loss': .*?'embed_dims': (\d+)", str(read(path).model.to_dict())))
    teacher, table = teacher_of_table(path), read(path).custom_hooks[-1].path
    assert table == f'work_dirs/{teacher.stem}/lookup_table_{size}.npz'
    command = ' '.join(path.read_text().split('_base_')[0].replace('#', '').replace('\\\n', '').split())
    assert command == (
        'First write the lookup table: python tools/export_lookup_table.py '
        f'configs/{teacher.relative_to(FOLDER)} {last_checkpoint(teacher)} --dims {size} --out {table}'
    )


@pytest.mark.parametrize('folder', sorted({path.parent for path in CONFIGS}), ids=lambda folder: folder.name)
def test_every_config_is_indexed_and_every_folder_explained(folder):
    assert f'configs/{folder.name}/metafile.yml' in yaml.safe_load((FOLDER.parent / 'model-index.yml').read_text())['Import']
    index = yaml.safe_load((folder / 'metafile.yml').read_text())
    assert sorted(model['Name'] for model in index['Models']) == [path.stem for path in CONFIGS if path.parent == folder]
    for model in index['Models']:
        assert model['Config'] == f'configs/{folder.name}/{model["Name"]}.py'
        assert model['In Collection'] == index['Collections'][0]['Name']
    assert index['Collections'][0]['README'] == f'configs/{folder.name}/README.md' and (folder / 'README.md').is_file()


@EACH
def test_runtime_is_mmpss(path):
    cfg = read(path)
    assert cfg.default_scope == 'mmps' and 'mmps' in cfg.custom_imports.imports
    hooks = {hook.type for hook in cfg.custom_hooks}
    assert 'StopOnInvalidLossHook' in hooks and ('IdentityHook' in hooks) == (path not in DETECTS_ONLY)


@EACH
def test_no_number_of_identities_is_written_down(path):
    """It comes from the data set."""
    assert 'num_identities' not in read(path).model.to_dict().__repr__()


@pytest.mark.parametrize(
    'path',
    [path for path in CONFIGS if path.stem.endswith('_prw') and path not in DETECTS_ONLY],
    ids=lambda path: path.stem,
)
def test_prw_has_a_queue_of_500(path):
    assert set(re.findall(r"'queue_size': (\d+)", str(read(path).model.to_dict()))) == {'500'}
