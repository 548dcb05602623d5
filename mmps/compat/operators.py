"""Provides MMCV's operators with and without compiled MMCV.

MMDetection and MMRazor import ``mmcv.ops``, which needs the compiled module ``mmcv._ext``. The package ``mmcv`` has it.
``mmcv-lite``, the same package without compiled code, does not. The operators that mmps's models call are computed

- on a CPU by PyTorch's own operations, which are faster there for all but tiny inputs (``tools/benchmarks/operators.py``);
- on a GPU by compiled ``mmcv`` if it is installed, else by torchvision if it works, else by PyTorch.

The environment variable ``MMPS_OPERATORS`` = ``mmcv``, ``torchvision`` or ``torch`` chooses one back end for all devices.
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
from typing import Any, NoReturn

import torch
from torch import Tensor

from . import torch_kernels

MMCV = '2.1.0'
KERNELS = {name: f'mmps.compat.{name}_kernels' for name in ('mmcv', 'torchvision', 'torch')}
on_cpu = elsewhere = torch_kernels
replaced: dict[str, Callable] = {}  # compiled MMCV's original functions


class MissingOperator(ImportError):
    """Raised by an operator that only compiled MMCV has."""


def provide_operators() -> None:
    """Makes ``import mmcv.ops`` work, with the operators below.

    Raises:
        ImportError: A package is missing or has a wrong version, MMCV is installed twice, or the back end that
            ``MMPS_OPERATORS`` asks for is not available. One line.
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
    """Raises ImportError, in one line, if a package is missing or has a version that mmps does not support."""
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
    """Returns MMCV's compiled module, or None if MMCV is not compiled."""
    importlib.import_module('mmcv')  # an error here is not about the operators
    try:
        module = importlib.import_module('mmcv._ext')
        return module if hasattr(module, '__file__') else None  # the stand-in below has no file
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
    """Returns the name of the back end for all devices except the CPU."""
    if not (torch.version.cuda or torch.version.hip):
        return 'mmcv' if compiled else 'torch'
    if compiled and compiled.get_compiling_cuda_version() != 'not available':
        return 'mmcv'
    return 'torchvision' if torchvision_works() else 'torch'


def torchvision_works() -> bool:
    """Returns whether torchvision's kernels can be used. Warns, in one line, if it is installed but does not work."""
    if _version('torchvision') is None:
        return False
    device = 'CUDA' if torch.version.cuda or torch.version.hip else 'CPU'
    try:
        importlib.import_module('torchvision')
        if not torch._C._dispatch_has_kernel_for_dispatch_key('torchvision::nms', device):
            raise RuntimeError(f'it has no kernels for {device}')
    except Exception as error:  # a broken installation may raise any type
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
    """Installs a module in place of ``mmcv._ext``. Operators that mmps lacks raise :class:`MissingOperator` when called."""

    def missing(name: str) -> Callable[..., NoReturn]:
        if name.startswith('__'):
            raise AttributeError(name)

        def operator(*args: object, **kwargs: object) -> NoReturn:
            raise MissingOperator(
                f"mmcv's operator {name} is compiled, and mmcv-lite has no compiled code: replace it by mmcv {MMCV}, from "
                f"OpenMMLab's wheels (mim install mmcv=={MMCV}) or compiled here "
                f'(MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv=={MMCV})'
            )

        return operator

    module = types.ModuleType('mmcv._ext', 'Stands in for compiled operators (mmps.compat.operators).')
    module.__spec__ = ModuleSpec('mmcv._ext', None)
    vars(module).update(
        __getattr__=missing, get_compiler_version=lambda: 'not compiled', get_compiling_cuda_version=lambda: 'not compiled'
    )
    sys.modules['mmcv._ext'] = module
    vars(sys.modules['mmcv'])['_ext'] = module
    return module


