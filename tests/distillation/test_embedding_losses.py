"""Relation- and response-based losses against their formulas, written out with plain loops in float64."""
import math

import pytest
import torch
import torch.nn.functional as F

from mmps.distillation.losses import RelationLoss, ResponseLoss


def unit(rows, dims, seed):
    return F.normalize(torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed)))


def case(persons=7, identities=5, seen=(0, 1, 2, 3, 4)):
    """Student and teacher of different embedding sizes; the student has not seen every identity yet."""
    data = {'student': unit(persons, 6, 0), 'teacher': unit(persons, 10, 1),
            'student_lut': unit(identities, 6, 2), 'teacher_lut': unit(identities, 10, 3)}
    data['student_lut'][[i for i in range(identities) if i not in seen]] = 0
    return data


def dot(a, b):
    return sum(x * y for x, y in zip(a.double().tolist(), b.double().tolist(), strict=True))


def smooth_l1(difference, beta):
    difference = abs(difference)
    return difference**2 / (2 * beta) if difference < beta else difference - beta / 2


def relation(student, teacher, student_lut=None, teacher_lut=None, beta=0.1, loss_weight=1.0):
    count = len(student)
    terms = [smooth_l1(dot(student[i], student[j]) - dot(teacher[i], teacher[j]), beta)
             for i in range(count) for j in range(count) if i != j]
    loss = sum(terms) / max(len(terms), 1)
    if student_lut is not None:
        terms = [smooth_l1(dot(student[i], student_lut[k]) - dot(teacher[i], teacher_lut[k]), beta)
                 for i in range(count) for k in range(len(student_lut)) if student_lut[k].any()]
        loss += sum(terms) / max(len(terms), 1)
    return loss_weight * loss


def response(student, teacher, student_lut, teacher_lut, temperature=0.1, loss_weight=1.0):
    def distribution(embedding, lut):
        powers = [math.exp(dot(embedding, row) / temperature) for row in lut]
        return [power / sum(powers) for power in powers]

    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p_s, p_t = distribution(s, student_lut), distribution(t, teacher_lut)
        total += sum(t * math.log(t / s) for s, t in zip(p_s, p_t, strict=True))
    return loss_weight * temperature**2 * total / max(len(student), 1)


PLAIN = 'relation', RelationLoss, relation, ('student', 'teacher')
WITH_LUT = 'relation to LUT', RelationLoss, relation, ('student', 'teacher', 'student_lut', 'teacher_lut')
RESPONSE = 'response', ResponseLoss, response, WITH_LUT[3]
EACH = pytest.mark.parametrize('loss_class, formula, names', [row[1:] for row in (PLAIN, WITH_LUT, RESPONSE)],
                               ids=[row[0] for row in (PLAIN, WITH_LUT, RESPONSE)])


def chosen(names, **kwargs):
    data = case(**kwargs)
    return {name: data[name] for name in names}


@EACH
@pytest.mark.parametrize('persons', [0, 1, 2, 7])
def test_loss_equals_its_formula(loss_class, formula, names, persons):
    data = chosen(names, persons=persons)
    assert loss_class()(**data).item() == pytest.approx(formula(**data), abs=1e-6)


@pytest.mark.parametrize('beta, loss_weight', [(0.5, 1.0), (0.02, 3.0)])
def test_relation_loss_follows_its_settings(beta, loss_weight):
    data = case(seen=(0, 3))
    assert RelationLoss(beta, loss_weight)(**data).item() == pytest.approx(
        relation(**data, beta=beta, loss_weight=loss_weight), abs=1e-6)


@pytest.mark.parametrize('temperature, loss_weight', [(1 / 30, 1.0), (1.0, 2.0)])
def test_response_loss_follows_its_settings(temperature, loss_weight):
    data = case()
    assert ResponseLoss(temperature, loss_weight)(**data).item() == pytest.approx(
        response(**data, temperature=temperature, loss_weight=loss_weight), rel=1e-4)


