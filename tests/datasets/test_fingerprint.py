"""Fingerprints of training sets and weights depend on their content alone."""

import pytest
import torch
from mmengine.registry import init_default_scope
from small_datasets import CUHK_PERSONS, CUHK_SCENES, write_cuhk_sysu, write_mot, write_prw

from mmps.datasets import CUHKSYSU, PRW
from mmps.datasets.fingerprint import fingerprint, repeatable_settings
from mmps.fileio.checkpoint import weights_fingerprint
from mmps.registry import DATASETS

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadPersonAnnotations', with_bbox=True)]
RESIZE = dict(type='Resize', scale=(240, 140), keep_ratio=True)
FLIP = dict(type='RandomFlip', prob=0.5)
PACK = dict(type='PackPersonSearchInputs')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmps')


def of(root, scenes=CUHK_SCENES, persons=CUHK_PERSONS, **kwargs):
    return fingerprint(CUHKSYSU(data_root=str(write_cuhk_sysu(root, scenes, persons)), **kwargs))


def test_the_same_data_elsewhere_has_the_same_fingerprint(tmp_path):
    first = of(tmp_path / 'a')
    assert first == of(tmp_path / 'b', pipeline=[*LOAD, RESIZE, PACK], lazy_init=True)
    assert len(first) == 64 and int(first, 16)


@pytest.mark.parametrize(
    'changed',
    [
        dict(scenes=CUHK_SCENES | {'s2.jpg': [(12, 11, 22, 41)]}, persons=CUHK_PERSONS[1:]),
        dict(persons=CUHK_PERSONS[::-1]),
        dict(scenes={'s0.jpg': [], **CUHK_SCENES}),
        dict(scenes={'s0.jpg': [], **CUHK_SCENES}, filter_cfg=dict(filter_empty_gt=True)),  # the same images, other img_ids
        dict(filter_cfg=dict(filter_empty_gt=True)),
        dict(indices=2),
    ],
    ids=['box', 'person ids', 'image', 'img_id', 'filter', 'subset'],
)
def test_other_data_has_another_fingerprint(tmp_path, changed):
    assert of(tmp_path / 'a') != of(tmp_path / 'b', **changed)


def test_ignored_boxes_are_part_of_the_data(tmp_path):
    rows = [(frame, 3, 10 + frame, 11, 10, 20, 1, 1, 1.0) for frame in range(1, 9)]
    found = []
    for name, ignored in (('a', []), ('b', [(1, 9, 40, 30, 10, 20, 0, 7, 1.0)])):
        write_mot(tmp_path / name / 'train/MOT16-02', rows + ignored)
        found.append(fingerprint(DATASETS.build(dict(type='MOTChallenge', data_root=str(tmp_path / name)))))
    assert found[0] != found[1]


def test_other_classes_have_other_fingerprints(tmp_path):

    class Renamed(PRW):
        pass

    root = str(write_prw(tmp_path))
    assert fingerprint(PRW(data_root=root)) != fingerprint(Renamed(data_root=root))


def settings(root, *pipeline):
    return repeatable_settings(CUHKSYSU(data_root=str(root), pipeline=list(pipeline)))


def test_settings_are_those_that_change_the_image(cuhk_sysu):
    often = settings(cuhk_sysu, *LOAD, RESIZE, dict(FLIP, prob=1.0), PACK)
    assert (
        often
        == settings(cuhk_sysu, *LOAD, RESIZE, FLIP, dict(type='PackDetInputs'))
        == settings(cuhk_sysu, *LOAD, RESIZE, PACK)
    )
    assert [each.split('(')[0] for each in often] == ['LoadImageFromFile', 'LoadPersonAnnotations', 'Resize']
    for other in (dict(RESIZE, scale=(240, 141)), dict(RESIZE, keep_ratio=False), dict(RESIZE, interpolation='area')):
        assert often != settings(cuhk_sysu, *LOAD, other, FLIP, PACK)
    assert often != settings(cuhk_sysu, dict(type='LoadImageFromFile', color_type='grayscale'), LOAD[1], RESIZE, PACK)


