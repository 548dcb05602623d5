"""Several processes end with the memory of one process with the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from mmps.models.losses import OIMLoss

# Person ids of each rank, step by step.
CASES = {
    'even split': [([0, -1, 2, 2], [2, 0, -1, -1]), ([-1, 1], [1, 1])],
    'uneven split': [([0, 2, 2, 2, -1, 0, -1], [2, -1]), ([4], [4, 4, -1, 1, 1, 0])],
    'a rank without persons': [([0, -1, 2, 0], []), ([], [0, 2, -1])],
    'no rank with persons': [([], []), ([0, -1], [0])],
    'a rank without labelled ones': [([-1, -1, -1], [3, 3, -1, 0])],
    'more unlabelled than slots': [([-1] * 6, [-1] * 5), ([-1], [-1])],
}


def embeddings_of(case, step):
    """One tensor per rank."""
    counts = [len(ids) for ids in CASES[case][step]]
    generator = torch.Generator().manual_seed(step)
    return F.normalize(torch.randn(sum(counts), 8, generator=generator)).split(counts)


def train(case, step, loss, embeddings, ids):
    """Returns the memory after a step with backward, and the gradient of the summed loss."""
    embeddings = embeddings.clone().requires_grad_()
    value = loss(embeddings, torch.tensor(ids, dtype=torch.long))
    value.backward()
    return {name: buffer.clone() for name, buffer in loss.memory.state_dict().items()}, value.item(), embeddings.grad


def run_rank(rank, store, results):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    found = {}
    for case, steps in CASES.items():
        loss = OIMLoss(num_identities=5, queue_size=7, embed_dims=8)
        found[case] = [train(case, step, loss, embeddings_of(case, step)[rank], ids[rank]) for step, ids in enumerate(steps)]
    torch.save(found, results / f'{rank}.pt')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    mp.spawn(run_rank, (folder / 'store', folder), nprocs=2)
    return [torch.load(folder / f'{rank}.pt') for rank in range(2)]


@pytest.mark.parametrize('case', CASES)
def test_two_ranks_hold_the_memory_of_one_process(ranks, case):
    loss = OIMLoss(num_identities=5, queue_size=7, embed_dims=8)
    for step, ids in enumerate(CASES[case]):
        expected, *_ = train(case, step, loss, torch.cat(embeddings_of(case, step)), [*ids[0], *ids[1]])
        for rank in ranks:
            memory, value, grad = rank[case][step]
            assert all(torch.equal(memory[name], expected[name]) for name in expected), f'step {step}'
            assert torch.isfinite(torch.tensor(value)) and grad.isfinite().all()


@pytest.mark.parametrize('case', CASES)
def test_the_mean_of_the_ranks_losses_is_that_of_one_process(ranks, case):
    loss = OIMLoss(num_identities=5, queue_size=7, embed_dims=8)
    for step, ids in enumerate(CASES[case]):
        _, expected, grad = train(case, step, loss, torch.cat(embeddings_of(case, step)), [*ids[0], *ids[1]])
        (_, *values), (_, *others) = (rank[case][step] for rank in ranks)
        assert (values[0] + others[0]) / 2 == pytest.approx(expected)
        torch.testing.assert_close(torch.cat([values[1], others[1]]) / 2, grad)