@EACH
def test_gradient_is_the_losss_slope(loss_class, formula, names):
    """Central differences of the float64 formula; the loss itself works in float32."""
    data = chosen(names)
    student = data['student'].clone().requires_grad_()
    gradient, = torch.autograd.grad(loss_class()(**{**data, 'student': student}), student)
    step = 1e-5
    for seed in range(5):
        direction = torch.randn(student.shape, generator=torch.Generator().manual_seed(seed)).double()
        ahead, back = (formula(**{**data, 'student': data['student'].double() + sign * step * direction})
                       for sign in (1, -1))
        assert (gradient.double() * direction).sum().item() == pytest.approx((ahead - back) / (2 * step), abs=1e-4)


@EACH
def test_nothing_flows_to_an_identical_student(loss_class, formula, names):
    data = chosen(names)
    student = data['student'].clone().requires_grad_()
    same = dict(zip(names, (student, data['student'], *[data.get('student_lut')] * 2), strict=False))
    loss = loss_class()(**same)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert student.grad.abs().max() < 1e-6


@EACH
def test_order_of_persons_and_images_does_not_matter(loss_class, formula, names):
    data = chosen(names)
    expected = loss_class()(**data)
    order = torch.tensor([4, 2, 6, 0, 1, 3, 5])
    shuffled = {name: value[order] if 'lut' not in name else value for name, value in data.items()}
    torch.testing.assert_close(loss_class()(**shuffled), expected)
    images = {name: value.split([3, 0, 2, 2]) if 'lut' not in name else value for name, value in data.items()}
    torch.testing.assert_close(loss_class()(**images), expected)
    swapped = {name: value[::-1] if 'lut' not in name else value for name, value in images.items()}
    torch.testing.assert_close(loss_class()(**swapped), expected)


@EACH
@pytest.mark.parametrize('persons', [0, 1, 7])
def test_mixed_precision_gives_the_float32_loss(loss_class, formula, names, persons):
    data = chosen(names, persons=persons)
    expected = loss_class()(**data)
    student = data['student'].clone().requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = loss_class()(**{**data, 'student': student})
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)
    assert loss.dtype == torch.float32 and student.grad.isfinite().all()
    halves = {name: value.bfloat16() if 'lut' not in name else value for name, value in data.items()}
    assert loss_class()(**halves).isfinite()


@EACH
@pytest.mark.parametrize('persons', [0, 1])
def test_few_persons_have_a_finite_gradient(loss_class, formula, names, persons):
    data = chosen(names, persons=persons)
    data['student'].requires_grad_()
    loss = loss_class()(**data)
    loss.backward()
    assert loss.isfinite() and loss >= 0 and data['student'].grad.isfinite().all()


def test_relations_leave_out_identities_that_the_student_has_not_seen():
    some, seen = case(seen=(0, 3)), [0, 3]
    expected = RelationLoss()(some['student'], some['teacher'], some['student_lut'][seen], some['teacher_lut'][seen])
    torch.testing.assert_close(RelationLoss()(**some), expected)


def test_relations_to_an_empty_table_are_those_among_persons():
    data = case(seen=())
    torch.testing.assert_close(RelationLoss()(**data), RelationLoss()(data['student'], data['teacher']))


@pytest.mark.parametrize('loss_class', [RelationLoss, ResponseLoss])
def test_different_identities_are_refused_in_one_line_with_both_numbers(loss_class):
    data = case()
    data['teacher_lut'] = unit(8, 10, 4)
    with pytest.raises(ValueError, match=r'num_persons=5.*8') as error:
        loss_class()(**data)
    assert '\n' not in str(error.value) and loss_class.__name__ in str(error.value)


def test_unlabelled_persons_are_asked_too():
    """Every person counts, labelled or not: the loss takes no ids at all, and two more persons change its mean."""
    data = case()
    fewer = {name: value if 'lut' in name else value[:5] for name, value in data.items()}
    assert abs(ResponseLoss()(**data) - ResponseLoss()(**fewer)) > 1e-5
