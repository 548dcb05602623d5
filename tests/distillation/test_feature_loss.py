"""Compares the feature loss with its formula, written as plain loops in float64."""

import itertools

import pytest
import torch

from mmps.distillation.losses import PersonFeatureLoss

STRIDE = 4


def boxes_of(*images):
    return [torch.tensor(image, dtype=torch.float32).reshape(-1, 4) for image in images]


BOXES = {
    'apart': boxes_of([[0, 0, 8, 16], [12, 4, 28, 20]], [[4, 4, 12, 12]]),
    'overlapping': boxes_of([[0, 0, 20, 20], [4, 4, 12, 24]], [[0, 0, 32, 24], [8, 8, 12, 12]]),
    'an image without': boxes_of([], [[4, 4, 12, 12]]),
    'one person': boxes_of([[5, 3, 11, 14]], []),
    'nobody': boxes_of([], []),
    'past the edge': boxes_of([[-6, -3, 9, 10]], [[24, 16, 50, 40]]),
    'thinner than a cell': boxes_of([[5, 5, 6, 20]], [[13, 2, 15, 3]]),
    'outside': boxes_of([[-20, -20, -4, -4]], [[4, 4, 12, 12]]),
    'nothing else': boxes_of([[-5, -5, 50, 50]], [[0, 0, 32, 24], [4, 4, 12, 12]]),
}
EACH = pytest.mark.parametrize('boxes', BOXES.values(), ids=BOXES)


def maps(seed=0, channels=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, 6, 8, generator=generator) * scale + shift for scale, shift in ((1, 0), (3, 2))]


def standardised(feature):
    feature = feature.double()
    mean = feature.mean((0, 2, 3), keepdim=True)
    return (feature - mean) / (feature - mean).square().mean((0, 2, 3), keepdim=True).sqrt()


def formula(student, teacher, boxes, person_weight=1.0, background_weight=0.5, loss_weight=1.0):
    difference = (standardised(student) - standardised(teacher)).square().mean(1)
    weights = torch.zeros(difference.shape, dtype=torch.float64)
    for image, image_boxes in enumerate(boxes):
        for x1, y1, x2, y2 in (image_boxes / STRIDE).tolist():
            cells = [
                (row, column)
                for row, column in itertools.product(range(6), range(8))
                if column < x2 and column + 1 > x1 and row < y2 and row + 1 > y1
            ]
            for row, column in cells:  # if persons overlap, the smallest one gets the cell
                weights[image, row, column] = max(weights[image, row, column], 1 / len(cells))
    background = difference[weights == 0]
    persons = (difference * weights).sum() / weights.sum() if weights.any() else torch.tensor(0.0)
    rest = background.mean() if len(background) else torch.tensor(0.0)
    return (loss_weight * (person_weight * persons + background_weight * rest)).item()


@EACH
@pytest.mark.parametrize('dtype, precision', [(torch.float32, 1e-4), (torch.float64, 2e-5)])  # batch norm's eps is 1e-5
def test_loss_equals_its_formula(boxes, dtype, precision):
    student, teacher = (each.to(dtype) for each in maps())
    loss = PersonFeatureLoss(STRIDE)(student, teacher, boxes)
    assert loss.dtype == dtype and loss.item() == pytest.approx(formula(student, teacher, boxes), rel=precision)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(person_weight=0.0),
        dict(background_weight=0.0),
        dict(loss_weight=2.5),
        dict(person_weight=3.0, background_weight=0.2, loss_weight=0.1),
    ],
)
def test_loss_follows_its_weights(kwargs):
    student, teacher = maps()
    assert PersonFeatureLoss(STRIDE, **kwargs)(student, teacher, BOXES['apart']).item() == pytest.approx(
        formula(student, teacher, BOXES['apart'], **kwargs), rel=1e-4
    )


@EACH
def test_gradient_equals_finite_differences(boxes):
    student, teacher = maps()
    (gradient,) = torch.autograd.grad(PersonFeatureLoss(STRIDE)(student.requires_grad_(), teacher, boxes), student)
    assert gradient.isfinite().all() and gradient.any()
    for seed in range(3):
        direction = torch.randn(student.shape, generator=torch.Generator().manual_seed(seed)).double()
        ahead, back = (formula(student.detach().double() + step * direction, teacher, boxes) for step in (1e-5, -1e-5))
        assert (gradient.double() * direction).sum().item() == pytest.approx((ahead - back) / 2e-5, rel=1e-3, abs=1e-4)


@EACH
def test_an_identical_student_has_no_loss_and_no_gradient(boxes):
    student, _ = maps()
    same = student.clone()
    loss = PersonFeatureLoss(STRIDE)(student.requires_grad_(), same, boxes)
    loss.backward()
    assert loss.item() == 0 and not student.grad.any()


