"""A re-id network on crops: what it sees of a box, training on any batch, testing like a detector, teaching a detector."""

import mmdet.models.reid.linear_reid_head as linear_reid_head
import pytest
import torch
import torch.nn.functional as F
from mmdet.models.reid import GlobalAveragePooling, LinearReIDHead
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmps.distillation.recorders import MethodOutputsRecorder
from mmps.models.detectors.crop_reid import erase_rectangles
from mmps.registry import MODELS

NORM = dict(type='BN1d')


@pytest.fixture
def small_config(repository):
    cfg = Config.fromfile(repository / 'configs/_base_/models/reid_r18-w32.py')
    cfg.merge_from_dict(
        {
            'model.crop_size': (32, 16),
            'model.box_jitter': 0.0,
            'model.erasing': 0.0,
            'model.reid.backbone.base_channels': 8,
            'model.reid.in_channels': 64,
            'model.reid.fc_channels': (24,),
            'model.reid.out_channels': 16,
            'model.reid_loss.embed_dims': 16,
            'model.reid_loss.queue_size': 10,
            'model.reid_loss.num_identities': 6,
        }
    )
    return cfg.model


@pytest.fixture
def network(small_config, mmps_scope):
    torch.manual_seed(0)
    model = MODELS.build(small_config)
    model.init_weights()
    model.memory.lut.copy_(F.normalize(torch.randn(6, 16)))
    return model.eval()


def cut(network, image, box):
    """Returns the crop of an image (3, H, W) that ``reid`` gets for a box."""
    seen = []
    hook = network.reid.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network.embed(network.extract_feat(image[None]), [torch.tensor([box], dtype=torch.float32)])
    hook.remove()
    (crop,) = seen[0]
    return crop


@pytest.mark.parametrize('factor', [1, 2, 3])
def test_a_crop_is_the_box_cut_out_and_averaged_down(network, factor):
    image = torch.randn(3, 120, 90)
    crop = cut(network, image, [5, 7, 5 + 16 * factor, 7 + 32 * factor])
    wanted = F.avg_pool2d(image[:, 7 : 7 + 32 * factor, 5 : 5 + 16 * factor], factor)
    torch.testing.assert_close(crop, wanted, atol=1e-5, rtol=0)


def test_a_small_box_is_interpolated(network):
    image = torch.randn(3, 120, 90)
    crop = cut(network, image, [5, 7, 13, 23])
    wanted = F.interpolate(image[None, :, 7:23, 5:13], scale_factor=2, mode='bilinear')[0]
    torch.testing.assert_close(
        crop[:, 1:-1, 1:-1], wanted[:, 1:-1, 1:-1], atol=1e-5, rtol=0
    )  # the rim mixes with pixels outside of the box


def test_a_crop_is_zero_outside_the_image(network):
    crop = cut(network, torch.ones(3, 64, 48), [40, 0, 56, 32])
    assert crop[:, :, :8].eq(1).all() and not crop[:, :, 9:].any()


def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(network, make_batch):
    images, samples = make_batch([[0, 1, 2], [], [3]])
    boxes = [sample.gt_instances.bboxes for sample in samples]
    embeddings = network.embed(network.extract_feat(images), boxes)
    assert [each.shape for each in embeddings] == [(3, 16), (0, 16), (1, 16)]
    torch.testing.assert_close(torch.cat(embeddings).norm(dim=1), torch.ones(4))
    (alone,) = network.embed(network.extract_feat(images[:1]), [boxes[0][1:2]])
    torch.testing.assert_close(alone[0], embeddings[0][1])


@pytest.mark.parametrize(
    'persons',
    [[[], []], [[3], []], [[-1], []], [[-1, -1], [-1]], [[2, 1, -1], [2]]],
    ids=['nobody', 'one', 'one unlabelled', 'unlabelled', 'several'],
)
def test_any_batch_of_persons_trains_every_weight(network, make_batch, persons):
    network.train()
    before = {name: value.clone() for name, value in network.named_buffers() if 'running' in name}
    losses = network.loss(*make_batch(persons))
    losses['loss_reid'].backward()
    assert set(losses) == {'loss_reid'} and losses['loss_reid'].isfinite()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    several = sum(map(len, persons)) > 1
    assert any(weight.grad.any() for weight in network.parameters()) == any(i >= 0 for ids in persons for i in ids)
    for name, value in before.items():
        assert torch.equal(network.get_buffer(name), value) != several, name
    network.loss(*make_batch([[0, 1]]))
    assert all(module.training for module in network.modules())  # training mode is restored


