"""Random streams. What is drawn depends only on the seed, a purpose and a key, not on the process or the order."""

import random
from collections.abc import Mapping

import numpy as np

# One number per purpose, so that two streams with the same index have different randomness.
SPLIT, SCENE, IDENTITY, UNLABELLED, CAMERA, RENDER, QUERY = range(7)


def stream(seed: int, purpose: int, *key: int) -> random.Random:
    """Returns a generator of single numbers. The same arguments give the same numbers in every process.

    A scene draws hundreds of single numbers, for which NumPy takes ten times as long as the standard library.

    Args:
        seed: The data set's seed, not negative.
        purpose: One of the constants above.
        *key: Index of the scene, identity or camera, not negative.
    """
    words = np.random.SeedSequence([seed, purpose, *key]).generate_state(2, np.uint64)
    return random.Random(int(words[0]) << 64 | int(words[1]))


def array_stream(seed: int, purpose: int, *key: int) -> np.random.Generator:
    """Returns a NumPy generator for whole arrays, with the arguments of `stream`."""
    return np.random.default_rng(np.random.SeedSequence([seed, purpose, *key, 1]))


def weighted_choice(rng: random.Random, weights: Mapping[str, float]) -> str:
    """Returns one key of {key: weight}, with a probability in proportion to its weight."""
    rest = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        rest -= weight
        if rest < 0:
            return key
    return key  # rounding can leave a tiny rest
