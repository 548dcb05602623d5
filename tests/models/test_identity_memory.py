"""The content of the identity memory after updates, resizing, loading and fixing."""

import copy

import pytest
import torch
import torch.nn.functional as F

from mmps.models import IdentityMemory


def one_by_one(lut, queue, position, embeddings, person_ids, momentum, normalize=True, queue_dims=None):
    """The reference update, a plain loop over persons."""
    for embedding, person_id in zip(embeddings, person_ids.tolist(), strict=True):
        if person_id >= 0:
            lut[person_id] = momentum * lut[person_id] + (1 - momentum) * embedding
            if normalize:
                lut[person_id] /= lut[person_id].norm()
        else:
            queue[position, :queue_dims] = embedding[:queue_dims]
            position = (position + 1) % len(queue)
    return lut, queue, position


def persons(count, num_identities, seed=0, dims=8, unlabelled=0.3):
    generator = torch.Generator().manual_seed(seed)
    embeddings = F.normalize(torch.randn(count, dims, generator=generator))
    person_ids = torch.randint(num_identities, (count,), generator=generator)
    person_ids[torch.rand(count, generator=generator) < unlabelled] = -1
    return embeddings, person_ids


def memory_with(num_identities=5, queue_size=7, dims=8, momentum=0.5, **options):
    memory = IdentityMemory(num_identities, queue_size, dims, momentum, **options)
    memory.lut.copy_(F.normalize(torch.randn(num_identities, dims, generator=torch.Generator().manual_seed(9))))
    return memory


