"""The OIM loss equals the published implementation; edge cases, options and mixed precision."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmps.models.losses import OIMLoss


def oim(num_identities=6, **kwargs):
    torch.manual_seed(0)
    loss = OIMLoss(num_identities, queue_size=5, embed_dims=8, **kwargs)
    loss.memory.lut.copy_(F.normalize(torch.randn(num_identities, 8)))
    loss.memory.queue.copy_(F.normalize(torch.randn(5, 8)))
    return loss


def persons(ids, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    embeddings = F.normalize(torch.randn(len(ids), 8, generator=generator)).to(dtype)
    return embeddings.requires_grad_(), torch.tensor(ids, dtype=torch.long)


def state(loss):
    return {name: value.clone() for name, value in loss.memory.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_six_steps_equal_the_recorded_ones(golden):
    recorded = np.load(golden('expected/oim_seed0.npz'))
    loss = OIMLoss(num_identities=20, queue_size=16, embed_dims=32, momentum=0.5, scale=30.0)
    for step in range(6):
        embeddings = torch.from_numpy(recorded[f'x{step}']).requires_grad_()
        value = loss(embeddings, torch.from_numpy(recorded[f'ids{step}']).long())
        value.backward()
        found = {
            'loss': value.detach(),
            'grad': embeddings.grad,
            'lut': loss.memory.lut,
            'queue': loss.memory.queue,
            'header': loss.memory.queue_position,
        }
        for name, tensor in found.items():
            np.testing.assert_allclose(
                tensor.numpy(), recorded[f'{name}{step}'], atol=1e-5, rtol=1e-5, err_msg=f'{name} of step {step}'
            )


def test_loss_is_the_mean_cross_entropy_of_labelled_persons():
    loss = oim(scale=10.0, loss_weight=0.5).eval()
    embeddings, ids = persons([0, -1, 5, 5])
    logits = 10.0 * embeddings.double() @ torch.cat([loss.memory.lut, loss.memory.queue]).double().T
    expected = 0.5 * -torch.log_softmax(logits, 1)[[0, 2, 3], [0, 5, 5]].mean()
    assert loss(embeddings, ids).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize('ids', [[-1, -1, -1], []], ids=['all unlabelled', 'nobody'])
def test_without_labelled_persons_the_loss_is_zero_and_has_a_gradient(ids):
    embeddings, ids = persons(ids)
    value = oim()(embeddings, ids)
    value.backward()
    assert value.item() == 0
    assert not embeddings.grad.any()


def test_unlabelled_persons_do_not_change_the_loss():
    embeddings, ids = persons([0, -1, 5])
    value = oim()(embeddings, ids)
    alone = oim()(embeddings[[0, 2]], ids[[0, 2]])
    torch.testing.assert_close(value, alone)


def test_evaluation_does_not_update_the_memory():
    loss = oim().eval()
    before = state(loss)
    loss(*persons([0, -1, 5]))
    assert same(state(loss), before)


def test_gradients_are_those_of_the_loss_before_the_update():
    training, still = oim(), oim().eval()
    embeddings, ids = persons([0, -1, 5, 5])
    (expected,) = torch.autograd.grad(still(embeddings, ids), embeddings)
    value = training(embeddings, ids)
    assert not same(state(training), state(still))
    training(*persons([1, 1, -1], seed=2))  # a later update must not change the gradient either
    (found,) = torch.autograd.grad(value, embeddings)
    torch.testing.assert_close(found, expected)


def test_a_memory_without_identities_is_refused_and_the_hook_named():
    with pytest.raises(ValueError, match='IdentityHook'):
        OIMLoss(queue_size=5, embed_dims=8)(*persons([0]))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_mixed_precision_keeps_loss_and_memory_in_float32(dtype):
    embeddings, ids = persons([0, -1, 5, 5, -1], dtype)
    plain, mixed = oim(), oim()
    expected = plain(embeddings.float(), ids)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = mixed(embeddings, ids)
    value.backward()
    assert value.dtype == torch.float32
    assert all(buffer.dtype in (torch.float32, torch.int64) for buffer in mixed.buffers())
    torch.testing.assert_close(value, expected, atol=0, rtol=0)
    assert same(state(mixed), state(plain))
    assert embeddings.grad.isfinite().all() and embeddings.grad.any()


@pytest.mark.parametrize('gamma', [0.5, 1.0, 2.0])
@pytest.mark.parametrize('queue_scale', [None, 4.0])
def test_focal_factor_and_queue_scale_follow_the_formula(gamma, queue_scale):
    loss = oim(scale=10.0, gamma=gamma, queue_scale=queue_scale).eval()
    embeddings, ids = persons([0, -1, 5, 5])
    rows = torch.cat([10.0 * loss.memory.lut, (queue_scale or 10.0) * loss.memory.queue]).double()
    log_p = torch.log_softmax(embeddings.double() @ rows.T, 1)[[0, 2, 3], [0, 5, 5]]
    expected = -((1 - log_p.exp()) ** gamma * log_p).mean()
    value = loss(embeddings, ids)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    found, wanted = (torch.autograd.grad(each, embeddings, retain_graph=True)[0] for each in (value, expected))
    torch.testing.assert_close(found, wanted)
    assert not found[1].any()  # the unlabelled person


def test_the_queue_scale_does_not_change_the_memory():
    loss = oim(scale=10.0, queue_scale=4.0).eval()
    before = state(loss)
    loss(*persons([0, -1, 5]))
    assert same(state(loss), before)


@pytest.mark.parametrize('gamma', [0.5, 2.0])
def test_a_certain_match_has_a_finite_gradient(gamma):
    loss = oim(scale=1e3, gamma=gamma).eval()
    embeddings = loss.memory.lut[[2, 3]].clone().requires_grad_()
    value = loss(embeddings, torch.tensor([2, -1]))
    value.backward()
    assert value == 0 and embeddings.grad.isfinite().all()


@pytest.mark.parametrize('ids', [[-1, -1], []], ids=['all unlabelled', 'nobody'])
def test_without_labelled_persons_the_focal_loss_is_zero_and_has_a_gradient(ids):
    embeddings, ids = persons(ids)
    value = oim(gamma=2.0)(embeddings, ids)
    value.backward()
    assert value.item() == 0 and not embeddings.grad.any()


def test_memory_options_reach_the_memory():
    loss = oim(normalize=False, queue_dims=3)
    before = state(loss)
    embeddings, ids = persons([2, -1])
    loss(embeddings, ids)
    torch.testing.assert_close(loss.memory.lut[2], (before['lut'][2] + embeddings[0].detach()) / 2)
    torch.testing.assert_close(loss.memory.queue[0, :3], embeddings[1, :3].detach())
    assert torch.equal(loss.memory.queue[0, 3:], before['queue'][0, 3:])


def test_the_state_dict_holds_only_the_memory():
    assert set(oim().state_dict()) == {'memory.lut', 'memory.queue', 'memory.queue_position'}
    assert not list(oim().parameters())
