"""Random streams that depend on what is drawn, never on who draws it."""

import random

import numpy as np

# One number a purpose: two streams with the same index must not share their randomness.
SPLIT, SCENE, IDENTITY, PASSER, CAMERA, RENDER, QUERY = range(7)


def stream(seed, purpose, *key):
    """A generator of scalars for one purpose.

    The standard library's generator, because a scene draws hundreds of single numbers and NumPy takes ten times as long
    for each.

    Args:
        seed (int): The data set's seed, not negative.
        purpose (int): One of the constants above.
        *key (int): Which scene, identity or camera, not negative.

    Returns:
        random.Random: The same for the same arguments in every process.
    """
    words = np.random.SeedSequence([seed, purpose, *key]).generate_state(2, np.uint64)
    return random.Random(int(words[0]) << 64 | int(words[1]))


def array_stream(seed, purpose, *key):
    """As `stream`, but a numpy Generator, for whole arrays."""
    return np.random.default_rng(np.random.SeedSequence([seed, purpose, *key, 1]))


def weighted(rng, table):
    """One key of a {key: weight} table."""
    mark = rng.random() * sum(table.values())
    for key, weight in table.items():
        mark -= weight
        if mark < 0:
            return key
    return key