@pytest.mark.parametrize('momentum', [0.0, 0.5, 0.9])
@pytest.mark.parametrize(
    'count, num_identities, unlabelled',
    [(200, 3, 0.0), (200, 3, 0.3), (200, 150, 0.1), (64, 1, 0.0), (50, 5, 1.0), (1, 5, 0.0), (1, 5, 1.0), (40, 5, 0.9)],
)
def test_a_batch_update_equals_one_update_per_person_in_order(count, num_identities, unlabelled, momentum):
    memory = memory_with(num_identities, momentum=momentum)
    expected = memory.lut.double(), memory.queue.double(), 0
    for step in range(4):
        embeddings, person_ids = persons(count, num_identities, step, unlabelled=unlabelled)
        memory.update(embeddings, person_ids)
        expected = one_by_one(*expected, embeddings.double(), person_ids, momentum)
        torch.testing.assert_close(memory.lut.double(), expected[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(memory.queue.double(), expected[1], atol=0, rtol=0)
        assert memory.queue_position == expected[2]


@pytest.mark.parametrize('options', [dict(normalize=False), dict(queue_dims=3), dict(normalize=False, queue_dims=3)])
@pytest.mark.parametrize('count, num_identities', [(200, 3), (30, 5), (1, 5)])
def test_update_options_equal_one_update_per_person_in_order(count, num_identities, options):
    memory = memory_with(num_identities, **options)
    expected = memory.lut.double(), memory.queue.double(), 0
    for step in range(4):
        embeddings, person_ids = persons(count, num_identities, step)
        memory.update(embeddings, person_ids)
        expected = one_by_one(*expected, embeddings.double(), person_ids, 0.5, **options)
        torch.testing.assert_close(memory.lut.double(), expected[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(memory.queue.double(), expected[1], atol=0, rtol=0)
        assert memory.queue_position == expected[2]


def test_channels_beyond_queue_dims_do_not_change():
    memory = memory_with(queue_size=2, queue_dims=3)
    memory.queue.fill_(9)
    memory.update(*persons(4, 5, unlabelled=1.0))
    assert (memory.queue[:, 3:] == 9).all() and (memory.queue[:, :3] != 9).all()


def test_order_of_an_identitys_sightings_matters():
    embeddings, person_ids = F.normalize(torch.randn(6, 8)), torch.tensor([2, 2, 2, 0, 2, 2])
    ahead, back = memory_with(), memory_with()
    ahead.update(embeddings, person_ids)
    back.update(embeddings.flip(0), person_ids.flip(0))
    assert not torch.allclose(ahead.lut[2], back.lut[2], atol=1e-2)
    torch.testing.assert_close(ahead.lut[0], back.lut[0])


def test_order_of_different_identities_does_not_matter():
    embeddings, person_ids = persons(30, 30)
    memory, other = memory_with(30), memory_with(30)
    memory.update(embeddings, person_ids)
    order = torch.argsort(person_ids, stable=True)
    other.update(embeddings[order], person_ids[order])
    assert torch.equal(memory.lut, other.lut) and torch.equal(memory.queue, other.queue)


def test_rows_keep_unit_length():
    memory = memory_with()
    memory.update(*persons(100, 5))
    torch.testing.assert_close(memory.lut.norm(dim=1), torch.ones(5))


def test_the_queue_wraps_and_continues_at_its_position():
    memory = memory_with(queue_size=5)
    embeddings = F.normalize(torch.randn(8, 8))
    for part in embeddings.split(3):
        memory.update(part, torch.full((len(part),), -1))
    assert torch.equal(memory.queue, torch.stack([embeddings[i] for i in (5, 6, 7, 3, 4)]))
    assert memory.queue_position == 3


@pytest.mark.parametrize('count', [5, 6, 17])
def test_of_more_unlabelled_persons_than_slots_the_last_remain(count):
    memory, embeddings = memory_with(queue_size=5), F.normalize(torch.randn(count, 8))
    memory.update(embeddings, torch.full((count,), -1))
    kept = {tuple(row.tolist()) for row in memory.queue}
    assert kept == {tuple(row.tolist()) for row in embeddings[-5:]}
    assert memory.queue_position == count % 5


@pytest.mark.parametrize('person_ids', [[], [0, 3, 3], [-1, -1]], ids=['nobody', 'all labelled', 'all unlabelled'])
def test_a_batch_changes_only_its_rows(person_ids):
    memory = memory_with()
    before = copy.deepcopy(memory)
    memory.update(F.normalize(torch.randn(len(person_ids), 8)), torch.tensor(person_ids, dtype=torch.long))
    assert torch.equal(memory.lut, before.lut) == (not any(i >= 0 for i in person_ids))
    assert torch.equal(memory.queue, before.queue) == (-1 not in person_ids)
    assert memory.queue_position == person_ids.count(-1)


def test_a_memory_without_queue_accepts_unlabelled_persons():
    memory = memory_with(queue_size=0)
    memory.update(*persons(20, 5))
    assert memory.rows().shape == (5, 8) and memory.queue_position == 0


def test_memory_resumes_from_its_state_dict():
    memory, resumed = memory_with(), IdentityMemory(5, 7, 8)
    memory.update(*persons(10, 5))
    assert set(memory.state_dict()) == {'lut', 'queue', 'queue_position'}
    resumed.load_state_dict(memory.state_dict())
    for each in (memory, resumed):
        each.update(*persons(10, 5, seed=1))
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in memory.state_dict().items())


def test_a_memory_without_identities_takes_the_size_of_its_checkpoint():
    memory, opened = memory_with(5), IdentityMemory(0, 7, 8)
    opened.load_state_dict(memory.state_dict())
    assert opened.num_identities == 5 and torch.equal(opened.lut, memory.lut)


def test_a_memory_of_another_size_refuses_a_checkpoint():
    with pytest.raises(RuntimeError, match='lut'):
        IdentityMemory(4, 7, 8).load_state_dict(memory_with(5).state_dict())


@pytest.mark.parametrize('strict', [True, False])
@pytest.mark.parametrize('num_identities', [0, 5])
@pytest.mark.parametrize('name, what', [('lut', 'lookup table'), ('queue', 'queue')])
def test_embeddings_of_another_size_are_refused_in_one_line(strict, num_identities, name, what):
    state = memory_with(5, dims=6).state_dict()
    memory = IdentityMemory(num_identities, 7, 8)
    with pytest.raises(
        ValueError,
        match=f'the {what} of the checkpoint holds embeddings of 6 values, those of the model have 8: set embed_dims',
    ) as error:
        memory.load_state_dict({name: state[name]}, strict=strict)
    assert '\n' not in str(error.value)
    assert memory.num_identities == num_identities


def test_resize_reaches_companions_without_identities_only():
    memory, open_one, filled = IdentityMemory(0, 7, 8), IdentityMemory(0, 7, 4), memory_with(5)
    memory.companions.extend([open_one, filled])
    before = filled.lut.clone()
    memory.resize(5)
    assert open_one.lut.shape == (5, 4) and torch.equal(filled.lut, before)
    assert not any('companions' in name for name in memory.state_dict())


def test_resize_keeps_the_buffer_object():
    memory = IdentityMemory(0, 7, 8)
    held = memory.lut
    memory.resize(5)
    assert memory.lut is held and dict(memory.named_buffers())['lut'] is held
    assert held.shape == (5, 8) and memory.num_identities == 5


def test_an_update_neither_changes_nor_keeps_the_embeddings():
    memory = memory_with()
    embeddings, person_ids = persons(20, 5)
    embeddings.requires_grad_()
    before = embeddings.detach().clone()
    memory.update(embeddings, person_ids)
    assert torch.equal(embeddings, before)
    assert not memory.lut.requires_grad and not memory.queue.requires_grad


def test_rows_are_a_snapshot():
    memory = memory_with()
    rows = memory.rows()
    before = rows.clone()
    memory.update(*persons(20, 5))
    assert torch.equal(rows, before) and not torch.equal(memory.rows(), before)


def test_copies_are_independent():
    """An averaged copy of a model must not share the memory of the trained one."""
    memory = memory_with()
    other = copy.deepcopy(memory)
    memory.update(*persons(20, 5))
    assert not torch.equal(memory.lut, other.lut) and not torch.equal(memory.queue, other.queue)


def test_an_unknown_identity_is_refused():
    with pytest.raises(IndexError):
        memory_with(5).update(F.normalize(torch.randn(1, 8)), torch.tensor([5]))


def test_a_fixed_table_stays_while_the_queue_is_updated():
    memory, free, table = memory_with(), memory_with(), F.normalize(torch.randn(5, 8))
    held = memory.lut
    memory.fix(table)
    for step in range(3):
        for each in (memory, free):
            each.update(*persons(10, 5, step))
    assert memory.lut is held and torch.equal(held, table) and not torch.equal(free.lut, table)
    assert torch.equal(memory.queue, free.queue) and torch.equal(memory.queue_position, free.queue_position)


def test_a_fixed_memory_still_gathers_from_other_ranks(monkeypatch):
    memory = memory_with()
    memory.fix(memory.lut.clone())
    others = F.normalize(torch.randn(2, 8)), torch.tensor([3, -1])
    monkeypatch.setattr(
        'mmps.models.memory.gather_rows', lambda *own: [torch.cat(each) for each in zip(own, others, strict=True)]
    )
    memory.update(*persons(0, 5))
    assert memory.queue_position == 1 and torch.equal(memory.queue[0], others[0][1])


def test_a_fixed_table_is_a_copy_and_companions_are_not_fixed():
    memory, companion, table = memory_with(), memory_with(), torch.ones(5, 8)
    memory.companions.append(companion)
    memory.fix(table)
    table.zero_()
    assert memory.lut.eq(1).all() and not companion.fixed


@pytest.mark.parametrize('shape', [(4, 8), (5, 6)])
def test_a_table_of_another_shape_is_refused(shape):
    memory = memory_with()
    with pytest.raises(ValueError, match=rf'table of shape \({shape[0]}, {shape[1]}\): its lookup table has shape \(5, 8\)$'):
        memory.fix(torch.zeros(shape))
    assert not memory.fixed
