"""Tests that teacher and student see the same images, each in its own normalization."""

import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample

from mmps.distillation.teachers.image_conversion import ImageConversion
from mmps.registry import MODELS

RGB = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])
PLAIN = dict()
EACH = {'rgb': RGB, 'caffe': CAFFE, 'plain': PLAIN, 'plain, swapped': dict(bgr_to_rgb=True)}


def preprocessed(cfg, sizes):
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    samples = [DetDataSample(metainfo=dict(img_shape=size)) for size in sizes]
    preprocessor = DetDataPreprocessor(pad_size_divisor=16, **cfg)
    return preprocessor, preprocessor(dict(inputs=images, data_samples=samples), training=True)


@pytest.mark.parametrize('sizes', [[(32, 48)], [(30, 41), (17, 48)]], ids=['not padded', 'padded'])
@pytest.mark.parametrize('target', EACH)
@pytest.mark.parametrize('source', EACH)
def test_images_are_what_the_other_preprocessor_makes(source, target, sizes):
    source, data = preprocessed(EACH[source], sizes)
    target, expected = preprocessed(EACH[target], sizes)
    found = ImageConversion(source, target)(data['inputs'], data['data_samples'])
    torch.testing.assert_close(found, expected['inputs'], atol=1e-3, rtol=1e-5)


def test_equal_preprocessors_return_the_same_tensor():
    source, data = preprocessed(RGB, [(30, 41)])
    assert ImageConversion(source, source)(data['inputs'], data['data_samples']) is data['inputs']


def test_a_teacher_gets_images_in_its_own_normalization(detector_config, mmps_scope, make_batch, monkeypatch):
    student, teacher = detector_config(width=4), detector_config(width=4)
    teacher.data_preprocessor.update(CAFFE, bgr_to_rgb=False)
    recorders = dict(embeddings=dict(type='MethodOutputs', source='embed'))
    mapping = {role: dict(from_student=role == 'student', recorder='embeddings') for role in ('student', 'teacher')}
    model = MODELS.build(
        dict(
            type='PersonSearchDistill',
            architecture=student,
            teacher=teacher,
            distiller=dict(
                type='PersonSearchDistiller',
                student_recorders=recorders,
                teacher_recorders=recorders,
                distill_losses=dict(loss_relation=dict(type='RelationLoss')),
                loss_forward_mappings=dict(loss_relation=mapping),
            ),
        )
    ).train()
    seen = {}
    for name, network in (('teacher', model.teacher.network), ('student', model.student)):
        extract_feat = network.extract_feat
        monkeypatch.setattr(
            network,
            'extract_feat',
            lambda images, name=name, extract_feat=extract_feat: seen.update({name: images}) or extract_feat(images),
        )
    model.student.memory.lut.normal_()
    images, samples = make_batch([[0, 3], [5]])
    model.loss(images, samples)
    assert seen['student'] is images
    mean, std = (torch.tensor(RGB[name])[:, None, None] for name in ('mean', 'std'))
    expected = (images * std + mean).flip(1) - torch.tensor(CAFFE['mean'])[:, None, None]
    torch.testing.assert_close(seen['teacher'], expected, atol=1e-3, rtol=1e-5)
    assert not any('convert' in name for name in model.state_dict())
