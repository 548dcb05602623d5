"""Stores the weights of a graph in float16."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 64  # numbers of a tensor that is worth it


def store_half(model: onnx.ModelProto) -> None:
    """Stores weights in float16, each with a cast to float32, which runtimes compute once when they load the graph.

    Raises:
        ValueError: float16 cannot hold a weight.
    """
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over='ignore'):
            halves = values.astype(np.float16)
        if not np.isfinite(halves).all():
            raise ValueError(f'half: float16 cannot hold {tensor.name}')
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(halves, f'{name}.half'))
        casts.append(helper.make_node('Cast', [f'{name}.half'], [name], name=f'{name}.cast', to=TensorProto.FLOAT))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *rest])
