"""Classification among many identities in chunks is the classification among all at once."""

import pytest
import torch
import torch.nn.functional as F

from mmps.models.losses import OIMLoss


def step(chunk, persons=9, identities=23, queue=7, **options):
    torch.manual_seed(0)
    loss = OIMLoss(identities, queue, 8, rows_at_once=chunk, **options).train()
    loss.memory.lut.copy_(F.normalize(torch.randn(identities, 8)))
    loss.memory.queue[:4] = F.normalize(torch.randn(min(queue, 4), 8))
    ids = torch.arange(persons) % 5 - 1
    gradients = []
    for _ in range(2):
        embeddings = F.normalize(torch.randn(persons, 8)).requires_grad_()
        value = loss(embeddings, ids)
        value.backward()  # after the memory has changed
        gradients.append(embeddings.grad)
    return value, torch.cat(gradients), loss.memory.state_dict()


@pytest.mark.parametrize('chunk', [1, 5, 23, 1000])
@pytest.mark.parametrize('options', [{}, dict(gamma=2.0, scale=10.0, queue_scale=5.0), dict(gamma=0.5), dict(queue=0)])
def test_chunks_change_neither_loss_nor_gradient_nor_memory(chunk, options):
    (value, gradient, memory), (expected, wanted, other) = step(chunk, **options), step(None, **options)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(memory[name], rows) for name, rows in other.items())


def test_without_persons_the_loss_is_zero():
    loss = OIMLoss(5, 3, 8, rows_at_once=2).train()
    embeddings = torch.zeros(0, 8, requires_grad=True)
    loss(embeddings, torch.zeros(0, dtype=torch.long)).backward()
    assert embeddings.grad.shape == (0, 8)


def test_nothing_of_the_size_of_the_lookup_table_is_kept_for_the_backward_pass():
    def kept(chunk):
        sizes = []
        loss = OIMLoss(5000, 10, 8, rows_at_once=chunk).train()
        embeddings = F.normalize(torch.randn(6, 8)).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
            loss(embeddings, torch.arange(6))
        return max(sizes)

    assert kept(64) <= 6 * 8 < 6 * 5000 <= kept(None)