def test_training_lowers_the_loss(network, make_batch):
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.005)
    values = []
    for _ in range(15):
        loss = network.loss(*make_batch([[0, 1, -1], [2, 3]]))['loss_reid']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]
    assert network.memory.lut[:4].any(1).all() and network.memory.queue_position == 5


def crops_of_a_step(network, images, samples):
    """Returns the crops (N, 3, h, w) that ``reid`` gets in a training step."""
    seen = []
    hook = network.reid.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network.train().loss(images, samples)
    hook.remove()
    return seen[0]


def test_training_sees_moved_boxes_and_testing_the_given_ones(network, make_batch):
    """DKD's image-level spatial-invariant augmentation trains the teacher."""
    _, samples = make_batch([[0, 1, 2]])
    images = torch.arange(96.0).expand(1, 3, 64, 96)  # a pixel's value is its column
    boxes = samples[0].gt_instances.bboxes
    still = crops_of_a_step(network, images, samples)
    network.box_jitter = 0.1
    torch.manual_seed(0)
    moved = crops_of_a_step(network, images, samples)
    torch.manual_seed(0)
    assert torch.equal(crops_of_a_step(network, images, samples), moved)
    centers, widths = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 2] - boxes[:, 0]
    torch.testing.assert_close(still.mean((1, 2, 3)), centers - 0.5, atol=0.1, rtol=0)
    shift = (moved.mean((1, 2, 3)) - still.mean((1, 2, 3))) / widths
    assert 0.001 < shift.abs().max() <= 0.1 + 0.01
    network.eval()
    seen = cut(network, images[0], boxes[0].tolist())
    torch.testing.assert_close(seen, still[0])


def test_training_erases_parts_of_some_crops(network, make_batch):
    images, samples = make_batch([[0, 1, 2], [3]])
    network.erasing = 1.0
    torch.manual_seed(0)
    crops = crops_of_a_step(network, torch.ones_like(images), samples)
    assert all(0 < crop.eq(0).float().mean() < 0.6 for crop in crops)
    assert cut(network.eval(), torch.ones_like(images)[0], [4.0, 6, 24, 58]).eq(1).all()


def test_an_erased_part_is_a_rectangle_of_the_published_size():
    torch.manual_seed(0)
    crops = torch.ones(2000, 3, 64, 32)
    erased = erase_rectangles(crops, 0.5) == 0
    assert crops.eq(1).all() and (erased == erased[:, :1]).all()
    erased = erased[:, 0]
    some = erased.flatten(1).any(1)
    assert some.float().mean() == pytest.approx(0.5, abs=0.05)
    rows, columns = erased[some].any(2), erased[some].any(1)
    assert (erased[some] == (rows[:, :, None] & columns[:, None])).all()
    assert all((each[:, 1:].int() - each[:, :-1].int()).abs().sum(1).max() <= 2 for each in (rows, columns))  # one piece each
    height, width = rows.sum(1), columns.sum(1)
    share = height * width / (64 * 32)
    assert 0.005 < share.min() < 0.03 and 0.35 < share.max() < 0.43 and share.mean() == pytest.approx(0.21, abs=0.03)
    ratio = height / width
    assert 0.2 < ratio.min() < 0.4 and 3 < ratio.max() < 5
    # all places are reached
    assert erased.any(0).all()
    assert erase_rectangles(crops, 0.0) is crops and erase_rectangles(crops[:0], 0.5).shape == (0, 3, 64, 32)


def test_it_detects_the_annotated_persons_in_original_pixels(network, make_batch):
    images, samples = make_batch([[0, 1, -1], []], scale=(0.5, 0.5))
    in_input = [sample.gt_instances.bboxes.clone() for sample in samples]
    for sample in samples:
        sample.gt_instances.bboxes *= 2
    samples[0].query_instances = InstanceData(bboxes=samples[0].gt_instances.bboxes[1:2], query_ids=torch.tensor([4]))
    with torch.no_grad():
        results = network(images, samples, mode='predict')
        wanted = network.embed(network.extract_feat(images), in_input)
    for result, of_image in zip(results, wanted, strict=True):
        found = result.pred_instances
        torch.testing.assert_close(found.bboxes, result.gt_instances.bboxes)
        assert found.scores.eq(1).all() and found.labels.dtype == torch.long
        torch.testing.assert_close(found.embeddings, of_image)
        torch.testing.assert_close(result.gt_instances.embeddings, of_image)
    torch.testing.assert_close(results[0].query_instances.embeddings, wanted[0][1:2])


