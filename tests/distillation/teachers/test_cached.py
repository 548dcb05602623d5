"""Tests that a cache gives the embeddings that its teacher gives for the same boxes, or a clear error."""

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.detectors import TwoStageDetector
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, save_checkpoint

from mmps.apis.teacher_cache import cache_teacher
from mmps.distillation import CachedTeacher
from mmps.engine.hooks import IdentityHook
from mmps.registry import DATASETS, MODELS
from mmps.structures.persons import mirror_boxes, person_boxes

EMBED = dict(type='MethodOutputs', source='embed')
RECORDERS = dict(embeddings=EMBED, lut=dict(type='Attribute', source='memory.lut'))
BOTH = {
    f'{name}{suffix}': dict(from_student=name == 'student', recorder=recorder)
    for name in ('student', 'teacher')
    for suffix, recorder in (('', 'embeddings'), ('_lut', 'lut'))
}
DISTILLER = dict(
    type='PersonSearchDistiller',
    student_recorders=RECORDERS,
    teacher_recorders=RECORDERS,
    distill_losses=dict(loss_relation=dict(type='RelationLoss'), loss_response=dict(type='ResponseLoss')),
    loss_forward_mappings=dict(loss_relation={name: BOTH[name] for name in ('student', 'teacher')}, loss_response=BOTH),
)


def pipeline(*flip, width=168):
    return [
        dict(type='LoadImageFromFile'),
        dict(type='LoadPersonAnnotations', with_bbox=True),
        dict(type='Resize', scale=(width, 98), keep_ratio=True),
        *flip,
        dict(type='PackPersonSearchInputs'),
    ]


