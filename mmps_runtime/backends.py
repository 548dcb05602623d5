"""Runs a graph with ONNX Runtime or with OpenVINO."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from .about import KEY, OUTPUTS, ModelFileError

Arrays = Mapping[str, np.ndarray]


class Backend(Protocol):
    """A loaded graph.

    Attributes:
        text: The metadata of mmps, or None.
        shapes: Of the outputs; None stands for any size.
    """

    text: str | None
    shapes: dict[str, tuple[int | None, ...]]

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        """Returns the outputs, in the order of :data:`~mmps_runtime.about.OUTPUTS`."""


class OnnxRuntime:
    """A graph in ONNX Runtime.

    Args:
        path: The file.
        threads: Threads of an operator; 0 = one a core.
        providers: ONNX Runtime's execution providers, such as ``CUDAExecutionProvider``.

    Raises:
        ModelFileError: The file cannot be read, or this ONNX Runtime lacks an operator. One line.
    """

    def __init__(self, path: str, threads: int = 0, providers: Sequence[str] = ('CPUExecutionProvider',)) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path, options, list(providers))
        except Exception as error:  # its classes have no common one but this
            raise ModelFileError(_why_not(path, error, f'ONNX Runtime {onnxruntime.__version__}')) from error
        self.text: str | None = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        self.shapes = {
            each.name: tuple(side if isinstance(side, int) else None for side in each.shape)
            for each in self.session.get_outputs()
        }

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        return self.session.run(list(OUTPUTS), dict(inputs))


class OpenVINO:
    """A graph in OpenVINO, on the CPU and in the precision of the file.

    Args:
        path: The file.
        threads: As of :class:`OnnxRuntime`.

    Raises:
        ModelFileError: The file cannot be read, or OpenVINO lacks an operator. One line.
    """

    def __init__(self, path: str, threads: int = 0) -> None:
        import openvino

        # OpenVINO 2026.4 ends the process when it reads a larger graph with this operator.
        with open(path, 'rb') as file:
            if b'DeformConv' in file.read():
                raise ModelFileError(f'{path}: OpenVINO has no operator DeformConv: export the model with --unroll')
        options: dict[str, Any] = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'}
        if threads:
            options['INFERENCE_NUM_THREADS'] = threads
        core = openvino.Core()
        try:
            model = core.read_model(path)
            self.compiled = core.compile_model(model, 'CPU', options)
        except RuntimeError as error:
            raise ModelFileError(_why_not(path, error, f'OpenVINO {openvino.__version__.split("-")[0]}')) from error
        where = ['framework', KEY]
        self.text: str | None = model.get_rt_info(where).astype(str) if model.has_rt_info(where) else None
        self.shapes = {
            each.any_name: tuple(side.get_length() if side.is_static else None for side in each.partial_shape)
            for each in model.outputs
        }

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        found = self.compiled(dict(inputs))
        return [found[name] for name in OUTPUTS]


BACKENDS = {'onnxruntime': OnnxRuntime, 'openvino': OpenVINO}


def open_backend(name: str, path: str, threads: int, options: Mapping[str, Any]) -> Backend:
    """Opens a file.

    Raises:
        FileNotFoundError: There is no file.
        ImportError: The package is not installed.
        ModelFileError: The file cannot be run.
        ValueError: There is no such back end.
    """
    if name not in BACKENDS:
        raise ValueError(f'backend: expected one of {", ".join(BACKENDS)}, got {name!r}')
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{path}: there is no such file')
    try:
        return BACKENDS[name](path, threads, **options)
    except ModuleNotFoundError as error:
        if error.name != name:  # something else is missing
            raise
        raise ImportError(f'{name} is missing: pip install {name}') from error


def _why_not(path: str, error: Exception, runtime: str) -> str:
    """Returns one line that says why a file cannot be run."""
    text = re.sub(r'\s+', ' ', str(error))
    missing = re.search(r'(?:Could not find an implementation for|No Op registered for) (\w+)', text)
    if missing:
        advice = ': install 1.26 or newer, or export the model with --unroll' if missing[1] == 'DeformConv' else ''
        return f'{path}: {runtime} has no operator {missing[1]}{advice}'
    return f'{path}: {runtime} cannot read it: it is no ONNX file, or it is cut off or damaged ({text[:120]})'
