"""The scenes that calibrate a quantization."""

from collections.abc import Sequence

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmps.registry import DATASETS


def training_images(cfg: Config) -> list[str]:
    """Returns the paths of the images that a config trains on.

    Raises:
        OSError: A file of the data set is missing.
        ValueError: The config has no ``train_dataloader``.
    """
    if 'train_dataloader' not in cfg:
        raise ValueError(f'{cfg.filename}: expected a config with a train_dataloader, whose images calibrate')
    with DefaultScope.overwrite_default_scope('mmps'):
        dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': []})
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def read_scenes(paths: Sequence[str], count: int) -> list[np.ndarray]:
    """Reads at most ``count`` images, evenly spread over all: uint8 (H, W, 3), BGR.

    Raises:
        OSError: An image cannot be read.
    """
    chosen = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    images = []
    for path in (paths[i] for i in chosen):
        image = mmcv.imread(path)
        if image is None:
            raise OSError(f'{path}: no image')
        images.append(image)
    return images