def _call(name: str, values: Tensor, *args: Any) -> Any:
    """Calls a kernel of the back end for the device of ``values``, its first argument, with autocast off."""
    kernels = on_cpu if values.device.type == 'cpu' else elsewhere
    with torch.autocast(values.device.type, enabled=False):
        return getattr(kernels, name)(values, *args)


# The functions that mmcv.ops calls. The scalar arguments keep its names. Most outputs are written into given tensors.


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
        _compiled_max_pooling('roi_align_forward')(
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
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_feats: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    if pool_mode != 1:
        _compiled_max_pooling('roi_align_backward')(
            grad_output,
            rois,
            argmax_y,
            argmax_x,
            grad_feats,
            aligned_height,
            aligned_width,
            spatial_scale,
            sampling_ratio,
            pool_mode,
            aligned,
        )
        return
    grad_feats.copy_(
        _call('roi_align_backward', grad_output, rois, tuple(grad_feats.shape), spatial_scale, sampling_ratio, aligned)
    )


def _compiled_max_pooling(name: str) -> Callable:
    if name not in replaced:
        raise MissingOperator(
            f"RoIAlign with pool_mode='max' needs compiled mmcv {MMCV}: with mmcv-lite only average pooling works"
        )
    return replaced[name]


def deform_conv_forward(
    feats: Tensor, weight: Tensor, offset: Tensor, output: Tensor, *buffers: Tensor, **geometry: int
) -> None:
    output.copy_(_call('deform_conv', feats, offset, None, weight, None, *_geometry(**geometry)))


def deform_conv_backward_input(
    feats: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_feats: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    *buffers: Tensor,
    **geometry: int,
) -> None:
    found = _call('deform_conv_backward', feats, offset, None, weight, grad_output, *_geometry(**geometry))
    grad_feats.copy_(found[0])
    grad_offset.copy_(found[1])


def deform_conv_backward_parameters(
    feats: Tensor, offset: Tensor, grad_output: Tensor, grad_weight: Tensor, *buffers: Tensor, **geometry: int
) -> None:
    grad_weight.copy_(
        _call('deform_conv_backward', feats, offset, None, grad_weight, grad_output, *_geometry(**geometry), True)[3]
    )


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
    **geometry: int,
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
    grad_feats: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **geometry: int,
) -> None:
    found = _call('deform_conv_backward', feats, offset, mask, weight, grad_output, *_geometry(**geometry))
    for output, value in zip((grad_feats, grad_offset, grad_mask, grad_weight), found, strict=True):
        output.copy_(value)
    if with_bias:
        grad_bias.copy_(grad_output.sum((0, 2, 3)))


def _geometry(**geometry: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
    """Returns stride, padding and dilation, each (y, x), and groups. MMCV has two ways to name them."""
    if 'stride_h' in geometry:
        pairs = ('stride_h', 'stride_w'), ('pad_h', 'pad_w'), ('dilation_h', 'dilation_w')
    else:
        pairs = ('dH', 'dW'), ('padH', 'padW'), ('dilationH', 'dilationW')
    stride, padding, dilation = ((geometry[y], geometry[x]) for y, x in pairs)
    return stride, padding, dilation, geometry['group']


def sigmoid_focal_loss_forward(
    logits: Tensor, targets: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    _without_class_weights(weight)
    output.copy_(torch_kernels.sigmoid_focal_loss(logits, targets, gamma, alpha))


def sigmoid_focal_loss_backward(
    logits: Tensor, targets: Tensor, weight: Tensor, grad_logits: Tensor, gamma: float, alpha: float
) -> None:
    _without_class_weights(weight)
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        loss = torch_kernels.sigmoid_focal_loss(leaf, targets, gamma, alpha)
    grad_logits.copy_(torch.autograd.grad(loss.sum(), leaf)[0])


def _without_class_weights(weight: Tensor) -> None:
    if weight.numel():
        raise MissingOperator('sigmoid_focal_loss: class weights are not supported')


# Functions that replace those of compiled MMCV, because its kernels ignore strides.
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