@pytest.fixture
def small(load_script, repository, tmp_path, monkeypatch):
    """Loads the functions that write small data sets."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'annotations'))
    return load_script(repository / 'tests/datasets/small_datasets.py')


@pytest.fixture
def root(small, tmp_path):
    """Writes five training scenes. The first and the last have no persons. The img_ids of the others are 1, 2 and 3."""
    return small.write_cuhk_sysu(tmp_path / 'data', {'s0.jpg': [], **small.CUHK_SCENES})


@pytest.fixture
def make_dataset(root, mmps_scope):

    def make(steps=None, data_root=root, filter_empty=True):
        return DATASETS.build(
            dict(
                type='CUHKSYSU',
                data_root=str(data_root),
                filter_cfg=dict(filter_empty_gt=filter_empty),
                pipeline=pipeline(dict(type='RandomFlip', prob=0.5)) if steps is None else steps,
            )
        )

    return make


@pytest.fixture
def make_config(root, detector_config, build_detector, tmp_path, monkeypatch):
    """make_config(**changes of the model) -> config of a distilled run whose teacher has another normalization."""
    monkeypatch.chdir(tmp_path)

    def make(seed=3, **changes):
        teacher = detector_config(width=8, num_identities=2)
        teacher.data_preprocessor.update(mean=[100.0, 110, 120], std=[50.0, 60, 70], bgr_to_rgb=False)
        torch.manual_seed(seed)
        weights = build_detector(width=8, num_identities=2, seed=seed).state_dict()
        name = next(name for name in weights if name.endswith('memory.lut'))
        weights[name] = torch.nn.functional.normalize(torch.randn(2, 16))
        save_checkpoint(dict(state_dict=weights), str(tmp_path / f'teacher{seed}.pth'))
        model = (
            dict(
                type='PersonSearchDistill',
                architecture=detector_config(width=4, num_identities=2),
                teacher=teacher,
                teacher_ckpt=str(tmp_path / f'teacher{seed}.pth'),
                box_jitter=0.2,
                distiller=DISTILLER,
            )
            | changes
        )
        loader = dict(
            num_workers=0,
            dataset=dict(
                type='CUHKSYSU',
                data_root=str(root),
                filter_cfg=dict(filter_empty_gt=True),
                pipeline=pipeline(dict(type='RandomFlip', prob=0.5)),
            ),
        )
        (tmp_path / 'distilled.py').write_text(f'model = {Config(model).to_dict()}\ntrain_dataloader = {loader}\n')
        return Config.fromfile('distilled.py')

    return make


@pytest.fixture
def config(make_config):
    return make_config()


@pytest.fixture
def written(config, tmp_path):
    """Writes a cache with three jitters and returns its folder."""
    cache_teacher(config, tmp_path / 'cache', jitters=3)
    return tmp_path / 'cache'


def batch_of(dataset, preprocessor):
    batch = preprocessor(pseudo_collate([dataset[index] for index in range(len(dataset))]), training=True)
    return batch['inputs'], batch['data_samples']


def build(config, **changes):
    return MODELS.build(dict(config.model) | changes).train()


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_every_jitter_has_the_embeddings_that_the_teacher_gives_in_training(config, written, make_dataset, flip):
    model, cached = build(config), CachedTeacher(written)
    inputs, samples = batch_of(make_dataset(pipeline(dict(type='RandomFlip', prob=flip))), model.student.data_preprocessor)
    assert [sample.img_id for sample in samples] == [1, 2, 3] and samples[0].flip == bool(flip)
    with torch.no_grad():
        feats = model.teacher.network.extract_feat(model.teacher.convert(inputs, samples))
        seen = set()
        for seed in range(20):
            torch.manual_seed(seed)
            boxes = cached.choose_boxes(samples, 0.2)
            found, expected = cached.embed(samples, boxes), model.teacher.network.embed(feats, boxes)
            assert [each.shape for each in found] == [(2, 16), (1, 16), (2, 16)]
            torch.testing.assert_close(found, list(expected), atol=1e-5, rtol=0)
            seen |= {tuple(of_image.flatten().tolist()) for of_image in boxes}
    assert len(seen) == 3 * len(samples)


def test_boxes_move_within_the_jitter_and_the_same_in_the_mirror_image(written, make_dataset, config):
    cached, preprocessor = CachedTeacher(written), build(config).student.data_preprocessor
    (_, plain), (_, mirrored) = (
        batch_of(make_dataset(pipeline(dict(type='RandomFlip', prob=flip))), preprocessor) for flip in (0.0, 1.0)
    )
    given = torch.cat(person_boxes(plain))
    size = (given[:, 2:] - given[:, :2]).repeat(1, 2)
    for seed in range(5):
        torch.manual_seed(seed)
        moved = torch.cat(cached.choose_boxes(plain, 0.2))
        torch.manual_seed(seed)
        torch.testing.assert_close(mirror_boxes(torch.cat(cached.choose_boxes(mirrored, 0.2)), 168), moved)
        share = (moved - given).abs() / size
        assert 0.05 < share.max() <= 0.2 and (share > 0).all()


def test_boxes_without_jitter_are_exact(make_config, make_dataset, tmp_path):
    config = make_config(box_jitter=0.0)
    assert cache_teacher(config, tmp_path / 'cache').header.jitters == 1
    _, samples = batch_of(make_dataset(), build(config).student.data_preprocessor)
    boxes = CachedTeacher(tmp_path / 'cache').choose_boxes(samples, 0.0)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(boxes, person_boxes(samples), strict=True))


def test_a_student_learns_from_the_cache_what_it_learns_from_the_teacher(make_config, make_dataset, tmp_path):
    config = make_config(box_jitter=0.0)
    cache_teacher(config, tmp_path / 'cache')
    losses = []
    for changes in ({}, dict(teacher=dict(type='CachedTeacher', path=str(tmp_path / 'cache')), teacher_ckpt=None)):
        torch.manual_seed(0)
        model = build(config, **changes)
        inputs, samples = batch_of(make_dataset(pipeline(dict(type='RandomFlip', prob=1.0))), model.student.data_preprocessor)
        losses.append({name: value for name, value in model.loss(inputs, samples).items() if name.startswith('distill')})
    assert losses[1].keys() == {'distill.loss_relation', 'distill.loss_response'}
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)


def test_checkpoints_hold_nothing_of_the_cache(config, written):
    cached = CachedTeacher(written)
    assert not cached.state_dict() and cached.memory.num_identities == 2
    lut = build(config).teacher.memory.lut
    assert torch.equal(cached.memory.lut, lut) and lut.any()
    model = build(config, teacher=dict(type='CachedTeacher', path=str(written)), teacher_ckpt=None)
    assert model.state_dict().keys() == model.student.state_dict().keys()


def test_images_without_persons_are_cached_without_a_teacher_pass(config, make_dataset, tmp_path, count_passes):
    config.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False)
    cache_teacher(config, tmp_path / 'cache', jitters=2)
    assert len(count_passes) == 3
    cached = CachedTeacher(tmp_path / 'cache')
    _, samples = batch_of(make_dataset(filter_empty=False), build(config).student.data_preprocessor)
    assert [len(each) for each in cached.embed(samples, cached.choose_boxes(samples, 0.2))] == [0, 2, 1, 2, 0]
    nobody = [samples[0], samples[4]]
    assert [each.shape for each in cached.embed(nobody, cached.choose_boxes(nobody, 0.2))] == [(0, 16), (0, 16)]


@pytest.fixture
def count_passes(monkeypatch):
    """Returns a list that grows with every pass of the teacher. The pass after ``limit`` passes is interrupted."""

    class Passes(list):
        limit = None

    passes, run = Passes(), TwoStageDetector.extract_feat

    def extract_feat(self, images):
        if len(passes) == passes.limit:
            raise InterruptedError('killed')
        passes.append(len(images))
        return run(self, images)

    monkeypatch.setattr(TwoStageDetector, 'extract_feat', extract_feat)
    return passes


def test_an_interrupted_write_continues_and_ends_as_an_uninterrupted_one(config, written, tmp_path, count_passes):
    count_passes.limit = 2
    with pytest.raises(InterruptedError):
        cache_teacher(config, tmp_path / 'other', jitters=3)
    with pytest.raises(
        ValueError,
        match=r'other: partial teacher cache: found 2 images, expected 3; go on with: python '
        r'tools/cache_teacher\.py distilled\.py --out \S*other --jitters 3 --seed 0$',
    ):
        CachedTeacher(tmp_path / 'other')
    count_passes.limit = None
    cache_teacher(config, tmp_path / 'other', jitters=3)
    assert count_passes == [2, 2, 2]  # each image and its mirror image once
    assert content(tmp_path / 'other') == content(written)
    cache_teacher(config, tmp_path / 'other', jitters=3)
    assert len(count_passes) == 3


def test_a_write_that_ended_before_the_header_starts_again(config, written):
    before = content(written)
    (written / 'header.json').rename(written / 'header.json.0a1b2c3d.tmp')
    (written / 'lut.npy').write_bytes(b'')
    with pytest.raises(FileNotFoundError, match=r'header\.json: no such file.*python tools/cache_teacher\.py'):
        CachedTeacher(written)
    cache_teacher(config, written, jitters=3)
    assert content(written) == before


def test_a_folder_with_other_files_is_refused(config, tmp_path):
    (tmp_path / 'thesis.tex').write_text('')
    with pytest.raises(ValueError, match=r'expected a new folder or a teacher cache, found \S+ in it'):
        cache_teacher(config, tmp_path)
    assert not (tmp_path / 'lut.npy').exists()


def refused(message, call, *args, **kwargs):
    with pytest.raises((ValueError, OSError)) as error:
        call(*args, **kwargs)
    for part in message:
        assert part in str(error.value)
    assert '\n' not in str(error.value)


def test_other_data_is_refused(small, config, written, make_dataset, tmp_path):
    CachedTeacher(written).check(make_dataset())
    scenes = small.CUHK_SCENES | {'s1.jpg': [(10, 10, 20, 41), (50, 12, 20, 44)]}
    other = small.write_cuhk_sysu(tmp_path / 'other_data', {'s0.jpg': [], **scenes})
    message = (str(written), 'stale', 'its data differ: found ', 'write it anew with: python tools/cache_teacher.py')
    refused(message, CachedTeacher(written).check, make_dataset(data_root=other))
    config.train_dataloader.dataset.data_root = str(other)
    refused(message, cache_teacher, config, written, jitters=3)


def test_another_teacher_is_refused(config, make_config, written):
    CachedTeacher(written, checkpoint=config.model.teacher_ckpt)
    other = make_config(seed=4)
    message = (str(written), 'stale', 'its weights differ: found ')
    refused(message, CachedTeacher, written, checkpoint=other.model.teacher_ckpt)
    refused(message, cache_teacher, other, written, jitters=3)


def test_other_transforms_are_refused(config, written, make_dataset):
    message = (str(written), 'stale', 'its transforms differ: found ', 'scale=(168, 98)', 'scale=(120, 98)')
    refused(message, CachedTeacher(written).check, make_dataset(pipeline(width=120)))
    config.train_dataloader.dataset.pipeline = pipeline(width=120)
    refused(message, cache_teacher, config, written, jitters=3)


@pytest.mark.parametrize(
    'name, changes, arguments',
    [
        ('jitters', {}, dict(jitters=2)),
        ('seed', {}, dict(jitters=3, seed=1)),
        ('box_jitter', dict(box_jitter=0.1), dict(jitters=3)),
    ],
)
def test_a_cache_with_other_boxes_is_not_continued(make_config, written, name, changes, arguments):
    refused((f'its {name} differ: found ',), cache_teacher, make_config(**changes), written, **arguments)


@pytest.mark.parametrize(
    'harm',
    [
        lambda file: file.write_bytes(file.read_bytes()[:-10]),
        lambda file: file.write_bytes(b''),
        lambda file: file.unlink(),
        lambda file: np.save(file, np.load(file)[..., :-1]),
    ],
    ids=['cut', 'emptied', 'removed', 'of another shape'],
)
def test_a_damaged_file_is_named(config, written, harm):
    for file in written.glob('*.npy'):
        whole = file.read_bytes()
        harm(file)
        refused((str(file),), CachedTeacher, written)
        refused((str(file),), cache_teacher, config, written, jitters=3)
        file.write_bytes(whole)
    CachedTeacher(written)


@pytest.mark.parametrize('harm', ['{', '[1]', '{"format": "mmps teacher cache 1"}', 'format', 'embed_dims'])
def test_a_wrong_header_is_named(config, written, harm):
    file = written / 'header.json'
    header = json.loads(file.read_text())
    if harm in header:
        header[harm] = 8
        harm = json.dumps(header)
    file.write_text(harm)
    refused((str(written), 'expected', 'python tools/cache_teacher.py'), CachedTeacher, written)
    refused((str(written), 'expected'), cache_teacher, config, written, jitters=3)


def test_an_image_with_another_number_of_persons_is_named(config, written, make_dataset):
    cached = CachedTeacher(written)
    _, samples = batch_of(make_dataset(), build(config).student.data_preprocessor)
    samples[2].gt_instances = samples[2].gt_instances[:1]
    refused(('s3.jpg: found 1 persons, expected the 2 of', str(written)), cached.choose_boxes, samples, 0.2)
    samples[2].set_metainfo(dict(img_id=9))
    refused((f'{written}: has no image with img_id 9',), cached.choose_boxes, samples, 0.2)


def test_recorders_of_feature_maps_are_refused_when_the_model_is_built(config, written):
    maps = dict(RECORDERS, feats=dict(type='MethodOutputs', source='extract_feat'))
    distiller = dict(
        DISTILLER,
        student_recorders=maps,
        teacher_recorders=maps,
        distill_losses=dict(loss_pkd=dict(type='mmrazor.PKDLoss')),
        loss_forward_mappings=dict(
            loss_pkd=dict(preds_S=dict(from_student=True, recorder='feats'), preds_T=dict(from_student=False, recorder='feats'))
        ),
    )
    refused(
        ('a cached teacher has no feature maps: recorders may read embed and memory.lut only',),
        build,
        config,
        distiller=distiller,
        teacher=dict(type='CachedTeacher', path=str(written)),
        teacher_ckpt=None,
    )


def test_gdps_is_refused_for_its_feature_maps(repository, config, written):
    distil = Config.fromfile(repository / 'configs/_base_/distillers/gdps.py').distil
    refused(
        ('a cached teacher has no feature maps',),
        MODELS.build,
        dict(
            distil,
            type='PersonSearchDistill',
            architecture=config.model.architecture,
            teacher=dict(type='CachedTeacher', path=str(written)),
        ),
    )


def test_another_box_jitter_is_refused(config, written):
    teacher = dict(type='CachedTeacher', path=str(written))
    refused(
        ('box_jitter is 0.1, ', 'embedded boxes with box_jitter 0.2: write a cache from this config'),
        build,
        config,
        box_jitter=0.1,
        teacher=teacher,
        teacher_ckpt=None,
    )


def test_the_runner_checks_that_the_cache_is_of_its_training_set(config, written, make_dataset):

    class Loop(BaseLoop):
        def run(self):
            pass

    model = build(config, teacher=dict(type='CachedTeacher', path=str(written)), teacher_ckpt=None)

    def before_run(dataset):
        loop = Loop(None, torch.utils.data.DataLoader(dataset))
        IdentityHook().before_run(
            SimpleNamespace(_train_loop=loop, train_loop=loop, model=model, logger=MMLogger.get_instance('cache'))
        )

    before_run(make_dataset())
    refused(('its transforms differ',), before_run, make_dataset(pipeline(width=120)))


@pytest.mark.parametrize(
    'changes, arguments, message',
    [
        (dict(teacher_ckpt=None), {}, 'distilled.py: expected the config of a distilled run'),
        (dict(teacher=None), {}, 'distilled.py: expected the config of a distilled run'),
        (dict(teacher_ckpt='nowhere.pth'), {}, 'nowhere.pth'),
        (dict(box_jitter=0.0), dict(jitters=2), '--jitters 2: expected 1'),
        ({}, dict(jitters=0), '--jitters 0: expected 1 or more'),
    ],
)
def test_what_cannot_be_cached_is_refused_before_anything_is_written(make_config, tmp_path, changes, arguments, message):
    refused((message,), cache_teacher, make_config(**changes), tmp_path / 'cache', **arguments)
    assert not (tmp_path / 'cache').exists()


def test_random_scales_are_refused(config, tmp_path):
    scales = dict(type='RandomChoiceResize', scales=[(120, 70), (168, 98)], keep_ratio=True)
    config.train_dataloader.dataset.pipeline[2] = scales
    refused(('RandomChoiceResize', 'of one scale'), cache_teacher, config, tmp_path / 'cache')
    config.train_dataloader.dataset.pipeline = pipeline()
    config.model.architecture.data_preprocessor.batch_augments = [
        dict(type='BatchSyncRandomResize', random_size_range=(96, 192))
    ]
    refused(('batch_augments', 'of one scale'), cache_teacher, config, tmp_path / 'cache')


def test_the_tool_writes_what_the_function_writes(written, tmp_path, load_script, repository, monkeypatch, capsys):
    tool = load_script(repository / 'tools/cache_teacher.py')
    monkeypatch.setattr(sys, 'argv', ['', 'distilled.py', '--out', 'again', '--jitters', '3', '--seed', '0'])
    tool.main()
    assert content(tmp_path / 'again') == content(written)
    assert 'again: 5 persons of 3 images' in capsys.readouterr().out
    shutil.rmtree('again')
    sys.argv += ['--cfg-options', 'model.teacher_ckpt=nowhere.pth']
    with pytest.raises(SystemExit, match=r'^error: teacher_ckpt: there is no file nowhere\.pth$'):
        tool.run_tool(tool.main)