@pytest.mark.parametrize('annotations', [None, InstanceData()])
def test_without_annotations_it_detects_nobody(network, make_batch, annotations):
    images, samples = make_batch([[0, 1]])
    del samples[0].gt_instances
    if annotations is not None:
        samples[0].gt_instances = annotations
    found = network.predict(images, samples)[0].pred_instances
    assert found.bboxes.shape == (0, 4) and found.embeddings.shape == (0, 16)


def test_a_checkpoint_of_mmdetections_reid_model_loads(small_config, mmps_scope, tmp_path, monkeypatch):
    monkeypatch.setattr(linear_reid_head, 'mmpretrain', object())  # the head does not use it without a loss
    head = LinearReIDHead(
        1,
        64,
        24,
        16,
        norm_cfg=NORM,
        act_cfg=dict(type='ReLU'),
        num_classes=5,
        loss_cls=dict(type='CrossEntropyLoss'),
        loss_triplet=dict(type='TripletLoss'),
    )
    # BaseReID is MMPretrain's ImageClassifier, which has its parts under these names.
    theirs = nn.ModuleDict(dict(backbone=MODELS.build(small_config.reid.backbone), head=head)).eval()
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    torch.save(dict(state_dict=theirs.state_dict()), tmp_path / 'reid.pth')
    small_config.reid.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'reid.pth'))
    ours = MODELS.build(small_config)
    ours.init_weights()
    crops = torch.randn(3, 3, 32, 16)
    wanted = head(GlobalAveragePooling()(theirs['backbone'](crops)))
    assert wanted.std() > 0
    torch.testing.assert_close(ours.eval().reid(crops), wanted)


def test_any_module_can_be_the_reid_network(small_config, mmps_scope, make_batch):
    @MODELS.register_module(force=True)
    class MeanColour(nn.Module):
        def forward(self, crops):
            return crops.mean((2, 3))

    small_config.reid_loss.embed_dims = 3
    images, samples = make_batch([[0, 1]])
    network = MODELS.build({**small_config, 'reid': dict(type='MeanColour')})
    (embeddings,) = network.eval().embed((images,), [samples[0].gt_instances.bboxes])
    assert embeddings.shape == (2, 3)


def test_another_embedding_size_is_refused_in_one_line(small_config, mmps_scope):
    small_config.reid_loss.embed_dims = 8
    with pytest.raises(ValueError, match=r'CropReID: reid has out_channels=16, reid_loss embed_dims=8: they must agree$'):
        MODELS.build(small_config)


@pytest.mark.parametrize('source', ['refine_boxes', 'dense_head.forward'])
def test_recording_a_detection_head_is_refused(network, source):
    with pytest.raises(ValueError, match=f"CropReID has no method '{source}'"):
        MethodOutputsRecorder(source).prepare_from_model(network)


def test_it_teaches_a_detector(small_config, detector_config, mmps_scope, make_batch):
    torch.manual_seed(0)
    recorders = dict(embeddings=dict(type='MethodOutputs', source='embed'), lut=dict(type='Attribute', source='memory.lut'))

    def both(recorder):
        return dict(student=dict(from_student=True, recorder=recorder), teacher=dict(from_student=False, recorder=recorder))

    small_config.data_preprocessor.mean = [100.0, 100.0, 100.0]
    model = MODELS.build(
        dict(
            type='PersonSearchDistill',
            architecture=detector_config('fpn'),
            teacher=small_config,
            box_jitter=0.1,
            distiller=dict(
                type='PersonSearchDistiller',
                student_recorders=recorders,
                teacher_recorders=recorders,
                distill_losses=dict(
                    loss_relation=dict(type='RelationLoss', loss_weight=10.0),
                    loss_response=dict(type='ResponseLoss', loss_weight=100.0),
                ),
                loss_forward_mappings=dict(
                    loss_relation=both('embeddings'),
                    loss_response=both('embeddings') | {f'{role}_lut': each for role, each in both('lut').items()},
                ),
            ),
        )
    )
    model.init_weights()
    model.train()
    for each in (model.student, model.teacher.network):
        each.memory.lut.copy_(F.normalize(torch.randn_like(each.memory.lut)))
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    for persons in ([[0, 3], [-1, 5, 1]], [[2], []], [[], []]):
        losses = model.loss(*make_batch(persons))
        for name in ('distill.loss_relation', 'distill.loss_response'):
            assert losses[name].isfinite() and losses[name].requires_grad
            (gradient,) = torch.autograd.grad(losses[name], model.student.backbone.conv1.weight, retain_graph=True)
            assert gradient.isfinite().all()
            assert gradient.any() == (len(persons[0]) == 2 or (len(persons[0]) == 1 and 'response' in name)), (persons, name)
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())
