"""What every distillation loss must hold, ours and those of MMRazor that configs use. Their formulas have their own tests.

A loss is called with student, teacher and the rest, as tensors in float64; P persons are in the batch.
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
    """Each of the two has an identity that it has not seen yet."""
    tables = F.normalize(randn(5, 6, seed=2)), F.normalize(randn(5, 6, seed=3))
    tables[0][1], tables[1][4] = 0, 0
    return *embeddings(persons), *tables


def logits(persons):
    """As many anchors as there are persons stand out."""
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


def images_mixed(*arguments):
    """The images of a batch, and the persons of an image, in another order."""
    return tuple(
        argument.flip(0) if isinstance(argument, torch.Tensor) else [boxes.flip(0) for boxes in argument[::-1]]
        for argument in arguments
    )


def persons_mixed(*arguments):
    """The persons, and the identities of lookup tables, in another order."""
    return tuple(each[torch.randperm(len(each), generator=torch.Generator().manual_seed(0))] for each in arguments)


def refined_boxes_mixed(student, teacher, boxes, samples):
    """The other image first, and its boxes the other way round."""
    first = len(boxes[0])
    return (
        *(torch.cat([each[first:].flip(0), each[:first].flip(0)]) for each in (student, teacher)),
        *images_mixed(boxes),
        samples[::-1],
    )


class Case(NamedTuple):
    build: Callable[[], torch.nn.Module]
    arguments: Callable[[int], tuple]
    mixed: Callable[..., tuple]


def fgd(**settings):
    torch.manual_seed(0)
    return losses.FGDLoss(4, stride=4, **settings)


OURS = {
    'relation': Case(losses.RelationLoss, embeddings, persons_mixed),
    'relation to LUT': Case(losses.RelationLoss, embeddings_and_tables, persons_mixed),
    'relation divergence': Case(losses.RelationDivergenceLoss, embeddings, persons_mixed),
    'relation divergence, both ways': Case(
        lambda: losses.RelationDivergenceLoss(0.5, symmetric=True), embeddings, persons_mixed
    ),
    'triplet relation': Case(losses.TripletRelationLoss, embeddings, persons_mixed),
    'embedding': Case(losses.EmbeddingLoss, embeddings, persons_mixed),
    'response': Case(losses.ResponseLoss, embeddings_and_tables, persons_mixed),
    'response, both ways': Case(lambda: losses.ResponseLoss(symmetric=True), embeddings_and_tables, persons_mixed),
    'soft target': Case(losses.SoftTargetLoss, logits, images_mixed),
    'soft target, unweighted': Case(lambda: losses.SoftTargetLoss(background_weight=1.0), logits, images_mixed),
    'bounded regression': Case(losses.BoundedRegressionLoss, refined_boxes, refined_boxes_mixed),
    'person feature': Case(lambda: losses.PersonFeatureLoss(stride=4), maps_and_boxes, images_mixed),
    'FGD': Case(fgd, maps_and_boxes, images_mixed),
    'FGD, focal': Case(lambda: fgd(relation_weight=0.0), maps_and_boxes, images_mixed),
}
MMRAZOR = {
    'PKD': Case(PKDLoss, maps, images_mixed),
    'MGD': Case(MGDLoss, maps, images_mixed),
    'CWD': Case(ChannelWiseDivergence, maps, images_mixed),
    'L2': Case(lambda: L2Loss(normalize=False, div_element=True), maps, images_mixed),
}
ALL = {**OURS, **MMRAZOR}
EACH = pytest.mark.parametrize('case', ALL.values(), ids=ALL)


def gradient_of(case, student, *rest):
    """The loss, the student's gradient."""
    student = student.clone().requires_grad_()
    loss = case.build().to(student.dtype)(student, *rest)
    return loss, *torch.autograd.grad(loss, student)


def identical(arguments):
    """The arguments with the teacher, and its lookup table, replaced by the student's."""
    student, _, *rest = arguments
    return student, student.clone(), *([rest[0]] * 2 if len(rest) == 2 and isinstance(rest[0], torch.Tensor) else rest)


def test_every_loss_of_the_package_is_among_the_cases_and_in_the_registry():
    classes = {type(case.build()).__name__ for case in OURS.values()}
    assert classes == set(losses.__all__)
    assert all(MODELS.get(name) is getattr(losses, name) for name in classes)


@EACH
@pytest.mark.parametrize('persons', [2, 3, 6])
def test_the_gradient_is_the_slope(case, persons):
    student, *rest = case.arguments(persons)
    loss = case.build().double()
    assert torch.autograd.gradcheck(lambda student: loss(student, *rest), student.requires_grad_())


@EACH
@pytest.mark.parametrize('persons', [3, 6])
def test_there_is_something_to_learn_from_a_teacher(case, persons):
    loss, gradient = gradient_of(case, *case.arguments(persons))
    assert loss.shape == () and loss > 1e-8 and gradient.abs().max() > 1e-8


# Soft targets with a background weight have their least elsewhere, which is a test of their own.
@pytest.mark.parametrize('name', sorted(ALL.keys() - {'soft target'}))
@pytest.mark.parametrize('persons', [0, 1, 6])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_nothing_is_left_to_learn_from_a_teacher_like_oneself(name, persons, dtype):
    arguments = [each.to(dtype) if isinstance(each, torch.Tensor) else each for each in ALL[name].arguments(persons)]
    loss, gradient = gradient_of(ALL[name], *identical(arguments))
    assert abs(loss.item()) < 1e-6 and (gradient.abs() < 1e-6).all()


@EACH
@pytest.mark.parametrize('persons', [1, 6])
def test_the_order_of_persons_images_and_identities_does_not_matter(case, persons):
    arguments = case.arguments(persons)
    loss = case.build().double()
    torch.testing.assert_close(loss(*case.mixed(*arguments)), loss(*arguments))


@pytest.mark.parametrize('name', [name for name, case in OURS.items() if case.mixed is persons_mixed])
def test_embeddings_of_the_images_one_by_one_are_those_of_the_batch(name):
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
def test_maps_in_channels_last_give_the_same(name):
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


# What MMRazor's do not hold: configs must not rely on it.


def test_channel_wise_divergence_refuses_maps_in_channels_last():
    with pytest.raises(RuntimeError, match='view'):
        ChannelWiseDivergence()(*(each.to(memory_format=torch.channels_last) for each in maps(0)))


def test_the_l2_loss_of_no_persons_is_not_a_number():
    assert L2Loss(normalize=False, div_element=True)(*embeddings(0)).isnan()


def test_the_l2_loss_of_a_large_map_overflows_in_float16_on_a_cpu():
    """Its sum is of the maps' type there; on a GPU autocast makes it float32."""
    ones = torch.ones(1, 64, 48, 84, dtype=torch.float16)
    with torch.autocast('cpu', dtype=torch.float16):
        assert L2Loss(normalize=False, div_element=True)(ones, -ones).isinf()


@pytest.mark.parametrize('name', ['MGD', 'CWD', 'L2'])
def test_a_teachers_map_of_another_size_is_refused(name):
    student, teacher = maps(0)
    with pytest.raises((AssertionError, RuntimeError)):
        MMRAZOR[name].build()(student, F.interpolate(teacher, scale_factor=2))
