"""Compares the losses on embeddings with their formulas, written as plain loops in float64."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mmps.distillation.losses import EmbeddingLoss, RelationDivergenceLoss, RelationLoss, ResponseLoss, TripletRelationLoss
from mmps.distillation.losses.embedding import projected, temperature_of


def unit(rows, dims, seed):
    return F.normalize(torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def case(persons=7, identities=5, seen=(0, 1, 2, 3, 4), teacher_dims=10):
    """Returns inputs of different embedding sizes. The student's table has a zero row for each identity not in ``seen``."""
    data = {
        'student': unit(persons, 6, 0),
        'teacher': unit(persons, teacher_dims, 1),
        'student_lut': unit(identities, 6, 2),
        'teacher_lut': unit(identities, teacher_dims, 3),
    }
    data['student_lut'][[i for i in range(identities) if i not in seen]] = 0
    return data


def dot(a, b):
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def smooth_l1(difference, beta):
    difference = abs(difference)
    return difference**2 / (2 * beta) if difference < beta else difference - beta / 2


def mean(terms):
    return sum(terms) / max(len(terms), 1)


def relation(student, teacher, student_lut=None, teacher_lut=None, beta=0.1, loss_weight=1.0):
    count = len(student)
    loss = mean(
        [
            smooth_l1(dot(student[i], student[j]) - dot(teacher[i], teacher[j]), beta)
            for i in range(count)
            for j in range(count)
            if i != j
        ]
    )
    if student_lut is not None:
        loss += mean(
            [
                smooth_l1(dot(student[i], student_lut[k]) - dot(teacher[i], teacher_lut[k]), beta)
                for i in range(count)
                for k in range(len(student_lut))
                if student_lut[k].any()
            ]
        )
    return loss_weight * loss


def divergence(student, teacher, temperature, symmetric):
    """Returns t^2 KL between the softmax distributions of two lists of similarities."""
    powers = [[math.exp(similarity / temperature) for similarity in row] for row in (student, teacher)]
    p_s, p_t = ([power / sum(row) for power in row] for row in powers)
    kl = sum(t * math.log(t / s) for s, t in zip(p_s, p_t, strict=True))
    if symmetric:
        kl += sum(s * math.log(s / t) for s, t in zip(p_s, p_t, strict=True))
    return temperature**2 * kl


def entropy(similarities, temperature):
    powers = [math.exp(similarity / temperature) for similarity in similarities]
    return -sum(power / sum(powers) * math.log(power / sum(powers)) for power in powers)


def response(
    student, teacher, student_lut, teacher_lut, temperature=None, loss_weight=1.0, symmetric=False, scale=1.0, reverse=False
):
    seen = [k for k in range(len(student_lut)) if student_lut[k].any() and teacher_lut[k].any()]
    student_lut, teacher_lut = (
        [[x / math.hypot(*row) for x in row] if any(row) else row for row in lut.tolist()] for lut in (student_lut, teacher_lut)
    )
    student_lut, teacher_lut = (torch.tensor(lut, dtype=torch.float64) for lut in (student_lut, teacher_lut))
    if temperature is None:
        rows = [[dot(t, teacher_lut[k]) for k in seen] for t in teacher]
        scale, lower, temperature = 1.0, 0.01, 1.0
        for _ in range(14):
            middle = math.sqrt(lower * temperature)
            too_soft = rows and mean([entropy(row, middle) for row in rows]) > math.log(3)
            lower, temperature = (lower, middle) if too_soft else (middle, temperature)
    return loss_weight * mean(
        [
            divergence(
                *([scale * dot(s, student_lut[k]) for k in seen], [scale * dot(t, teacher_lut[k]) for k in seen])[
                    :: -1 if reverse else 1
                ],
                temperature,
                symmetric,
            )
            for s, t in zip(student, teacher, strict=True)
        ]
    )


def relation_divergence(student, teacher, temperature=4.0, symmetric=False, loss_weight=1.0):
    rows = [
        [[dot(embeddings[i], embeddings[j]) for j in range(len(student))] for i in range(len(student))]
        for embeddings in (student, teacher)
    ]
    return loss_weight * mean([divergence(s, t, temperature, symmetric) for s, t in zip(*rows, strict=True)])


def row_relation(student, teacher, beta=0.1, loss_weight=1.0):
    """Rows of similarities, with the person itself, of unit length (Tung and Mori, ICCV 2019)."""
    rows = []
    for embeddings in (student, teacher):
        similarities = [[dot(one, other) for other in embeddings] for one in embeddings]
        rows.append([[value / math.sqrt(sum(each**2 for each in row)) for value in row] for row in similarities])
    entries = [smooth_l1(a - b, beta) for s, t in zip(*rows, strict=True) for a, b in zip(s, t, strict=True)]
    return loss_weight * mean(entries)


def triplets(student, teacher, margin=0.3, loss_weight=1.0):
    count = len(student)
    distances = [[math.dist(s.tolist(), t.tolist()) for t in teacher] for s in student]
    terms = [
        max(margin + distances[i][i] - min(distances[i][j] for j in range(count) if j != i), 0)
        for i in range(count)
        if count > 1
    ]
    return loss_weight * mean(terms)


