"""A lookup table that is spread over ranks gives the loss, the gradients and the checkpoint of a whole one."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from mmengine.runner.checkpoint import _load_checkpoint_to_model as load_into

from mmps.distillation.recorders import AttributeRecorder
from mmps.models.losses import OIMLoss
from mmps.models.sharded_memory import ShardedMemory, whole_tables
from mmps.registry import MODELS

IDENTITIES, DIMS, STEPS = 11, 8, 4
CASES = [dict(), dict(gamma=2.0, queue_scale=15.0, normalize=False, queue_dims=4)]


def batch_of(world, rank, step):
    """Other numbers of persons on each rank; at step 1 the first rank has none, at step 2 nobody is labelled."""
    generator = torch.Generator().manual_seed(100 * step + rank)
    count = 0 if (step, rank) == (1, 0) else 3 + 2 * rank + step
    ids = torch.randint(-1, IDENTITIES, (count,), generator=generator)
    return F.normalize(torch.randn(count, DIMS, generator=generator)), ids if step != 2 else torch.full_like(ids, -1)


def train(world, rank, loss):
    """Returns the loss and the gradient of each step."""
    found = []
    for step in range(STEPS):
        embeddings, ids = batch_of(world, rank, step)
        value = loss(embeddings.requires_grad_(), ids)
        value.backward()
        found.append((value.detach(), embeddings.grad))
    return found


def run_rank(rank, world, store, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=world)
    found = []
    for case in CASES:
        losses = [OIMLoss(0, 7, DIMS, rows_at_once=3, sharded=sharded, **case) for sharded in (False, True)]
        for loss in losses:
            loss.memory.resize(IDENTITIES)
        whole, sharded = (train(world, rank, loss) for loss in losses)
        rows = len(losses[1].memory.lut)
        with whole_tables(losses[1]), whole_tables(losses[1]):
            saved = losses[1].state_dict()
            saved = {name: value.clone() for name, value in saved.items()}
        assert len(losses[1].memory.lut) == rows
        found.append((whole, sharded, losses[0].state_dict(), saved, rows))
    torch.save(found, folder / f'{rank}.pt')
    dist.barrier()
    again = OIMLoss(0, 7, DIMS, rows_at_once=3, sharded=True)  # a start from the main rank's checkpoint
    with pytest.raises(RuntimeError, match='Missing key'):
        again.load_state_dict({})
    load_into(again, dict(state_dict=torch.load(folder / '0.pt')[0][3]))
    assert torch.equal(again.memory.lut, torch.load(folder / '0.pt')[0][3]['memory.lut'][slice(*again.memory.span)])
    with pytest.raises(ValueError, match='cannot be spread over'):
        again.memory.resize(world - 1)
    dist.destroy_process_group()


@pytest.fixture(scope='module', params=[2, 4])
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    mp.spawn(run_rank, (request.param, folder / 'store', folder), nprocs=request.param)
    return [torch.load(folder / f'{rank}.pt') for rank in range(request.param)]


@pytest.mark.parametrize('case', range(len(CASES)))
def test_losses_and_gradients_are_those_of_a_whole_table(ranks, case):
    for whole, sharded, *_ in (rank[case] for rank in ranks):
        torch.testing.assert_close(sharded, whole, rtol=1e-5, atol=1e-5)
        assert all(value > 0 for step, (value, grad) in enumerate(whole) if len(grad) and step != 2)


@pytest.mark.parametrize('case', range(len(CASES)))
def test_each_rank_holds_its_share_and_the_checkpoint_the_whole(ranks, case):
    *_, expected, saved, _ = ranks[0][case]
    torch.testing.assert_close(saved, expected, rtol=0, atol=1e-6)
    rows = [rank[case][-1] for rank in ranks]
    assert sum(rows) == IDENTITIES and max(rows) - min(rows) <= 1


def test_one_process_holds_the_whole_table():
    losses = [OIMLoss(0, 7, DIMS, rows_at_once=3, sharded=sharded) for sharded in (False, True)]
    for loss in losses:
        loss.memory.resize(IDENTITIES)
    torch.testing.assert_close(*(train(1, 1, loss) for loss in losses), rtol=0, atol=0)
    torch.testing.assert_close(*(loss.state_dict() for loss in losses), rtol=0, atol=0)


def test_what_needs_the_whole_table_is_refused():
    with pytest.raises(ValueError, match='needs rows_at_once'):
        OIMLoss(sharded=True)
    model = torch.nn.Module()
    model.memory = ShardedMemory(embed_dims=DIMS)
    with pytest.raises(ValueError, match=r'memory\.lut is spread over the ranks'):
        AttributeRecorder('memory.lut').prepare_from_model(model)
    with pytest.raises(ValueError, match='cannot be fixed'):
        model.memory.fix(torch.zeros(3, DIMS))
    head = dict(type='AlignPSHead', in_channels=DIMS, triplet_loss=dict(type='TripletLoss'))
    with pytest.raises(ValueError, match='triplet_loss reads the whole'):
        MODELS.build(dict(head, reid_loss=dict(type='OIMLoss', embed_dims=DIMS, rows_at_once=8, sharded=True)))


def test_a_checkpoint_of_other_identities_is_refused_and_the_table_moves_with_the_model():
    loss, other = (OIMLoss(count, 7, DIMS, rows_at_once=3, sharded=True) for count in (5, 6))
    with pytest.raises(RuntimeError, match=r'memory\.lut has 6 rows, the model has 5'):
        loss.load_state_dict(other.state_dict())
    assert loss.to('meta').memory.lut.is_meta and 'memory.lut' not in dict(loss.named_buffers())
