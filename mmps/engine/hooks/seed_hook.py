import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS
from mmengine.runner import IterBasedTrainLoop, Runner

from mmps.registry import HOOKS

MODEL, DATA = range(2)


def seed_all(*entropy: int) -> None:
    """Seeds the generators of Python, NumPy and torch (all devices) from these non-negative numbers."""
    seeds = np.random.SeedSequence(entropy).generate_state(3).tolist()
    seeders: tuple[Callable[[int], object], ...] = (random.seed, np.random.seed, torch.manual_seed)
    for seeder, seed in zip(seeders, seeds, strict=True):
        seeder(seed)


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seeds a data worker differently in each epoch and rank. Use it as ``worker_init_fn`` of a loader.

    MMEngine's function gives worker w the same seed in every epoch. Then an image at the same place is flipped always or
    never. Before this call, torch has seeded the worker with a number of the epoch's iterator plus ``worker_id``.
    """
    seed_all(torch.initial_seed(), get_rank())


@HOOKS.register_module()
class SeedHook(Hook):
    """Makes random numbers a function of seed, rank and iteration, so that a resumed training equals an uninterrupted one.

    It seeds the model before each iteration and the loader before each epoch. Data workers get their seeds from the loader.
    So they must end with the epoch (``persistent_workers=False``), and MMEngine must not seed them
    (``worker_init_fn=dict(type='seed_worker')``). A loop that counts iterations resumes within its epoch: there each batch
    gets a seed of its own, so the batches that MMEngine loads and skips draw the same numbers as before.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):  # it has one epoch, and MMEngine fetches all batches from the first on
            loop.dataloader_iterator = seeded(loop.dataloader_iterator, runner)
        else:
            seed_all(runner.seed, runner.rank, runner.iter, DATA)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        seed_all(runner.seed, runner.rank, runner.iter, MODEL)


def seeded(batches: Iterator, runner: Runner) -> Iterator:
    """Yields the batches, each loaded with a seed from its number."""
    number = 0
    while True:
        seed_all(runner.seed, runner.rank, number, DATA)
        yield next(batches)
        number += 1
