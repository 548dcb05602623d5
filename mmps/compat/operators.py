"""MMCV's operators, whether or not they were compiled.

MMDetection and MMRazor import ``mmcv.ops``, which needs the compiled module ``mmcv._ext``. The package ``mmcv`` has it;
``mmcv-lite``, the same package without compiled code, has not. What mmps's models call is computed

- on a CPU by PyTorch's own operations, which are faster there for all but tiny inputs (``tools/benchmarks/operators.py``);
- on a GPU by compiled ``mmcv`` where it is installed, else by torchvision where it imports, else by PyTorch too.

``MMPS_OPERATORS=mmcv``, ``torchvision`` or ``torch`` in the environment chooses one for all devices.
"""

import importlib
import os
import re
import sys
import types
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, requires, version

import torch
from torch import Tensor

from . import torch_kernels

MMCV = '2.1.0'
KERNELS = {name: f'mmps.compat.{name}_kernels' for name in ('mmcv', 'torchvision', 'torch')}
on_cpu = elsewhere = torch_kernels
replaced: dict[str, Callable] = {}  # compiled MMCV's own functions


class MissingOperator(ImportError):
    """An operator of MMCV that needs the compiled package."""


def provide_operators() -> None:
    """Makes ``import mmcv.ops`` work, with the operators below.

    Raises:
        ImportError: A package is missing or too old, MMCV is installed twice, or what was asked for is not there. One line.
    """
    global on_cpu, elsewhere
    wanted = os.environ.get('MMPS_OPERATORS')
    if wanted and wanted not in KERNELS:
        raise ImportError(f'MMPS_OPERATORS: expected one of {", ".join(KERNELS)}, got {wanted!r}')
    check_packages()
    compiled = compiled_mmcv()
    if wanted == 'mmcv' and compiled is None:
        raise ImportError(f'MMPS_OPERATORS=mmcv: mmcv-lite has no operators, and mmcv {MMCV} is not installed')
    if wanted == 'torchvision' and not torchvision_works():
        raise ImportError('MMPS_OPERATORS=torchvision: it is not installed, or does not work')
    name = wanted or for_gpus(compiled)
    elsewhere = importlib.import_module(KERNELS[name])
    on_cpu = elsewhere if wanted else torch_kernels
    module, functions = (stand_in(), PROVIDED) if compiled is None else (compiled, MENDED)
    for function in functions:
        if compiled is not None:
            replaced[function.__name__] = getattr(compiled, function.__name__)
        setattr(module, function.__name__, function)


def check_packages() -> None:
    """Raises ImportError, in one line, for a package that is missing or has a version that mmps does not run with."""
    from packaging.requirements import Requirement

    installed = {name: _version(name) for name in ('mmcv', 'mmcv-lite')}
    if None not in installed.values():
        raise ImportError(
            'mmcv and mmcv-lite are both installed, and one has overwritten the other: '
            'pip uninstall -y mmcv mmcv-lite, then install one of them'
        )
    found = installed['mmcv'] or installed['mmcv-lite']
    if found is None:
        raise ImportError(f'mmcv is missing: pip install mmcv-lite=={MMCV} (nothing to compile), or a compiled mmcv {MMCV}')
    if found.split('+')[0] != MMCV:
        raise ImportError(
            f'mmps needs mmcv {MMCV}, and {found} is installed: pip uninstall -y mmcv mmcv-lite, then '
            f'pip install mmcv-lite=={MMCV}'
        )
    for needed in map(Requirement, (requires('mmps') or []) if _version('mmps') else []):
        found = _version(needed.name)
        if needed.name in ('mmengine', 'mmdet', 'mmrazor') and (found is None or found not in needed.specifier):
            raise ImportError(
                f'mmps needs {needed.name}{needed.specifier}, and '
                f'{f"{found} is installed" if found else "it is missing"}: '
                f'pip install "{needed.name}{needed.specifier}"'
            )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def compiled_mmcv() -> types.ModuleType | None:
    """MMCV's compiled module; None where there is none."""
    importlib.import_module('mmcv')  # what goes wrong here has nothing to do with its operators
    try:
        module = importlib.import_module('mmcv._ext')
        return module if hasattr(module, '__file__') else None  # what stands in for it has no file
    except ModuleNotFoundError as error:
        if error.name != 'mmcv._ext':
            raise
        return None
    except ImportError as error:
        raise ImportError(
            f"mmcv's operators were compiled for another torch than {torch.__version__} ({_first_line(error)}): "
            f'pip uninstall -y mmcv, then pip install mmcv-lite=={MMCV}'
        ) from None


