"""Batches of even size hold pairs of images that share an identity."""

import pytest
from mmengine.registry import DATA_SAMPLERS as ROOT_SAMPLERS
from torch.utils.data import DataLoader, Dataset

from mmps.datasets import PairSampler


class Images(Dataset):
    """Images that hold these person_ids."""

    def __init__(self, *person_ids):
        self.person_ids = person_ids

    def __len__(self):
        return len(self.person_ids)

    def get_data_info(self, index):
        return {'instances': [{'person_id': person_id} for person_id in self.person_ids[index]]}

    def __getitem__(self, index):
        return index


IMAGES = Images([0, -1], [0, 1], [1], [2, -1], [2, 0], [-1], [7], [])
LONERS = {5, 6, 7}


def epoch_of(images, epoch=0, seed=0, **kwargs):
    sampler = PairSampler(images, seed=seed, **kwargs)
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    assert len(drawn) == len(sampler)
    return drawn


def pairs_of(drawn):
    return list(zip(drawn[::2], drawn[1::2], strict=True))


@pytest.mark.parametrize('epoch', range(5))
def test_pairs_share_an_identity(epoch):
    for one, other in pairs_of(epoch_of(IMAGES, epoch)):
        if one in LONERS:
            assert one == other
        else:
            assert one != other and set(IMAGES.person_ids[one]) & set(IMAGES.person_ids[other]) - {-1}


def test_batches_of_a_loader_hold_whole_pairs():
    loader = DataLoader(IMAGES, batch_size=4, sampler=PairSampler(IMAGES, seed=0))
    batches = [batch.tolist() for batch in loader]
    assert [pair for batch in batches for pair in pairs_of(batch)] == pairs_of(epoch_of(IMAGES))


def test_an_epoch_has_as_many_images_as_the_data_set_and_epochs_cover_it():
    assert len(epoch_of(IMAGES)) == 8 and len(epoch_of(Images([0], [0], [1]))) == 4
    firsts = [pair[0] for epoch in range(12) for pair in pairs_of(epoch_of(IMAGES, epoch))]
    assert set(firsts) == set(range(8))
    for epoch in range(3):
        assert len({pair[0] for pair in pairs_of(epoch_of(IMAGES, epoch))}) == 4


def test_every_partner_is_drawn():
    partners = {other for epoch in range(60) for one, other in pairs_of(epoch_of(IMAGES, epoch)) if one == 1}
    assert partners == {0, 2, 4}


def test_seed_and_epoch_decide():
    assert epoch_of(IMAGES, 3, seed=1) == epoch_of(IMAGES, 3, seed=1)
    assert len({tuple(epoch_of(IMAGES, epoch)) for epoch in range(4)}) == 4
    assert epoch_of(IMAGES, 3, seed=1) != epoch_of(IMAGES, 3, seed=2)
    assert epoch_of(IMAGES, 0, shuffle=False) == epoch_of(IMAGES, 5, shuffle=False)


def test_two_ranks_share_the_pairs_of_one_process(monkeypatch):
    whole = pairs_of(epoch_of(IMAGES))
    parts = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        parts.append(pairs_of(epoch_of(IMAGES)))
    assert parts == [whole[::2], whole[1::2]]


def test_ranks_get_equally_many_pairs(monkeypatch):
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (2, 3))
    assert len(epoch_of(Images(*[[0]] * 7))) == 4


def test_configs_find_it(mmps_scope):
    assert ROOT_SAMPLERS.get('mmps.PairSampler') is PairSampler


def test_a_data_set_gives_pairs(cuhk_sysu):
    from mmps.datasets import CUHKSYSU

    dataset = CUHKSYSU(str(cuhk_sysu), pipeline=[])
    persons = [
        {each['person_id'] for each in dataset.get_data_info(index)['instances']} - {-1} for index in range(len(dataset))
    ]
    pairs = [pair for epoch in range(4) for pair in pairs_of(epoch_of(dataset, epoch))]
    assert any(one != other for one, other in pairs)
    assert all(persons[one] & persons[other] for one, other in pairs if one != other)
