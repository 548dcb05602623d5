"""The triplet loss with a lookup table equals a plain loop."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.losses import TripletLoss as MMDetTripletLoss

from mmps.models.losses import TripletLoss
from mmps.registry import MODELS


def persons(ids, seed=0, dims=8, num_identities=6):
    generator = torch.Generator().manual_seed(seed)
    embeddings = F.normalize(torch.randn(len(ids), dims, generator=generator, dtype=torch.float64))
    lut = 0.7 * torch.randn(num_identities, dims, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), torch.tensor(ids, dtype=torch.long), lut


def one_by_one(embeddings, person_ids, lut, margin):
    """The reference, a plain loop over anchors: the labelled persons, then the rows of their identities."""
    ids = [each for each in person_ids.tolist() if each >= 0]
    anchors = [*embeddings[person_ids >= 0], *(lut[each] for each in ids)]
    ids, terms = ids * 2, []
    for anchor, own in zip(anchors, ids, strict=True):
        distances = [(anchor - other).square().sum().clamp(min=1e-12).sqrt() for other in anchors]
        positives = [d for d, each in zip(distances, ids, strict=True) if each == own]
        negatives = [d for d, each in zip(distances, ids, strict=True) if each != own]
        if negatives:
            terms.append((max(positives) - min(negatives) + margin).clamp(min=0))
    return torch.stack(terms).mean() if terms else embeddings.sum() * 0


BATCHES = pytest.mark.parametrize(
    'ids',
    [[0, 1], [0, 0, 1], [3, -1, 7, 3, 12], [5, 5, 5, 2, 2, -1, -1, 0], list(range(12)), [0] * 20 + [1], [-1, 4, -1, 2]],
    ids=str,
)


@BATCHES
@pytest.mark.parametrize('margin', [0.0, 0.3, 2.0])
def test_loss_and_gradient_equal_the_loop(ids, margin):
    embeddings, person_ids, lut = persons(ids, num_identities=13)
    value = TripletLoss(margin, loss_weight=0.5)(embeddings, person_ids, lut)
    expected = 0.5 * one_by_one(embeddings, person_ids, lut, margin)
    torch.testing.assert_close(value, expected, atol=1e-9, rtol=0)
    found, wanted = (torch.autograd.grad(each, embeddings)[0] for each in (value, expected))
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)
    assert not found[person_ids < 0].any()


def test_without_a_lookup_table_it_equals_mmdetection():
    embeddings, person_ids, _ = persons([3, 0, 0, 4, 4, 4])
    expected = MMDetTripletLoss()(embeddings, person_ids)
    torch.testing.assert_close(TripletLoss()(embeddings, person_ids), expected)


def test_float32_is_close_to_the_loop():
    embeddings, person_ids, lut = persons([3, -1, 7, 3, 12, 0], num_identities=13)
    value = TripletLoss()(embeddings.float(), person_ids, lut.float())
    assert value.item() == pytest.approx(one_by_one(embeddings, person_ids, lut, 0.3).item(), abs=1e-6)


def test_the_gradient_equals_finite_differences():
    embeddings, person_ids, lut = persons([0, 0, 1, -1, 2, 2])
    assert torch.autograd.gradcheck(lambda e: TripletLoss(1.0)(e, person_ids, lut), embeddings)


@pytest.mark.parametrize('ids', [[], [2], [-1], [-1, -1], [3, 3, 3], [3, -1, 3]], ids=str)
def test_without_two_identities_the_loss_is_zero_and_has_a_gradient(ids):
    embeddings, person_ids, lut = persons(ids)
    value = TripletLoss()(embeddings, person_ids, lut)
    value.backward()
    assert value.item() == 0 and embeddings.grad.shape == embeddings.shape
    assert embeddings.grad.isfinite().all()
    assert not ids or not embeddings.grad.any()


def test_identity_0_has_its_row():
    embeddings, person_ids, lut = persons([0, 1])
    moved = lut.clone()
    moved[0] += 1
    loss = TripletLoss(2.0)
    assert loss(embeddings, person_ids, lut) != loss(embeddings, person_ids, moved)


def test_rows_of_absent_identities_do_not_matter():
    embeddings, person_ids, lut = persons([0, 1, 1, -1])
    moved = lut.clone()
    moved[2:] = 0
    assert TripletLoss()(embeddings, person_ids, lut) == TripletLoss()(embeddings, person_ids, moved)


def test_the_lookup_table_gets_no_gradient():
    embeddings, person_ids, lut = persons([0, 1, 1])
    lut.requires_grad_()
    TripletLoss(2.0)(embeddings, person_ids, lut).backward()
    assert lut.grad is None and embeddings.grad.any()


def test_equal_embeddings_have_a_finite_gradient():
    embeddings = F.normalize(torch.ones(4, 8)).requires_grad_()
    value = TripletLoss()(embeddings, torch.tensor([0, 0, 1, 1]), embeddings.detach()[:2])
    value.backward()
    assert value.item() == pytest.approx(0.3, abs=1e-2) and embeddings.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_keeps_the_loss_in_float32(dtype):
    embeddings, person_ids, lut = persons([0, 0, 1, -1])
    low = embeddings.detach().to(dtype).requires_grad_()
    expected = TripletLoss()(low.float(), person_ids, lut.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = TripletLoss()(low, person_ids, lut.float())
    value.backward()
    assert value.dtype == torch.float32 and torch.equal(value, expected)
    assert low.grad.isfinite().all() and low.grad.any()


def test_a_lookup_table_without_rows_is_refused_and_the_hook_named():
    embeddings, person_ids, _ = persons([0, 1])
    with pytest.raises(ValueError, match='IdentityHook'):
        TripletLoss()(embeddings, person_ids, torch.zeros(0, 8))


def test_the_registry_builds_this_class(mmps_scope):
    loss = MODELS.build(dict(type='TripletLoss', margin=0.5, loss_weight=2.0))
    assert isinstance(loss, TripletLoss) and loss.margin == 0.5  # not MMDetection's class of this name