def for_gpus(compiled: types.ModuleType | None) -> str:
    """Name of the back end for all devices but the CPU."""
    if not (torch.version.cuda or torch.version.hip):
        return 'mmcv' if compiled else 'torch'
    if compiled and compiled.get_compiling_cuda_version() != 'not available':
        return 'mmcv'
    return 'torchvision' if torchvision_works() else 'torch'


def torchvision_works() -> bool:
    """Whether torchvision's kernels can be had. If it is installed and does not work, a warning says so, in one line."""
    if _version('torchvision') is None:
        return False
    device = 'CUDA' if torch.version.cuda or torch.version.hip else 'CPU'
    try:
        importlib.import_module('torchvision')
        if not torch._C._dispatch_has_kernel_for_dispatch_key('torchvision::nms', device):
            raise RuntimeError(f'it has no kernels for {device}')
    except Exception as error:  # of any type: an installation that is broken may fail in any way
        warnings.warn(
            f'torchvision {_version("torchvision")} does not work with torch {torch.__version__} '
            f'({_first_line(error)}): PyTorch computes its operators',
            stacklevel=2,
        )
        return False
    return True


def _first_line(error: Exception) -> str:
    return re.sub(r'\s+', ' ', (str(error).strip() or type(error).__name__).splitlines()[0])


def stand_in() -> types.ModuleType:
    """A module in the place of ``mmcv._ext``. An operator that is not provided raises :class:`MissingOperator` when called."""

    def missing(name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)

        def operator(*args, **kwargs):
            raise MissingOperator(
                f"mmcv's operator {name} is compiled, and mmcv-lite has no compiled code: replace it by mmcv {MMCV}, from "
                f"OpenMMLab's wheels (mim install mmcv=={MMCV}) or compiled here "
                f'(MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv=={MMCV})'
            )

        return operator

    module = types.ModuleType('mmcv._ext', 'Stands in for compiled operators (mmps.compat.operators).')
    module.__spec__ = ModuleSpec('mmcv._ext', None)
    module.__getattr__ = missing
    module.get_compiler_version = module.get_compiling_cuda_version = lambda: 'not compiled'
    sys.modules['mmcv._ext'] = module
    sys.modules['mmcv']._ext = module
    return module


def _call(name: str, values: Tensor, *args):
    """Calls a kernel of the back end for the device of ``values``, its first argument. Autocast is off inside."""
    kernels = on_cpu if values.device.type == 'cpu' else elsewhere
    with torch.autocast(values.device.type, enabled=False):
        return getattr(kernels, name)(values, *args)


# What mmcv.ops calls, with its names for the arguments. Most outputs are written into tensors that it has made.


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    return _call('nms', boxes, scores, iou_threshold, offset)


def softnms(
    boxes: Tensor, scores: Tensor, dets: Tensor, iou_threshold: float, sigma: float, min_score: float, method: int, offset: int
) -> Tensor:
    kept, places = torch_kernels.soft_nms(
        boxes, scores, iou_threshold, sigma, min_score, ('naive', 'linear', 'gaussian')[method], offset
    )
    dets[: len(kept)] = kept
    return places


