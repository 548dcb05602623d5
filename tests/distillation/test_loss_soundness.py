"""Tests properties that every distillation loss must have: ours, and those of MMRazor that configs use.

Other files test the formulas. A loss is called with student, teacher and its other arguments, as tensors in float64.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmrazor.models.losses import ChannelWiseDivergence, L2Loss, MGDLoss, PKDLoss

from mmps.distillation import losses
from mmps.registry import MODELS

BOXES = torch.tensor([[0.0, 0, 8, 16], [12, 4, 28, 20], [4, 4, 12, 12], [6, 2, 10, 19], [5, 5, 6, 20], [20, 0, 32, 12]])


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def embeddings(persons):
    return F.normalize(randn(persons, 6, seed=0)), F.normalize(randn(persons, 6, seed=1))


def embeddings_and_tables(persons):
    """Returns embeddings and lookup tables. Each table has a zero row: an identity that its model has not seen yet."""
    tables = F.normalize(randn(5, 6, seed=2)), F.normalize(randn(5, 6, seed=3))
    tables[0][1], tables[1][4] = 0, 0
    return *embeddings(persons), *tables


def logits(persons):
    """Returns logits in which one anchor per person stands out."""
    person = torch.zeros(2 * 3 * 4 * 5, dtype=torch.float64)
    person[:persons] = 6
    return tuple(randn(2, 3, 4, 5, seed=seed) + person.view(2, 3, 4, 5) - 4 for seed in (0, 1))


def boxes_in_two_images(persons):
    return [BOXES[: persons // 2], BOXES[persons // 2 : persons]]


def refined_boxes(persons):
    boxes = boxes_in_two_images(persons)
    samples = [DetDataSample(gt_instances=InstanceData(bboxes=image)) for image in boxes]
    return *(torch.cat(boxes) + randn(persons, 4, seed=seed) for seed in (0, 1)), boxes, samples


def maps(persons):
    return randn(2, 4, 5, 8, seed=0), 2 * randn(2, 4, 5, 8, seed=1) + 1


def maps_and_boxes(persons):
    return *maps(persons), boxes_in_two_images(persons)


def shuffle_images(*arguments):
    """Returns the images of a batch, and the persons of an image, in another order."""
    return tuple(
        argument.flip(0) if isinstance(argument, torch.Tensor) else [boxes.flip(0) for boxes in argument[::-1]]
        for argument in arguments
    )


def shuffle_persons(*arguments):
    """Returns the persons, and the identities of lookup tables, in another order."""
    return tuple(each[torch.randperm(len(each), generator=torch.Generator().manual_seed(0))] for each in arguments)


def shuffle_refined_boxes(student, teacher, boxes, samples):
    """Returns the images, and the boxes of each image, in reverse order."""
    first = len(boxes[0])
    return (
        *(torch.cat([each[first:].flip(0), each[:first].flip(0)]) for each in (student, teacher)),
        *shuffle_images(boxes),
        samples[::-1],
    )


class Case(NamedTuple):
    build: Callable[[], torch.nn.Module]
    arguments: Callable[[int], tuple]
    shuffle: Callable[..., tuple]


def fgd(**settings):
    torch.manual_seed(0)
    return losses.FGDLoss(4, stride=4, **settings)


OURS = {
    'relation': Case(losses.RelationLoss, embeddings, shuffle_persons),
    'relation to LUT': Case(losses.RelationLoss, embeddings_and_tables, shuffle_persons),
    'relation of rows': Case(lambda: losses.RelationLoss(normalize_rows=True), embeddings, shuffle_persons),
    'relation divergence': Case(losses.RelationDivergenceLoss, embeddings, shuffle_persons),
    'relation divergence, both ways': Case(
        lambda: losses.RelationDivergenceLoss(0.5, symmetric=True), embeddings, shuffle_persons
    ),
    'triplet relation': Case(losses.TripletRelationLoss, embeddings, shuffle_persons),
    'embedding': Case(losses.EmbeddingLoss, embeddings, shuffle_persons),
    'response': Case(losses.ResponseLoss, embeddings_and_tables, shuffle_persons),
    'response, both ways': Case(lambda: losses.ResponseLoss(symmetric=True), embeddings_and_tables, shuffle_persons),
    'response, reversed': Case(lambda: losses.ResponseLoss(reverse=True), embeddings_and_tables, shuffle_persons),
    'soft target': Case(losses.SoftTargetLoss, logits, shuffle_images),
    'soft target, unweighted': Case(lambda: losses.SoftTargetLoss(background_weight=1.0), logits, shuffle_images),
    'soft target, mean': Case(lambda: losses.SoftTargetLoss(background_weight=1.0, num_samples=1000), logits, shuffle_images),
    'bounded regression': Case(losses.BoundedRegressionLoss, refined_boxes, shuffle_refined_boxes),
    'person feature': Case(lambda: losses.PersonFeatureLoss(stride=4), maps_and_boxes, shuffle_images),
    'FGD': Case(fgd, maps_and_boxes, shuffle_images),
    'FGD, focal': Case(lambda: fgd(relation_weight=0.0), maps_and_boxes, shuffle_images),
}
MMRAZOR = {
    'PKD': Case(PKDLoss, maps, shuffle_images),
    'MGD': Case(MGDLoss, maps, shuffle_images),
    'CWD': Case(ChannelWiseDivergence, maps, shuffle_images),
    'L2': Case(lambda: L2Loss(normalize=False, div_element=True), maps, shuffle_images),
}
ALL = {**OURS, **MMRAZOR}
EACH = pytest.mark.parametrize('case', ALL.values(), ids=ALL)


def gradient_of(case, student, *rest):
    """Returns the loss and the student's gradient."""
    student = student.clone().requires_grad_()
    loss = case.build().to(student.dtype)(student, *rest)
    return loss, *torch.autograd.grad(loss, student)