def embedding(student, teacher, loss_weight=1.0):
    return loss_weight * mean([1 - dot(s, t) / math.sqrt(dot(s, s) * dot(t, t)) for s, t in zip(student, teacher, strict=True)])


PAIR = 'student', 'teacher'
WITH_LUT = *PAIR, 'student_lut', 'teacher_lut'
LOSSES = {
    'relation': (RelationLoss, relation, PAIR, [dict(beta=0.5), dict(beta=0.02, loss_weight=3.0)]),
    'relation to LUT': (RelationLoss, relation, WITH_LUT, [dict(beta=0.02, loss_weight=3.0)]),
    'response': (
        ResponseLoss,
        response,
        WITH_LUT,
        [
            dict(temperature=1 / 30),
            dict(temperature=1.0, loss_weight=2.0),
            dict(symmetric=True),
            dict(temperature=2.0, scale=16.0),
        ],
    ),
    'relation divergence': (
        RelationDivergenceLoss,
        relation_divergence,
        PAIR,
        [dict(temperature=0.1, loss_weight=2.0), dict(temperature=2.0, symmetric=True)],
    ),
    'relation of rows': (
        partial(RelationLoss, normalize_rows=True),
        row_relation,
        PAIR,
        [dict(beta=2.0), dict(beta=0.02, loss_weight=3.0)],
    ),
    'response, reversed': (
        partial(ResponseLoss, reverse=True),
        partial(response, reverse=True),
        WITH_LUT,
        [dict(temperature=1 / 30), dict(temperature=1.0, loss_weight=2.0)],
    ),
    'triplet relation': (TripletRelationLoss, triplets, PAIR, [dict(margin=0.1), dict(margin=1.0, loss_weight=3.0)]),
    'embedding': (EmbeddingLoss, embedding, PAIR, [dict(loss_weight=3.0)]),
}


def chosen(name, **kwargs):
    data = case(teacher_dims=6 if name in ('embedding', 'triplet relation') else 10, **kwargs)
    return {key: data[key] for key in LOSSES[name][2]}


@pytest.mark.parametrize('seen', [(0, 1, 2, 3, 4), (0, 3), (2,)])
@pytest.mark.parametrize('persons', [0, 1, 2, 3, 7])
@pytest.mark.parametrize('name', LOSSES)
def test_loss_equals_its_formula(name, persons, seen):
    loss_class, formula, *_ = LOSSES[name]
    data = chosen(name, persons=persons, seen=seen)
    assert loss_class()(**data).item() == pytest.approx(formula(**data), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    'name, settings',
    [(name, settings) for name in LOSSES for settings in LOSSES[name][3]],
    ids=lambda value: value if isinstance(value, str) else str(list(value.values())),
)
def test_loss_follows_its_settings(name, settings):
    loss_class, formula, *_ = LOSSES[name]
    data = chosen(name, seen=(0, 3, 4))
    assert loss_class(**settings)(**data).item() == pytest.approx(formula(**data, **settings), rel=1e-9)
    assert loss_class(**settings)(**data).item() != pytest.approx(formula(**data), rel=1e-3)


@pytest.mark.parametrize('name', ['relation to LUT', 'response'])
def test_identities_unseen_by_either_model_are_ignored(name):
    loss_class, data, seen = LOSSES[name][0], chosen(name, seen=(0, 1, 3)), [0, 3]
    data['teacher_lut'][1] = 0
    known = {key: value[seen] if 'lut' in key else value for key, value in data.items()}
    torch.testing.assert_close(loss_class()(**data), loss_class()(**known))


