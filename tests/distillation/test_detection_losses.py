"""Compares the losses on person logits and boxes with their formulas, written as plain loops in float64."""

import math

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData
from mmrazor.models.losses import DKDLoss

from mmps.distillation.losses import BoundedRegressionLoss, SoftTargetLoss, detection
from mmps.distillation.losses.detection import sample_anchors


def logits(*shape, seed=0, scale=3.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def soft_targets(student, teacher, background_weight=1.5, temperature=1.0, loss_weight=1.0):
    total = expected = 0.0
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        q, p = sigmoid(s / temperature), sigmoid(t / temperature)
        total += p * math.log(p / q) + background_weight * (1 - p) * math.log((1 - p) / (1 - q))
        expected += sigmoid(t)
    return loss_weight * temperature**2 * total / max(expected, 1)


@pytest.mark.parametrize(
    'settings',
    [
        {},
        dict(background_weight=1.0),
        dict(temperature=3.0),
        dict(loss_weight=2.0),
        dict(background_weight=0.5, temperature=0.5, loss_weight=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize('offset', [0.0, -9.0], ids=['persons', 'almost no person'])
def test_soft_targets_equal_their_formula(settings, offset):
    student, teacher = logits(2, 3, 4, 5), logits(2, 3, 4, 5, seed=1) + offset
    assert SoftTargetLoss(**settings)(student, teacher).item() == pytest.approx(
        soft_targets(student, teacher, **settings), rel=1e-9
    )


def mean_of_soft_targets(student, teacher, background_weight=1.5, temperature=1.0, loss_weight=1.0):
    """Returns the published form: the mean over the anchors of a minibatch."""
    expected = max(sum(map(sigmoid, teacher.flatten().tolist())), 1)
    return soft_targets(student, teacher, background_weight, temperature, loss_weight) * expected / teacher.numel()


@pytest.mark.parametrize('settings', [{}, dict(background_weight=1.0, temperature=3.0), dict(loss_weight=2.0)], ids=str)
@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (60,)], ids=['maps', 'boxes'])
def test_with_enough_samples_soft_targets_are_the_mean_over_all_anchors(settings, shape):
    student, teacher = logits(*shape), logits(*shape, seed=1)
    assert SoftTargetLoss(**settings, num_samples=120)(student, teacher).item() == pytest.approx(
        mean_of_soft_targets(student, teacher, **settings), rel=1e-9
    )


@pytest.mark.parametrize('persons', [0, 3, 16, 60])
def test_sampled_soft_targets_are_the_mean_over_a_minibatch_with_at_most_half_persons(persons, monkeypatch):
    student = logits(2, 1, 6, 10)
    teacher = -logits(2, 1, 6, 10, seed=1).abs()
    teacher.view(2, 60)[:, :persons] *= -1
    drawn = []
    monkeypatch.setattr(detection, 'sample_anchors', lambda *args: drawn.append(sample_anchors(*args)) or drawn[-1])
    torch.manual_seed(0)
    loss = SoftTargetLoss(num_samples=32)(student, teacher)
    ((anchors, sampled),) = drawn
    found = [index[mask].tolist() for index, mask in zip(anchors, sampled, strict=True)]
    assert found[0] != found[1] or persons == 0  # each image has its own minibatch
    for of_image in found:
        assert len(set(of_image)) == len(of_image) == min(16, persons) + min(60 - persons, 32 - min(16, persons))
        assert sum(index < persons for index in of_image) == min(16, persons)
    minibatch = [
        torch.cat([each.view(2, 60)[image, index] for image, index in enumerate(found)]) for each in (student, teacher)
    ]
    assert loss.item() == pytest.approx(mean_of_soft_targets(*minibatch), rel=1e-9)
    torch.manual_seed(0)
    assert SoftTargetLoss(num_samples=32)(student, teacher) == loss  # the seed decides


def test_soft_targets_of_levels_equal_those_of_all_anchors_together():
    levels = [(logits(2, 3, 8 // i, 4 // i, seed=i), logits(2, 3, 8 // i, 4 // i, seed=9 + i)) for i in (1, 2, 4)]
    student, teacher = zip(*levels, strict=True)
    flat = [torch.cat([level.flatten() for level in of_model]) for of_model in (student, teacher)]
    torch.testing.assert_close(SoftTargetLoss()(student, list(teacher)), SoftTargetLoss()(*flat))
    # the student's coarser levels are ignored, because the teacher has no logits there
    torch.testing.assert_close(SoftTargetLoss()(student, teacher[:2]), SoftTargetLoss()(student[:2], teacher[:2]))


@pytest.mark.parametrize(
    'teacher',
    [[(2, 3, 8, 4), (2, 3, 4, 4)], [(2, 6, 8, 4)], [(2, 3, 8, 4), (2, 3, 4, 2), (2, 3, 2, 1)]],
    ids=['cells', 'anchors', 'levels'],
)
def test_logits_of_other_anchors_are_refused_in_one_line_with_all_shapes(teacher):
    student = [(2, 3, 8, 4), (2, 3, 4, 2)]
    with pytest.raises(ValueError) as error:
        SoftTargetLoss()(*([torch.zeros(shape) for shape in levels] for levels in (student, teacher)))
    message = str(error.value)
    assert str(student) in message and str(teacher) in message and '\n' not in message


@pytest.mark.filterwarnings('ignore:size_average')
@pytest.mark.parametrize('tau', [1.0, 2.0, 0.5])
@pytest.mark.parametrize('label', [0, 1], ids=['background', 'person'])
def test_unweighted_soft_targets_equal_decoupled_distillation_of_two_classes(tau, label):
    """This holds whichever class is the target. SoftTargetLoss divides by the number of persons that the teacher expects."""
    student, teacher = logits(20), logits(20, seed=1)
    two_classes = [torch.stack([torch.zeros(20), z], dim=1) for z in (student, teacher)]
    decoupled = DKDLoss(tau=tau, beta=8.0, reduction='sum')(*two_classes, torch.full((20,), label))
    expected = teacher.sigmoid().sum()
    assert expected > 1
    torch.testing.assert_close(SoftTargetLoss(background_weight=1.0, temperature=tau)(student, teacher) * expected, decoupled)


@pytest.mark.parametrize('value', [30.0, 100.0, 1e4])
def test_soft_targets_of_large_logits_are_finite(value):
    student = torch.tensor([value, -value, value, -value], requires_grad=True)
    loss = SoftTargetLoss()(student, torch.tensor([value, -value, -value, value]))
    loss.backward()
    assert loss.item() == pytest.approx((1.5 * value + value) / 2, rel=1e-3) and student.grad.isfinite().all()


@pytest.mark.parametrize('background_weight', [0.5, 1.0, 1.5])
@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_the_background_weight_shifts_the_minimum_of_soft_targets(background_weight, temperature):
    teacher = logits(6)
    lowest = (teacher - temperature * math.log(background_weight)).requires_grad_()
    loss_fn = SoftTargetLoss(background_weight, temperature)
    loss = loss_fn(lowest, teacher)
    (gradient,) = torch.autograd.grad(loss, lowest)
    assert gradient.abs().max() < 1e-12 and loss <= 1e-12
    assert all(loss_fn(lowest.detach() + 0.1 * logits(6, seed=seed), teacher) > loss for seed in range(5))


PERSONS = [[10.0, 10, 30, 50], [40, 10, 60, 60]], [], [[5, 5, 25, 45]]
BOXES = [[11.0, 12, 29, 50], [41, 8, 66, 64], [0, 0, 20, 20], [20, 10, 50, 55]], [[4, 4, 8, 9]], []


def boxes_of(images):
    return [torch.tensor(image, dtype=torch.float64).reshape(-1, 4) for image in images]


def samples_of(images, wrap=lambda boxes: boxes):
    return [DetDataSample(gt_instances=InstanceData(bboxes=wrap(boxes))) for boxes in boxes_of(images)]


def refined(seed=0, images=BOXES):
    boxes = torch.cat(boxes_of(images))
    return boxes + torch.randn(boxes.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def iou(a, b):
    overlap = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return overlap / (sum(areas) - overlap)


def bounded(student, teacher, boxes=BOXES, persons=PERSONS, margin=0.0, loss_weight=0.5):
    index, terms = 0, []
    for image_boxes, image_persons in zip(boxes, persons, strict=True):
        for box in image_boxes:
            s, t = student[index].tolist(), teacher[index].tolist()
            index += 1
            target = max(image_persons, key=lambda person: iou(box, person), default=None)
            if target is None or iou(box, target) < 0.5:
                continue
            size = [target[2] - target[0], target[3] - target[1]] * 2
            error, bound = (
                sum(((got - want) / length) ** 2 for got, want, length in zip(each, target, size, strict=True))
                for each in (s, t)
            )
            terms.append(error if error + margin > bound else 0)
    return loss_weight * sum(terms) / max(len(terms), 1)


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('settings', [{}, dict(margin=0.01), dict(margin=-0.01), dict(loss_weight=3.0)], ids=str)
def test_bounded_regression_equals_its_formula(settings, seed):
    student, teacher = refined(seed), refined(seed + 10)
    assert BoundedRegressionLoss(**settings)(student, teacher, boxes_of(BOXES), samples_of(PERSONS)).item() == pytest.approx(
        bounded(student, teacher, **settings), rel=1e-6
    )


def test_a_box_better_than_the_teachers_gets_no_gradient_and_a_worse_one_moves_to_its_person():
    truth = torch.cat(boxes_of(PERSONS))[:2]
    student = (truth + torch.tensor([[1.0], [3.0]])).requires_grad_()
    loss = BoundedRegressionLoss()(student, truth + 2, [truth], samples_of(PERSONS[:1]))
    loss.backward()
    assert not student.grad[0].any() and (student.grad[1] > 0).all()
    assert loss.item() == pytest.approx(0.5 * 2 * ((3 / 20) ** 2 + (3 / 50) ** 2) / 2)


@pytest.mark.parametrize('height, counts', [(20.0, True), (19.9, False)])
def test_a_box_counts_from_an_iou_of_one_half(height, counts):
    boxes = ([[10.0, 10, 30, 10 + height], [41, 8, 60, 60]],)  # the first box is inside a person who is 40 high
    student, teacher = torch.cat(boxes_of(boxes)), torch.cat(boxes_of(PERSONS))[:2]
    errors = (1 - height / 40) ** 2, (1 / 20) ** 2 + (2 / 50) ** 2
    expected = 0.5 * (sum(errors) / 2 if counts else errors[1])
    assert BoundedRegressionLoss()(student, teacher, boxes_of(boxes), samples_of(PERSONS[:1])).item() == pytest.approx(expected)


def test_the_teachers_boxes_get_no_gradient():
    teacher = refined(1).requires_grad_()
    loss = BoundedRegressionLoss()(refined().requires_grad_(), teacher, boxes_of(BOXES), samples_of(PERSONS))
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@pytest.mark.parametrize(
    'boxes, persons',
    [
        (BOXES, ([], [], [])),
        (([], [], []), PERSONS),
        (([], [], []), ([], [], [])),
        (([[0.0, 0, 4, 4]], [], []), PERSONS),
        (BOXES, ([[3.0, 3, 3, 3]], [], [])),
    ],
    ids=['nobody', 'no boxes', 'neither', 'no overlap', 'a person without an area'],
)
def test_bounded_regression_is_zero_without_a_box_on_a_person(boxes, persons):
    student = refined(0, boxes).requires_grad_()
    loss = BoundedRegressionLoss()(student, refined(1, boxes), boxes_of(boxes), samples_of(persons))
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_box_types_of_mmdetection_are_read_as_tensors():
    arguments = refined(), refined(1), boxes_of(BOXES)
    torch.testing.assert_close(
        BoundedRegressionLoss()(*arguments, samples_of(PERSONS, HorizontalBoxes)).double(),
        BoundedRegressionLoss()(*arguments, samples_of(PERSONS)),
        rtol=1e-5,
        atol=1e-8,
    )


@pytest.mark.parametrize('student, teacher', [((4, 4), (5, 4)), ((5, 4), (4, 4)), ((5, 8), (5, 8)), ((1, 4), (1, 4))], ids=str)
def test_another_number_of_refined_boxes_is_refused_in_one_line(student, teacher):
    with pytest.raises(ValueError) as error:
        BoundedRegressionLoss()(torch.zeros(student), torch.zeros(teacher), boxes_of(BOXES), samples_of(PERSONS))
    message = str(error.value)
    assert str(student) in message and str(teacher) in message and '(5, 4)' in message and '\n' not in message
