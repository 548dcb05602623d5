"""What a camera does to a scene: where the ground is in its picture, and how it renders light."""

import random
from dataclasses import dataclass

import cv2
import numpy as np

from .seeds import CAMERA, array_stream, stream

NEAREST, FARTHEST = 0.65, 0.25  # person heights, in scene heights
_NOISE_MARGIN = 64  # pixels by which the noise tile exceeds the scene: room for random offsets


@dataclass(frozen=True)
class Camera:
    """A fixed camera. Vertical positions are in scene heights from the top."""

    index: int
    horizon: float
    slope: float  # a person of height p stands at horizon + slope * p
    gain: tuple[float, float, float]  # of blue, green and red
    gamma: float
    contrast: float
    saturation: float
    blur: float  # standard deviation in pixels of a scene that is 480 pixels high
    noise: float  # standard deviation in grey levels
    quality: int  # JPEG
    light: float  # direction: -1 from the left to 1 from the right

    far = FARTHEST
    near = NEAREST
    shortest = FARTHEST  # height of the smallest person, whatever the stature
    sociable = 0.0  # share of the people who stand beside somebody
    tries = 24  # places that are tried for a person

    def foot(self, height: float) -> float:
        """Returns where a person of this height (in scene heights) touches the ground."""
        return self.horizon + self.slope * height

    def random_depth(self, rng: random.Random) -> float:
        """Returns the height of an average person at a random place. Near people are rarer: they stand on less ground."""
        return FARTHEST + (NEAREST - FARTHEST) * rng.random() ** 1.35


def make_camera(seed: int, index: int) -> Camera:
    """Returns the camera with this index."""
    rng = stream(seed, CAMERA, index)
    horizon = rng.uniform(0.12, 0.36)
    near = rng.uniform(0.98, 1.08)
    # Colour casts alternate between warm and cold, so that cameras with neighbouring indices differ most.
    warm = (1 if index % 2 else -1) * rng.uniform(0.02, 0.13)
    tint = rng.uniform(-0.06, 0.06)
    return Camera(
        index=index,
        horizon=horizon,
        slope=(near - horizon) / NEAREST,
        gain=(1 - warm, 1 + tint, 1 + warm),
        gamma=rng.uniform(0.75, 1.4),
        contrast=rng.uniform(0.78, 1.12),
        saturation=rng.uniform(0.55, 1.15),
        blur=rng.uniform(0.3, 1.3),
        noise=rng.uniform(1.5, 6.5),
        quality=rng.randrange(62, 93),
        light=rng.choice((-1, 1)) * rng.uniform(0.4, 1.0),
    )


def noise_tile(seed: int, camera: Camera, height: int, width: int) -> np.ndarray:
    """Draws sensor noise once. `expose` adds it at random offsets: new noise for each scene would cost more than the people.

    Returns:
        float32 (height + 64, width + 64, 3), in grey levels.
    """
    rng = array_stream(seed, CAMERA, camera.index)
    shape = height + _NOISE_MARGIN, width + _NOISE_MARGIN, 3
    # Real grain is wider than a pixel, because demosaicing spreads it.
    grain = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), 0.7)
    return grain * (camera.noise / float(grain.std()))


def expose(image: np.ndarray, camera: Camera, rng: random.Random, tile: np.ndarray) -> np.ndarray:
    """Applies the camera's saturation, exposure, white balance, gamma, contrast, blur and noise.

    Args:
        image: uint8 (H, W, 3), BGR.
        camera: The camera.
        rng: Varies exposure and white balance from scene to scene.
        tile: float32 (H + 64, W + 64, 3), from `noise_tile`.

    Returns:
        uint8 (H, W, 3), BGR.
    """
    height, width = image.shape[:2]
    if camera.saturation != 1:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        image = cv2.addWeighted(image, camera.saturation, grey, 1 - camera.saturation, 0)
    exposure, gamma = rng.uniform(0.8, 1.2), camera.gamma * rng.uniform(0.9, 1.1)
    levels = np.arange(256) / 255
    table = np.empty((1, 256, 3), np.uint8)
    for channel, gain in enumerate(camera.gain):
        tone = np.clip(levels * exposure * gain * rng.uniform(0.97, 1.03), 0, 1) ** gamma
        table[0, :, channel] = np.clip(((tone - 0.5) * camera.contrast + 0.5) * 255, 0, 255)
    image = cv2.LUT(image, table)
    sigma = camera.blur * height / 480
    if sigma > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    y, x = rng.randrange(_NOISE_MARGIN), rng.randrange(_NOISE_MARGIN)
    return cv2.add(image, tile[y : y + height, x : x + width], dtype=cv2.CV_8U)
