"""What a camera does to a scene: where its ground lies, and how it renders light."""

from dataclasses import dataclass

import cv2
import numpy as np

from .seeds import CAMERA, array_stream, stream

NEAREST, FARTHEST = 0.65, 0.25  # person heights, in scene heights


@dataclass(frozen=True)
class Camera:
    """A fixed camera. Vertical places are in scene heights from the top."""

    index: int
    horizon: float
    slope: float  # a person of height p stands at horizon + slope * p
    gain: tuple  # of blue, green and red
    gamma: float
    contrast: float
    saturation: float
    blur: float  # standard deviation in pixels of a 480 pixel high scene
    noise: float  # standard deviation in grey levels
    quality: int  # JPEG
    light: float  # -1 from the left to 1 from the right

    def foot(self, height):
        """Where a person of some height (scene heights) stands."""
        return self.horizon + self.slope * height


def make_camera(seed, index):
    """The camera of an index."""
    rng = stream(seed, CAMERA, index)
    horizon = rng.uniform(0.12, 0.36)
    near = rng.uniform(0.98, 1.08)
    # Casts alternate between warm and cold, so that neighbouring cameras differ most.
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


def noise_tile(seed, camera, height, width):
    """Sensor noise to be laid over scenes at random offsets: drawing it anew each time would cost more than the people.

    Returns:
        np.ndarray: float32 (height + 64, width + 64, 3), in grey levels.
    """
    rng = array_stream(seed, CAMERA, camera.index)
    grain = rng.standard_normal((height + 64, width + 64, 3), dtype=np.float32)
    # Grain spans more than a pixel, as it does after demosaicing.
    grain = cv2.GaussianBlur(grain, (0, 0), 0.7)
    return grain * (camera.noise / float(grain.std()))


def expose(image, camera, rng, tile):
    """A scene as the camera records it.

    Args:
        image (np.ndarray): uint8 (H, W, 3), BGR.
        camera (Camera): The camera.
        rng (random.Random): Varies exposure and white balance from scene to scene.
        tile (np.ndarray): float32 (H + 64, W + 64, 3), from `noise_tile`.

    Returns:
        np.ndarray: uint8 (H, W, 3), BGR.
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
    y, x = rng.randrange(64), rng.randrange(64)
    return cv2.add(image, tile[y : y + height, x : x + width], dtype=cv2.CV_8U)
