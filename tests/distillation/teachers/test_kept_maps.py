"""Tests that a teacher whose images come again computes their feature maps once, and that the losses stay the same."""

import pytest
import torch
from mmengine.config import Config

from mmps.distillation.teachers.kept_maps import KeptMaps
from mmps.registry import DATASETS, MODELS

REPEATED = [dict(type='RandomFlip', prob=0.5)]
CHANGED = [dict(type='PhotoMetricDistortion'), *REPEATED]


@pytest.fixture
def make_dataset(load_script, repository, tmp_path, monkeypatch, mmps_scope):
    """make_dataset(transforms) -> a training set with these transforms."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'annotations'))
    root = load_script(repository / 'tests/datasets/small_datasets.py').write_cuhk_sysu(tmp_path / 'data')
    start = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadPersonAnnotations', with_bbox=True),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
    ]

    def make(transforms):
        pipeline = [*start, *transforms, dict(type='PackPersonSearchInputs')]
        return DATASETS.build(dict(type='CUHKSYSU', data_root=str(root), pipeline=pipeline))

    return make


@pytest.fixture
def build_distilled(repository, detector_config, mmps_scope):
    """build_distilled(method, **changes of the model) -> the model, and the list of how many images its teacher computes."""

    def make(method='gdps', **changes):
        distil = Config.fromfile(repository / f'configs/_base_/distillers/{method}.py').distil
        student, teacher = detector_config(width=4, num_identities=6), detector_config(width=8, num_identities=6)
        torch.manual_seed(0)
        model = MODELS.build({'type': 'PersonSearchDistill', 'architecture': student, 'teacher': teacher, **distil, **changes})
        computed = []
        model.teacher.network.backbone.register_forward_pre_hook(lambda _, inputs: computed.append(len(inputs[0])))
        return model.train(), computed

    return make


def flipped_batch(make_batch, seed, *flips):
    """Two images that are always the same, each with its mirror image."""
    inputs, samples = make_batch([[0, 3], [-1, 5]])
    for image, sample, flip in zip(inputs, samples, flips, strict=True):
        sample.set_metainfo(dict(flip=flip))
        image.copy_(image.flip(-1) if flip else image)
    torch.manual_seed(seed)
    return inputs, samples


FLIPS = [(False, False), (False, True), (True, True), (False, False)]


@pytest.mark.parametrize('method, changes', [('gdps', {}), ('ddps', {}), ('gdps', dict(teacher_autocast='bfloat16'))])
def test_losses_are_the_same_and_each_image_is_computed_once(build_distilled, make_dataset, make_batch, method, changes):
    values, passes = [], []
    for keeps in (False, True):
        model, computed = build_distilled(method, **changes)
        if keeps:
            model.teacher.check(make_dataset(REPEATED))
        values.append([model.loss(*flipped_batch(make_batch, step, *flips)) for step, flips in enumerate(FLIPS)])
        passes.append(computed)
    assert passes == [[2, 2, 2, 2], [1, 1, 1, 1]]
    torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=1e-5)


def test_images_that_never_come_again_are_not_kept(build_distilled, make_dataset, make_batch):
    model, computed = build_distilled()
    model.teacher.check(make_dataset(CHANGED))
    for step, flips in enumerate(FLIPS):
        model.loss(*flipped_batch(make_batch, step, *flips))
    assert computed == [2, 2, 2, 2] and not model.teacher.kept_maps.size


def test_a_recorder_within_the_neck_sees_every_image(build_distilled, detector_config, make_dataset, make_batch):
    recorders = dict(inner=dict(type='mmrazor.ModuleOutputs', source='neck.lateral_convs.0.conv'))
    distiller = dict(
        type='PersonSearchDistiller',
        student_recorders=recorders,
        teacher_recorders=recorders,
        distill_losses=dict(loss_inner=dict(type='mmrazor.L2Loss')),
        loss_forward_mappings=dict(
            loss_inner=dict(
                s_feature=dict(from_student=True, recorder='inner'), t_feature=dict(from_student=False, recorder='inner')
            )
        ),
    )
    model, computed = build_distilled(distiller=distiller, teacher=detector_config(width=4, num_identities=6))
    model.teacher.check(make_dataset(REPEATED))
    for step in range(2):
        assert model.loss(*flipped_batch(make_batch, step, False, False))['distill.loss_inner'] > 0
    assert computed == [2, 2] and not model.teacher.kept_maps.size


def test_an_image_has_the_same_bits_in_any_batch(build_distilled, make_batch):
    """So a resumed training, whose first batches hold other images than those that were kept, is the uninterrupted one."""
    images, _ = make_batch([[0, 3], [-1, 5], [2]])
    kept = []
    for order in ([0, 1, 2], [2], [1, 2]):
        teacher = build_distilled()[0].teacher
        teacher.kept_maps.images = order
        with torch.no_grad():
            kept.append([level[order.index(2)] for level in teacher.network.extract_feat(images[order])])
    for levels in zip(*kept, strict=True):
        assert all(torch.equal(level, levels[0]) for level in levels)


def test_no_more_is_kept_than_the_limit():
    computed = []

    def extract_feat(network, images):
        computed.append(images[:, 0, 0, 0].tolist())
        return images, images[..., ::2]

    kept = KeptMaps(limit=2 * 4 * (3 * 4 * 4 + 3 * 4 * 2))
    extract = kept.around(extract_feat)
    for numbers in ([1, 2], [2, 3], [3, 1]):
        batch = torch.ones(2, 3, 4, 4) * torch.tensor(numbers)[:, None, None, None]
        kept.images = numbers
        for level, expected in zip(extract(None, batch), (batch, batch[..., ::2]), strict=True):
            assert torch.equal(level, expected)
    assert computed == [[1], [2], [3], [3]] and kept.size == kept.limit
    kept.images = None
    extract(None, batch)
    assert computed[-1] == [3, 1]
