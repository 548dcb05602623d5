"""Compares FGD with its equations, written as plain loops in float64."""

import itertools
import math

import pytest
import torch

from mmps.distillation.losses import FGDLoss
from mmps.distillation.losses.feature import standardise

STRIDE = 4
IMAGES, CHANNELS, ROWS, COLUMNS = SHAPE = 2, 4, 5, 6


def boxes_of(*images):
    return [torch.tensor(image, dtype=torch.float64).reshape(-1, 4) for image in images]


BOXES = {
    'apart': boxes_of([[0, 0, 8, 8], [12, 4, 20, 16]], [[4, 4, 12, 12]]),
    'overlapping': boxes_of([[0, 0, 16, 16], [4, 4, 11, 19]], [[0, 0, 24, 20], [8, 8, 12, 12]]),
    'an image without': boxes_of([], [[4, 4, 12, 12]]),
    'nobody': boxes_of([], []),
    'nothing else': boxes_of([[-5, -5, 30, 30]], [[0, 0, 24, 20]]),
}
EACH = pytest.mark.parametrize('boxes', BOXES.values(), ids=BOXES)
TERMS = 'person_weight', 'background_weight', 'attention_weight', 'relation_weight'


def maps(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator, dtype=torch.float64) * scale for scale in (1, 2)]


def build(seed=0, **settings):
    """Builds a loss with random context blocks, as after some training. All weights are 1 unless given."""
    torch.manual_seed(seed)
    loss = FGDLoss(CHANNELS, STRIDE, **{**dict.fromkeys(TERMS, 1.0), **settings}).double()
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter)
    return loss


def softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def attention(feature, temperature):
    """Returns the attentions of one image: {(row, column): value} and [value of each channel]."""
    cells = list(itertools.product(range(ROWS), range(COLUMNS)))
    size = {(c, *cell): abs(feature[(c, *cell)].item()) for c in range(CHANNELS) for cell in cells}
    spatial = softmax([sum(size[(c, *cell)] for c in range(CHANNELS)) / CHANNELS / temperature for cell in cells])
    channel = softmax([sum(size[(c, *cell)] for cell in cells) / len(cells) / temperature for c in range(CHANNELS)])
    return dict(zip(cells, (len(cells) * a for a in spatial), strict=True)), [CHANNELS * a for a in channel]


def scales(boxes):
    """Returns {(row, column): 1 / area of the smallest person there} for the persons' cells of one image."""
    smallest = {}
    for x1, y1, x2, y2 in (boxes / STRIDE).tolist():
        cells = [
            (row, column)
            for row, column in itertools.product(range(ROWS), range(COLUMNS))
            if column < x2 and column + 1 > x1 and row < y2 and row + 1 > y1
        ]
        for cell in cells:
            smallest[cell] = max(smallest.get(cell, 0), 1 / len(cells))
    return smallest


def conv(module, values):
    """Applies a 1 x 1 convolution to one cell."""
    return [
        sum(w * v for w, v in zip(row, values, strict=True)) + b
        for row, b in zip(module.weight.flatten(1).tolist(), module.bias.tolist(), strict=True)
    ]


def context(block, feature):
    """Returns what a GcBlock adds to every cell of one image (equation 12)."""
    cells = list(itertools.product(range(ROWS), range(COLUMNS)))
    attended = softmax([conv(block.conv_mask, feature[:, row, column].tolist())[0] for row, column in cells])
    pooled = [sum(a * feature[(c, *cell)].item() for a, cell in zip(attended, cells, strict=True)) for c in range(CHANNELS)]
    first, norm, _, last = block.channel_add_conv
    hidden = conv(first, pooled)
    mean = sum(hidden) / len(hidden)
    variance = sum((h - mean) ** 2 for h in hidden) / len(hidden)
    hidden = [
        max((h - mean) / math.sqrt(variance + norm.eps) * w + b, 0)
        for h, w, b in zip(hidden, norm.weight.flatten().tolist(), norm.bias.flatten().tolist(), strict=True)
    ]
    return conv(last, hidden)


def terms(loss, student, teacher, boxes, temperature):
    """Returns the four terms, each averaged over the images."""
    total = dict.fromkeys(TERMS, 0.0)
    for s, t, image_boxes in zip(student, teacher, boxes, strict=True):
        spatial, channel = attention(t, temperature)
        persons = scales(image_boxes)
        for (row, column), c in itertools.product(spatial, range(CHANNELS)):
            difference = spatial[row, column] * channel[c] * (s - t)[c, row, column].item() ** 2
            if (row, column) in persons:
                total['person_weight'] += difference * persons[row, column]
            else:
                total['background_weight'] += difference / (ROWS * COLUMNS - len(persons))
        for ours, theirs in zip(attention(s, temperature), (spatial, channel), strict=True):
            keys = ours if isinstance(ours, dict) else range(CHANNELS)
            total['attention_weight'] += sum(abs(ours[key] - theirs[key]) for key in keys)
        if loss.relation_weight:
            added = zip(context(loss.student_context, s), context(loss.teacher_context, t), strict=True)
            shift = torch.tensor([ours - theirs for ours, theirs in added], dtype=torch.float64)
            total['relation_weight'] += (s - t + shift[:, None, None]).square().sum().item()
    return {name: term / IMAGES for name, term in total.items()}