def test_the_temperature_gives_a_teacher_the_same_doubt_with_any_number_of_identities():
    """Identities that look alike, as drawn and real ones do: the cosines of two of them have a standard deviation of 0.3."""
    own, of_fixed = {}, {}
    for count in (80, 800, 5532):
        table = unit(count, 11, 5)
        ids = torch.arange(count)[:: count // 40]
        persons = F.normalize(table[ids] + 0.5 * unit(len(ids), 11, 6))
        everybody = torch.ones(count, dtype=torch.bool)
        temperature = temperature_of(persons @ table.T, everybody).item()
        for found, t in ((own, temperature), (of_fixed, 0.1)):
            found[count] = (persons @ table.T / t).softmax(1)[range(len(ids)), ids].mean().item()
        p = (persons @ table.T / temperature).softmax(1)
        assert torch.special.entr(p).sum(1).mean().exp().item() == pytest.approx(3, rel=1e-2)
    assert max(own.values()) - min(own.values()) < 0.2
    assert max(of_fixed.values()) - min(of_fixed.values()) > 0.4


@pytest.mark.parametrize('persons, seen', [(0, 5), (4, 0), (4, 1), (4, 2)])
def test_the_temperature_is_finite_without_persons_and_with_few_identities(persons, seen):
    temperature = temperature_of(unit(persons, 6, 0) @ unit(5, 6, 1).T, torch.arange(5) < seen)
    assert 0.01 <= temperature <= 1


def test_rows_that_are_not_of_unit_length_are_cosines_too():
    data = case()
    longer = dict(data, student_lut=data['student_lut'] * torch.tensor([0.1, 0.5, 1, 2, 3.0]).double()[:, None])
    torch.testing.assert_close(ResponseLoss()(**longer), ResponseLoss()(**data))


def test_an_empty_lookup_table_leaves_only_the_relations_among_persons():
    data = case(seen=())
    data['student'].requires_grad_()
    torch.testing.assert_close(RelationLoss()(**data), RelationLoss()(data['student'], data['teacher']))
    for symmetric in (False, True):
        loss = ResponseLoss(symmetric=symmetric)(**data)
        (gradient,) = torch.autograd.grad(loss, data['student'])
        assert loss == 0 and not gradient.any()


@pytest.mark.parametrize('loss_class', [RelationLoss, ResponseLoss])
def test_different_identities_are_refused_in_one_line_with_both_numbers(loss_class):
    data = case()
    data['teacher_lut'] = unit(8, 10, 4)
    with pytest.raises(ValueError, match=r'num_identities=5.*8') as error:
        loss_class()(**data)
    assert '\n' not in str(error.value) and loss_class.__name__ in str(error.value)


def test_embeddings_of_different_sizes_are_refused_in_one_line_with_both():
    with pytest.raises(ValueError, match=r'^EmbeddingLoss: .*embed_dims=6.* 10') as error:
        EmbeddingLoss()(unit(3, 6, 0), unit(3, 10, 1))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['response', 'relation divergence'])
def test_unlabelled_persons_count_only_without_person_ids(name):
    loss, data = LOSSES[name][0](temperature=0.5), chosen(name)
    person_ids = torch.tensor([3, -1, 0, 2, -1, -1, 4])
    labelled = {key: value if 'lut' in key else value[[0, 2, 3, 6]] for key, value in data.items()}
    assert loss(**data, person_ids=person_ids).item() == pytest.approx(LOSSES[name][1](**labelled, temperature=0.5), rel=1e-9)
    assert abs(loss(**data) - loss(**labelled)) > 1e-5
    student = data['student'].requires_grad_()
    (gradient,) = torch.autograd.grad(loss(**data, person_ids=person_ids), student)
    assert torch.equal(gradient.any(1), person_ids >= 0)
    assert loss(**data, person_ids=torch.full((7,), -1)) == 0


@pytest.mark.parametrize('scale', [10.0, 16.0, 30.0])
def test_a_scale_equals_a_lower_temperature_and_a_greater_weight(scale):
    """HKD's temperature 2 is one of logits, s times the similarities: 2 / s of similarities, with s^2 times the weight."""
    data = case()
    torch.testing.assert_close(
        ResponseLoss(temperature=2.0, scale=scale)(**data),
        ResponseLoss(temperature=2.0 / scale, loss_weight=scale**2)(**data),
    )


def test_a_beta_of_two_makes_relations_a_squared_error():
    data = chosen('relation')
    student, teacher = (embeddings @ embeddings.T for embeddings in data.values())
    expected = F.mse_loss(student, teacher, reduction='sum') / (7 * 6)
    torch.testing.assert_close(RelationLoss(beta=2.0, loss_weight=4.0)(**data), expected)


def test_the_nearest_other_person_of_the_teacher_is_pushed_away():
    """DKD's triplets are contrastive: the student's embedding, the teacher's of the same person, the teacher's of another."""
    student = F.normalize(torch.tensor([[1.0, 0.5, 0], [0, 0, 1]])).requires_grad_()
    teacher = torch.eye(3)[:2]
    loss = TripletRelationLoss(margin=1.0)(student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient[0, 0] < 0 < gradient[0, 1]
    assert TripletRelationLoss()(teacher, teacher) == 0


@pytest.mark.parametrize('distance', [0.0, 1e-12, 1e-6, 1e-3])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_gradients_of_persons_who_look_like_the_teachers_are_bounded(distance, dtype):
    data = chosen('triplet relation')
    data['student'] = data['teacher'] + distance * unit(7, 6, 9)
    student = data['student'].to(dtype).requires_grad_()
    loss = TripletRelationLoss(margin=2.0)(student, data['teacher'].to(dtype))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(triplets(**data, margin=2.0), rel=1e-4)
    assert gradient.isfinite().all() and gradient.norm(dim=1).max() <= 2 / 7 + 1e-6


@pytest.mark.parametrize('dims', [4, 10, 16])
def test_a_teacher_of_another_size_is_projected_always_in_the_same_way(dims):
    teacher = unit(7, 10, 1)
    found = projected(teacher, dims)
    assert found.shape == (7, dims) and torch.equal(found, projected(teacher, dims))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(7, dtype=torch.float64))
    if dims >= 10:
        torch.testing.assert_close(found @ found.T, teacher @ teacher.T)
    assert found.abs().amin(1).lt(1).all() and found.any(0).all()  # every column is used
    assert TripletRelationLoss()(unit(7, dims, 0), teacher) == TripletRelationLoss()(unit(7, dims, 0), found)