def identical(arguments):
    """Returns the arguments with the teacher, and its lookup table, replaced by the student's."""
    student, _, *rest = arguments
    return student, student.clone(), *([rest[0]] * 2 if len(rest) == 2 and isinstance(rest[0], torch.Tensor) else rest)


def test_every_loss_of_the_package_is_among_the_cases_and_in_the_registry():
    classes = {type(case.build()).__name__ for case in OURS.values()}
    assert classes == set(losses.__all__)
    assert all(MODELS.get(name) is getattr(losses, name) for name in classes)


@EACH
@pytest.mark.parametrize('persons', [2, 3, 6])
def test_gradient_equals_finite_differences(case, persons):
    student, *rest = case.arguments(persons)
    loss = case.build().double()
    assert torch.autograd.gradcheck(lambda student: loss(student, *rest), student.requires_grad_())


@EACH
@pytest.mark.parametrize('persons', [3, 6])
def test_a_different_teacher_gives_a_loss_and_a_gradient(case, persons):
    loss, gradient = gradient_of(case, *case.arguments(persons))
    assert loss.shape == () and loss > 1e-8 and gradient.abs().max() > 1e-8


# Soft targets with a background weight have their minimum elsewhere. Another test checks it.
@pytest.mark.parametrize('name', sorted(ALL.keys() - {'soft target'}))
@pytest.mark.parametrize('persons', [0, 1, 6])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_an_identical_teacher_gives_no_loss_and_no_gradient(name, persons, dtype):
    arguments = [each.to(dtype) if isinstance(each, torch.Tensor) else each for each in ALL[name].arguments(persons)]
    loss, gradient = gradient_of(ALL[name], *identical(arguments))
    assert abs(loss.item()) < 1e-6 and (gradient.abs() < 1e-6).all()