@EACH
@pytest.mark.parametrize(
    'settings',
    [{}, dict(temperature=0.8, loss_weight=2.0), *({other: 0.0 for other in TERMS if other != name} for name in TERMS)],
    ids=['all', 'settings', *TERMS],
)
def test_loss_equals_its_formula(boxes, settings):
    loss, (student, teacher) = build(**settings), maps()
    expected = terms(loss, student, teacher, boxes, settings.get('temperature', 0.5))
    weighted = sum(settings.get(name, 1.0) * term for name, term in expected.items())
    assert loss(student, teacher, boxes).item() == pytest.approx(settings.get('loss_weight', 1.0) * weighted, rel=1e-6)


def test_defaults_are_the_published_weights():
    torch.manual_seed(0)
    loss, (student, teacher) = FGDLoss(CHANNELS, STRIDE).double(), maps()
    expected = terms(loss, student, teacher, BOXES['apart'], 0.5)
    weights = dict(person_weight=1e-3, background_weight=5e-4, attention_weight=1e-3, relation_weight=5e-6)
    assert loss(student, teacher, BOXES['apart']).item() == pytest.approx(
        sum(weights[name] * term for name, term in expected.items()), rel=1e-6
    )


def test_attention_is_one_on_average():
    spatial, channel = build().attention(maps()[0], torch.ones(IMAGES, ROWS, COLUMNS, dtype=torch.float64))
    torch.testing.assert_close(spatial.mean((1, 2)), torch.ones(IMAGES).double())
    torch.testing.assert_close(channel.mean(1), torch.ones(IMAGES).double())


def test_attention_of_standardised_maps_is_not_one_hot_whatever_their_scale():
    """AlignPS's maps have a mean magnitude of 15 after few steps; an offset makes one channel larger than the others."""
    torch.manual_seed(0)
    teacher = torch.randn(2, 64, 8, 8) * torch.rand(64)[:, None, None] * 10 + torch.randn(64)[:, None, None] * 15
    losses = {on: FGDLoss(64, STRIDE, standardised=on, relation_weight=0) for on in (True, False)}
    channel = {on: losses[on].attention(standardise(teacher) if on else teacher, torch.ones(2, 8, 8))[1] for on in losses}
    assert channel[False].max() > 60 and channel[True].max() < 2  # of 64
    student = torch.randn_like(teacher)
    assert losses[True](student, teacher, BOXES['apart']).item() == pytest.approx(
        losses[True](standardise(student), standardise(teacher), BOXES['apart']).item(), rel=1e-3
    )


@pytest.mark.parametrize('standardised', [False, True])
def test_padding_has_no_influence(standardised):
    """The first image fills 3 of 5 rows and 4 of 6 columns, the second all."""
    loss, (student, teacher) = build(standardised=standardised), maps()
    sizes = [(11, 14), (20, 24)]
    before = loss(student, teacher, BOXES['apart'], sizes).item()
    for each in (student, teacher):
        each[0, :, 3:] += 7
        each[0, :, :, 4:] *= -3
    assert loss(student, teacher, BOXES['apart'], sizes).item() == pytest.approx(before, rel=1e-9)
    assert loss(student, teacher, BOXES['apart']).item() != pytest.approx(before, rel=1e-2)


def test_an_image_alone_and_padded_has_the_same_loss():
    loss, (student, teacher) = build(), maps()
    small = [each[:1, :, :3, :4] for each in (student, teacher)]
    expected = loss(*small, BOXES['apart'][:1], [(12, 16)]).item()
    assert loss(student[:1], teacher[:1], BOXES['apart'][:1], [(12, 16)]).item() == pytest.approx(expected, rel=1e-6)


def test_without_the_global_term_there_are_no_parameters():
    assert not list(FGDLoss(CHANNELS, STRIDE, relation_weight=0).parameters())


def test_both_context_blocks_are_trained():
    loss, (student, teacher) = build(), maps()
    loss(student, teacher, BOXES['apart']).backward()
    trained = {name: parameter.grad is not None and bool(parameter.grad.any()) for name, parameter in loss.named_parameters()}
    # a softmax does not change if a bias is added to all its inputs
    assert {name for name, yes in trained.items() if not yes} <= {
        'student_context.conv_mask.bias',
        'teacher_context.conv_mask.bias',
    }


def test_a_teachers_map_of_another_size_is_averaged_over_the_students_cells():
    loss, (student, teacher) = build(), maps()
    fine = teacher.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(loss(student, fine, BOXES['apart']), loss(student, teacher, BOXES['apart']))


@pytest.mark.parametrize('teacher', [(2, 3, 5, 6), (1, 4, 5, 6)])
def test_different_shapes_are_refused_in_one_line_with_both(teacher):
    with pytest.raises(ValueError) as error:
        build().float()(torch.zeros(SHAPE), torch.zeros(teacher), BOXES['apart'])
    message = str(error.value)
    assert message.startswith('FGDLoss') and str(SHAPE) in message and str(teacher) in message and '\n' not in message


def test_other_channels_than_configured_are_refused_in_one_line_with_both():
    with pytest.raises(ValueError, match=r'^FGDLoss: channels=4\b.*\(2, 8, 5, 6\)') as error:
        build()(torch.zeros(2, 8, 5, 6), torch.zeros(2, 8, 5, 6), BOXES['apart'])
    assert '\n' not in str(error.value)