def test_scale_and_offset_of_the_features_do_not_matter():
    student, teacher = maps()
    boxes = BOXES['apart']
    torch.testing.assert_close(
        PersonFeatureLoss(STRIDE)(5 * student - 3, teacher, boxes),
        PersonFeatureLoss(STRIDE)(student, teacher, boxes),
        rtol=1e-4,
        atol=1e-5,
    )


def test_order_of_persons_and_images_does_not_matter():
    student, teacher = maps()
    boxes = BOXES['overlapping']
    expected = PersonFeatureLoss(STRIDE)(student, teacher, boxes)
    torch.testing.assert_close(PersonFeatureLoss(STRIDE)(student, teacher, [b.flip(0) for b in boxes]), expected)
    torch.testing.assert_close(PersonFeatureLoss(STRIDE)(student.flip(0), teacher.flip(0), boxes[::-1]), expected)


def test_every_person_counts_the_same_whatever_its_area():
    """The student is a chequered map with inverted signs in the cells of one person.

    So mean and variance stay the same, and each of those cells has an error of 2. Two cells cost the same as sixteen.
    """
    persons = [[0, 0, 8, 4], [12, 4, 28, 20]]
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(8), indexing='ij')
    teacher = ((-1.0) ** (rows + columns))[None, None]
    costs = []
    for x1, y1, x2, y2 in persons:
        student = teacher.clone()
        student[..., y1 // STRIDE : y2 // STRIDE, x1 // STRIDE : x2 // STRIDE] *= -1
        costs.append(PersonFeatureLoss(STRIDE, background_weight=0.0)(student, teacher, boxes_of(persons)).item())
    assert costs == pytest.approx([2.0, 2.0], rel=1e-4)


@EACH
def test_mixed_precision_gives_the_float32_loss(boxes):
    student, teacher = maps()
    expected = PersonFeatureLoss(STRIDE)(student, teacher, boxes)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = PersonFeatureLoss(STRIDE)(student.requires_grad_(), teacher, boxes)
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)
    assert loss.dtype == torch.float32 and student.grad.isfinite().all()
    assert PersonFeatureLoss(STRIDE)(student.detach().bfloat16(), teacher.bfloat16(), boxes).isfinite()


def test_a_constant_map_gives_a_finite_loss_and_gradient():
    student, teacher = torch.zeros(2, 3, 6, 8, requires_grad=True), maps()[1]
    loss = PersonFeatureLoss(STRIDE)(student, teacher, BOXES['apart'])
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


def test_a_teachers_map_of_another_size_is_averaged_over_the_students_cells():
    student, teacher = maps()
    fine = teacher.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = PersonFeatureLoss(STRIDE)(student, teacher, BOXES['apart'])
    torch.testing.assert_close(PersonFeatureLoss(STRIDE)(student, fine, BOXES['apart']), expected)
    assert PersonFeatureLoss(STRIDE)(student, teacher[..., :3, :4], BOXES['apart']) > 0


@pytest.mark.parametrize('shape', [(2, 5, 6, 8), (1, 3, 6, 8)])
def test_different_shapes_are_refused_in_one_line_with_both(shape):
    student, _ = maps()
    with pytest.raises(ValueError) as error:
        PersonFeatureLoss(STRIDE)(student, torch.zeros(shape), BOXES['apart'])
    message = str(error.value)
    assert '(2, 3, 6, 8)' in message and str(shape) in message and '\n' not in message


def test_padding_has_no_influence():
    """The first image fills 4 of 6 rows and 5 of 8 columns, the second all."""
    student, teacher = maps()
    sizes, boxes = [(15, 20), (24, 32)], BOXES['overlapping']
    before = PersonFeatureLoss(STRIDE)(student, teacher, boxes, sizes).item()
    for each in (student, teacher):
        each[0, :, 4:] += 7
        each[0, :, :, 5:] *= -3
    assert PersonFeatureLoss(STRIDE)(student, teacher, boxes, sizes).item() == pytest.approx(before, rel=1e-5)
    assert PersonFeatureLoss(STRIDE)(student, teacher, boxes).item() != pytest.approx(before, rel=1e-2)


def test_an_image_alone_and_padded_has_the_same_loss():
    student, teacher = maps()
    boxes = BOXES['past the edge'][:1]
    alone = PersonFeatureLoss(STRIDE)(student[:1, :, :4, :5], teacher[:1, :, :4, :5], boxes, [(16, 20)]).item()
    assert PersonFeatureLoss(STRIDE)(student[:1], teacher[:1], boxes, [(16, 20)]).item() == pytest.approx(alone, rel=1e-5)


def test_sizes_that_fill_the_map_change_nothing():
    student, teacher = maps()
    loss = PersonFeatureLoss(STRIDE)
    assert torch.equal(loss(student, teacher, BOXES['apart'], [(24, 32), (21, 29)]), loss(student, teacher, BOXES['apart']))