@EACH
@pytest.mark.parametrize('persons', [1, 6])
def test_the_order_of_persons_images_and_identities_does_not_matter(case, persons):
    arguments = case.arguments(persons)
    loss = case.build().double()
    torch.testing.assert_close(loss(*case.shuffle(*arguments)), loss(*arguments))


@pytest.mark.parametrize('name', [name for name, case in OURS.items() if case.shuffle is shuffle_persons])
def test_a_list_of_images_gives_the_loss_of_the_whole_batch(name):
    loss, (student, teacher, *tables) = OURS[name].build(), OURS[name].arguments(6)
    images = (each.split([3, 0, 2, 1]) for each in (student, teacher))
    torch.testing.assert_close(loss(*images, *tables), loss(student, teacher, *tables))


@EACH
@pytest.mark.parametrize('persons', [0, 1, 2])
def test_few_persons_have_a_finite_loss_and_gradient(case, persons):
    loss, gradient = gradient_of(case, *case.arguments(persons))
    assert loss.shape == () and loss.isfinite() and gradient.isfinite().all()


@EACH
@pytest.mark.parametrize('persons', [0, 1, 6])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_has_a_finite_loss_and_gradient(case, persons, dtype):
    student, teacher, *rest = case.arguments(persons)
    rest = [each.float() if isinstance(each, torch.Tensor) else each for each in rest]
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    with torch.autocast('cpu', dtype=dtype):
        loss = case.build()(student, teacher, *rest)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    expected = case.build()(student.detach().float(), teacher.float(), *rest)
    if case in OURS.values():  # computed in float32
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.detach(), expected)
    else:
        torch.testing.assert_close(loss.detach().float(), expected, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize('name', ['person feature', 'FGD', 'FGD, focal', 'PKD', 'MGD', 'L2'])
def test_maps_in_channels_last_give_the_same_loss(name):
    student, teacher, *rest = ALL[name].arguments(3)
    loss = ALL[name].build().double()
    lasts = (each.to(memory_format=torch.channels_last) for each in (student, teacher))
    torch.testing.assert_close(loss(*lasts, *rest), loss(student, teacher, *rest))


@pytest.mark.parametrize('name', ['person feature', 'FGD', 'FGD, focal', 'PKD', 'MGD', 'CWD', 'L2'])
@pytest.mark.parametrize('constant', ['student', 'teacher', 'both'])
def test_a_constant_map_has_a_finite_loss_and_gradient(name, constant):
    student, teacher, *rest = ALL[name].arguments(3)
    for each in [student, teacher] if constant == 'both' else [student if constant == 'student' else teacher]:
        each[:, 1:] = 0
    loss, gradient = gradient_of(ALL[name], student, teacher, *rest)
    assert loss.isfinite() and gradient.isfinite().all()


# Properties that MMRazor's losses do not have. Configs must not rely on them.


def test_channel_wise_divergence_refuses_maps_in_channels_last():
    with pytest.raises(RuntimeError, match='view'):
        ChannelWiseDivergence()(*(each.to(memory_format=torch.channels_last) for each in maps(0)))


def test_the_l2_loss_of_no_persons_is_not_a_number():
    assert L2Loss(normalize=False, div_element=True)(*embeddings(0)).isnan()


def test_the_l2_loss_of_a_large_map_overflows_in_float16_on_a_cpu():
    """On a CPU, its sum has the type of the maps. On a GPU, autocast makes it float32."""
    ones = torch.ones(1, 64, 48, 84, dtype=torch.float16)
    with torch.autocast('cpu', dtype=torch.float16):
        assert L2Loss(normalize=False, div_element=True)(ones, -ones).isinf()


@pytest.mark.parametrize('name', ['MGD', 'CWD', 'L2'])
def test_a_teachers_map_of_another_size_is_refused(name):
    student, teacher = maps(0)
    with pytest.raises((AssertionError, RuntimeError)):
        MMRAZOR[name].build()(student, F.interpolate(teacher, scale_factor=2))
