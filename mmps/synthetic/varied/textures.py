"""Grey textures that repeat without a seam: 128 is neutral, so a texture is multiplied into a picture."""

from functools import cache

import cv2
import numpy as np

SIDE = 256  # pixels of a tile
KINDS = ('clouds', 'grain', 'slabs', 'bricks', 'planks', 'leaves', 'weave', 'grass')


@cache
def tile(kind: str, variant: int) -> np.ndarray:
    """Draws a tile. The same arguments give the same pixels.

    Args:
        kind: One of `KINDS`.
        variant: Not negative; another number gives another drawing of the kind.

    Returns:
        uint8 (256, 256).
    """
    rng = np.random.default_rng([KINDS.index(kind), variant])
    field = _DRAW[kind](rng)
    return np.clip(128 + 30 * (field - field.mean()) / field.std(), 0, 255).astype(np.uint8)


def coloured_noise(rng: np.random.Generator, slope: float) -> np.ndarray:
    """Returns noise (256, 256) whose amplitude falls with frequency ** -slope: 0 is white, 2 very smooth."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE)))
    noise = np.fft.irfft2(spectrum * frequency**-slope)
    return noise / noise.std()


def _clouds(rng: np.random.Generator) -> np.ndarray:
    return coloured_noise(rng, 1.6)


def _grain(rng: np.random.Generator) -> np.ndarray:
    return coloured_noise(rng, 0.5) + 0.5 * coloured_noise(rng, 1.5)


def _courses(rng: np.random.Generator, tall: int, wide: int, offset: float, joint: float) -> np.ndarray:
    """Returns rows of rectangles, each with a tone of its own, and the joints between them."""
    y, x = np.mgrid[:SIDE, :SIDE]
    row = y // tall
    column = ((x + row * offset * wide) // wide).astype(int) % (SIDE // wide)
    tones = rng.standard_normal((SIDE // tall, SIDE // wide))
    field = tones[row, column] + 0.6 * _grain(rng)
    is_joint = (y % tall < 2) | ((x + row * offset * wide) % wide < 2)
    return np.where(is_joint, field.mean() + joint, field)


def _slabs(rng: np.random.Generator) -> np.ndarray:
    return _courses(rng, 32, 32, rng.choice((0.0, 0.5)), rng.choice((-3.0, 2.0)))


def _bricks(rng: np.random.Generator) -> np.ndarray:
    return _courses(rng, 16, 32, 0.5, rng.choice((-2.5, 2.5)))


def _planks(rng: np.random.Generator) -> np.ndarray:
    return _courses(rng, 16, 128, 0.37, -2.5) + 0.5 * cv2.GaussianBlur(_grain(rng), (0, 0), sigmaX=12, sigmaY=0.5)


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Discs of all sizes that cover each other ('dead leaves'), which have the statistics of photographs."""
    field = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(500):
        x, y = rng.integers(0, SIDE, 2).tolist()
        radius = int(min(60, 3 / rng.random() ** 0.7))
        tone = float(rng.standard_normal())
        for shift_x in (-SIDE, 0, SIDE):
            for shift_y in (-SIDE, 0, SIDE):
                cv2.circle(field, (x + shift_x, y + shift_y), radius, tone, -1)
    return field + 0.3 * _grain(rng)


def _weave(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    pitch = rng.choice((2, 4))
    return 0.6 * (((x // pitch) + (y // pitch)) % 2) + 0.8 * _clouds(rng) + 0.4 * coloured_noise(rng, 0.3)


def _grass(rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)), (0, 0), sigmaX=0.6, sigmaY=2.5) * 3 + 0.6 * _clouds(rng)


_DRAW = {
    'clouds': _clouds,
    'grain': _grain,
    'slabs': _slabs,
    'bricks': _bricks,
    'planks': _planks,
    'leaves': _leaves,
    'weave': _weave,
    'grass': _grass,
}