def function(results):
    return results


@pytest.mark.parametrize(
    'name, transform',
    [
        ('RandomResize', dict(type='RandomResize', scale=(240, 140), ratio_range=(0.5, 2.0), keep_ratio=True)),
        ('RandomChoiceResize', dict(type='RandomChoiceResize', scales=[(240, 140), (120, 70)], keep_ratio=True)),
        ('RandomCrop', dict(type='RandomCrop', crop_size=(60, 50))),
        ('RandomAffine', dict(type='RandomAffine')),
        ('PhotoMetricDistortion', dict(type='PhotoMetricDistortion')),
        ('function', function),
    ],
)
def test_a_random_transform_is_refused_with_the_reason(cuhk_sysu, name, transform):
    with pytest.raises(ValueError, match=rf'^[^\n]*: {name} may return a different image each time[^\n]*scale[^\n]*$'):
        settings(cuhk_sysu, *LOAD, transform, FLIP, PACK)


@pytest.mark.parametrize(
    'pipeline, message',
    [
        ([*LOAD, FLIP, RESIZE, PACK], 'RandomFlip once, as the last transform before packing'),
        ([*LOAD, RESIZE, FLIP, FLIP, PACK], 'RandomFlip once'),
        ([*LOAD, RESIZE, dict(FLIP, direction='vertical'), PACK], 'horizontal, got vertical'),
        ([*LOAD, RESIZE, dict(FLIP, direction=['horizontal', 'diagonal']), PACK], 'horizontal, got .*diagonal'),
        ([*LOAD, RESIZE, FLIP, dict(PACK, meta_keys=['img_id'])], 'flip_direction among its meta_keys'),
        ([*LOAD, RESIZE], 'ends with PackPersonSearchInputs'),
        ([], 'ends with PackPersonSearchInputs'),
    ],
)
def test_a_pipeline_that_cannot_be_cached_is_refused(cuhk_sysu, pipeline, message):
    with pytest.raises(ValueError, match=rf'^train_dataloader: [^\n]*{message}[^\n]*$'):
        settings(cuhk_sysu, *pipeline)


@pytest.mark.parametrize('ask', [fingerprint, repeatable_settings])
def test_a_mix_of_several_images_is_refused(cuhk_sysu, ask):
    base = dict(type='CUHKSYSU', data_root=str(cuhk_sysu), pipeline=LOAD, filter_cfg=dict(filter_empty_gt=True))
    mosaic = [dict(type='Mosaic', img_scale=(140, 240)), PACK]
    dataset = DATASETS.build(dict(type='MultiImageMixDataset', dataset=base, pipeline=mosaic))
    with pytest.raises(ValueError, match='a person-search data set of its own, got MultiImageMixDataset'):
        ask(dataset)


WEIGHTS = {'b.weight': torch.arange(24.0).reshape(2, 3, 2, 2), 'a.steps': torch.tensor(3), 'c.lut': torch.zeros(0, 4)}


def test_the_weights_fingerprint_ignores_order_and_memory_layout():
    turned = {name: WEIGHTS[name] for name in sorted(WEIGHTS)}
    turned['b.weight'] = turned['b.weight'].to(memory_format=torch.channels_last)
    assert weights_fingerprint(turned) == weights_fingerprint(WEIGHTS)


@pytest.mark.parametrize(
    'name, value',
    [
        ('a.steps', torch.tensor(4)),
        ('a.steps', torch.tensor(3, dtype=torch.int32)),
        ('c.lut', torch.zeros(0, 5)),
        ('b.weight', WEIGHTS['b.weight'].reshape(2, 3, 4)),
        ('b.weight', WEIGHTS['b.weight'].half()),
        ('d', torch.tensor(3)),
    ],
    ids=['value', 'dtype', 'empty shape', 'shape', 'half', 'name'],
)
def test_other_weights_have_another_fingerprint(name, value):
    assert weights_fingerprint(WEIGHTS | {name: value}) != weights_fingerprint(WEIGHTS)