def roi_align_forward(
    feats: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    if pool_mode != 1:
        _maximum('roi_align_forward')(
            feats.contiguous(),
            rois,
            output,
            argmax_y,
            argmax_x,
            aligned_height,
            aligned_width,
            spatial_scale,
            sampling_ratio,
            pool_mode,
            aligned,
        )
        return
    output.copy_(_call('roi_align', feats, rois, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    gradient: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    of_feats: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    if pool_mode != 1:
        _maximum('roi_align_backward')(
            gradient,
            rois,
            argmax_y,
            argmax_x,
            of_feats,
            aligned_height,
            aligned_width,
            spatial_scale,
            sampling_ratio,
            pool_mode,
            aligned,
        )
        return
    of_feats.copy_(_call('roi_align_backward', gradient, rois, tuple(of_feats.shape), spatial_scale, sampling_ratio, aligned))


def _maximum(name: str) -> Callable:
    if name not in replaced:
        raise MissingOperator(f"RoIAlign with pool_mode='max' needs compiled mmcv {MMCV}: with mmcv-lite it pools averages")
    return replaced[name]


def deform_conv_forward(feats: Tensor, weight: Tensor, offset: Tensor, output: Tensor, *buffers: Tensor, **geometry) -> None:
    output.copy_(_call('deform_conv', feats, offset, None, weight, None, *_geometry(**geometry)))


def deform_conv_backward_input(
    feats: Tensor,
    offset: Tensor,
    gradient: Tensor,
    of_feats: Tensor,
    of_offset: Tensor,
    weight: Tensor,
    *buffers: Tensor,
    **geometry,
) -> None:
    found = _call('deform_conv_backward', feats, offset, None, weight, gradient, *_geometry(**geometry))
    of_feats.copy_(found[0])
    of_offset.copy_(found[1])


def deform_conv_backward_parameters(
    feats: Tensor, offset: Tensor, gradient: Tensor, of_weight: Tensor, *buffers: Tensor, **geometry
) -> None:
    of_weight.copy_(_call('deform_conv_backward', feats, offset, None, of_weight, gradient, *_geometry(**geometry), True)[3])


def modulated_deform_conv_forward(
    feats: Tensor,
    weight: Tensor,
    bias: Tensor,
    buffer: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    other_buffer: Tensor,
    with_bias: bool,
    **geometry,
) -> None:
    output.copy_(_call('deform_conv', feats, offset, mask, weight, bias if with_bias else None, *_geometry(**geometry)))


def modulated_deform_conv_backward(
    feats: Tensor,
    weight: Tensor,
    bias: Tensor,
    buffer: Tensor,
    offset: Tensor,
    mask: Tensor,
    other_buffer: Tensor,
    of_feats: Tensor,
    of_weight: Tensor,
    of_bias: Tensor,
    of_offset: Tensor,
    of_mask: Tensor,
    gradient: Tensor,
    with_bias: bool,
    **geometry,
) -> None:
    found = _call('deform_conv_backward', feats, offset, mask, weight, gradient, *_geometry(**geometry))
    for output, value in zip((of_feats, of_offset, of_mask, of_weight), found, strict=True):
        output.copy_(value)
    if with_bias:
        of_bias.copy_(gradient.sum((0, 2, 3)))


def _geometry(**geometry) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
    """Stride, padding and dilation, each (y, x), and groups, from either of MMCV's two ways to name them."""
    if 'stride_h' in geometry:
        pairs = ('stride_h', 'stride_w'), ('pad_h', 'pad_w'), ('dilation_h', 'dilation_w')
    else:
        pairs = ('dH', 'dW'), ('padH', 'padW'), ('dilationH', 'dilationW')
    return *((geometry[y], geometry[x]) for y, x in pairs), geometry['group']


def sigmoid_focal_loss_forward(
    logits: Tensor, targets: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    _without_class_weights(weight)
    output.copy_(torch_kernels.sigmoid_focal_loss(logits, targets, gamma, alpha))


def sigmoid_focal_loss_backward(
    logits: Tensor, targets: Tensor, weight: Tensor, of_logits: Tensor, gamma: float, alpha: float
) -> None:
    _without_class_weights(weight)
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        loss = torch_kernels.sigmoid_focal_loss(leaf, targets, gamma, alpha)
    of_logits.copy_(torch.autograd.grad(loss.sum(), leaf)[0])


def _without_class_weights(weight: Tensor) -> None:
    if weight.numel():
        raise MissingOperator('sigmoid_focal_loss: expected no weights of classes, which mmps does not have')


# Of compiled MMCV, what reads memory wrongly is replaced too.
MENDED = (
    nms,
    roi_align_forward,
    roi_align_backward,
    deform_conv_forward,
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    modulated_deform_conv_forward,
    modulated_deform_conv_backward,
)
PROVIDED = (*MENDED, softnms, sigmoid_focal_loss_forward, sigmoid_focal_loss_backward)
