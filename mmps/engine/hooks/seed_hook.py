import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS
from mmengine.runner import IterBasedTrainLoop, Runner

from mmps.registry import HOOKS

MODEL, DATA = range(2)


def seed_all(*entropy: int) -> None:
    """Seeds Python's, NumPy's and torch's generators, of all devices, with a function of these numbers, none negative."""
    seeds = np.random.SeedSequence(entropy).generate_state(3).tolist()
    for seed, value in zip((random.seed, np.random.seed, torch.manual_seed), seeds, strict=True):
        seed(value)


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """A data worker's draws differ from epoch to epoch and between ranks: what a loader's ``worker_init_fn`` is to be.

    MMEngine's own seeds worker w alike in every epoch, so that an image in the same place is always flipped, or never. torch
    has seeded it with a number that the epoch's iterator drew, plus ``worker_id``.
    """
    seed_all(torch.initial_seed(), get_rank())


@HOOKS.register_module()
class SeedHook(Hook):
    """What is drawn at random is a function of seed, rank and iteration, so a resumed training draws what a whole one does.

    Before an iteration it seeds what the model draws. Before an epoch it seeds what the loader draws: its data workers are
    seeded from there, so they must not outlive the epoch (``persistent_workers=False``) nor be seeded by MMEngine
    (``worker_init_fn=dict(type='seed_worker')``). A loop that counts iterations is resumed amid an epoch: there each batch is
    seeded, and those that MMEngine loads only to skip them draw what they drew.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):  # one epoch, in which MMEngine fetches every batch from the first one on
            loop.dataloader_iterator = seeded(loop.dataloader_iterator, runner)
        else:
            seed_all(runner.seed, runner.rank, runner.iter, DATA)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        seed_all(runner.seed, runner.rank, runner.iter, MODEL)


def seeded(batches: Iterator, runner: Runner) -> Iterator:
    """The batches, each drawn with the seed of its number."""
    number = 0
    while True:
        seed_all(runner.seed, runner.rank, number, DATA)
        yield next(batches)
        number += 1
