"""Turns an exported model into int8 with ONNX Runtime's static quantization.

A layer is a part of the network that holds weights, such as ``backbone.layer1`` or ``roi_head.embedding_head``. Those that
change the embeddings most stay float, until these are nearly the same as before.
"""

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from mmengine.logging import print_log
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QDQQuantizer, QuantType, create_calibrator

from mmps_runtime import About, PersonSearchModel

from .exporter import quiet, write_model

WITH_WEIGHTS = ('Conv', 'Gemm', 'MatMul')
AMONG_THEM = ('Relu', 'Clip', 'MaxPool', 'Resize', 'Add', 'Concat')  # of values that come from convolutions
# Operators between a layer and the next.
PASSING_ON = (
    *AMONG_THEM,
    'RoiAlign',
    'ScatterND',
    'Reshape',
    'Mul',
    'Sub',
    'ReduceSum',
    'ReduceMax',
    'ReduceMean',
    'InstanceNormalization',
)
LEAST_SCORE = 0.1  # of the persons that measure the harm


@dataclass(frozen=True)
class Quantized:
    """What a quantization did.

    Attributes:
        about: What the file says of the model.
        losses: For each layer the loss if it alone is int8. Empty if all are int8.
        kept_float: The layers that stay float.
        loss: That of the written model, 0 to 1.
    """

    about: About
    losses: dict[str, float]
    kept_float: tuple[str, ...]
    loss: float


def quantize_int8(path: str | Path, out: str | Path, scenes: Sequence[np.ndarray], tolerance: float = 0.01) -> Quantized:
    """Writes an exported model in int8.

    Three quarters of the scenes give the ranges of all values. With the others the harm is measured: the loss is 1 minus the
    mean cosine of the embeddings that both models give the persons whom the float model finds. The last convolutions of a
    branch, which predict scores and boxes, always stay float: they take no time, and 256 steps of a score would tie.

    Args:
        path: A file in float32 that ``mmps export`` wrote.
        out: The file to write.
        scenes: Images uint8 (H, W, 3), BGR, of the kind that the model was trained with; 4 or more.
        tolerance: Largest loss. While it is larger, the layer that does most harm becomes float.

    Raises:
        ModelFileError: The file is no exported model.
        ValueError: There are too few scenes, nobody is in the scenes that measure, or the model is not float32.
    """
    model = PersonSearchModel(path, score_thr=LEAST_SCORE)
    if model.about.precision != 'float32':
        raise ValueError(f'{path}: expected a model in float32, got {model.about.precision}')
    if len(scenes) < 4:
        raise ValueError(f'calibrate: expected 4 or more scenes, got {len(scenes)}')
    ranging, measuring = np.split(np.arange(len(scenes)), [len(scenes) * 3 // 4])
    held = [scenes[i] for i in measuring]
    boxes = [persons_of(model, image) for image in held]
    if not any(map(len, boxes)):
        raise ValueError('calibrate: the model finds nobody in the scenes: expected scenes like those of its training')
    with tempfile.TemporaryDirectory() as folder, quiet('root'):
        build = Builder(str(path), Path(folder), model, [scenes[i] for i in ranging])

        def embed(path: str | Path) -> list[np.ndarray]:
            other = PersonSearchModel(path)
            return [other.embed(image, given) for image, given in zip(held, boxes, strict=True)]

        def loss_of(layers: Collection[str]) -> float:
            return 1 - similarity(wanted, embed(build(layers)))

        wanted = embed(path)

        left, losses, kept_float = list(build.layers), dict[str, float](), list[str]()
        while (loss := loss_of(left)) > tolerance:
            losses = losses or {layer: loss_of([layer]) for layer in left}
            worst = max(left, key=losses.__getitem__)
            print_log(f'int8: loss {loss:.3f}; {worst} stays float: alone in int8 it loses {losses[worst]:.3f}', 'current')
            left.remove(worst)
            kept_float.append(worst)
            if not left:
                raise ValueError(f'int8: no layer can be int8 with a loss of at most {tolerance}')
        written = onnx.load(build(left))
    digest = hashlib.sha256(written.graph.SerializeToString()).hexdigest()
    name = model.about.fingerprint.rsplit(' ', 1)[0]
    about = replace(model.about, precision='int8', fingerprint=f'{name} int8 {digest[:12]}')
    write_model(written, about, out)
    return Quantized(about, losses, tuple(kept_float), loss)


class Builder:
    """Builds a graph with some of its layers in int8.

    Args:
        path: The graph in float32.
        folder: For the graphs.
        model: The same.
        scenes: They give the ranges of all values.

    Attributes:
        layers: The nodes of each layer.
    """

    def __init__(self, path: str, folder: Path, model: PersonSearchModel, scenes: Sequence[np.ndarray]) -> None:
        self.path, self.folder = path, folder
        nodes = onnx.load(path).graph.node
        self.layers = layers_of(nodes)
        self.among = values_of_convolutions(nodes)
        calibrator = create_calibrator(
            path, [*WITH_WEIGHTS, *AMONG_THEM], str(folder / 'augmented.onnx'), CalibrationMethod.MinMax
        )
        calibrator.collect_data(Scenes(model, scenes))
        self.ranges = calibrator.compute_data()

    def __call__(self, layers: Collection[str]) -> str:
        """Returns the path of the graph with these layers in int8."""
        quantized = {node for layer in layers for node in self.layers[layer]}
        everything = len(layers) > 1
        quantizer = QDQQuantizer(
            onnx.load(self.path),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=[*quantized, *(self.among if everything else ())],
            nodes_to_exclude=[],
            op_types_to_quantize=[*WITH_WEIGHTS, *(AMONG_THEM if everything else ())],
            # A Gemm whose result no other layer takes gives it in float.
            extra_options=dict(OpTypesToExcludeOutputQuantization=['Gemm', 'MatMul']),
        )
        quantizer.quantize_model()
        path = str(self.folder / 'quantized.onnx')
        quantizer.model.save_model_to_file(path)
        return path


class Scenes(CalibrationDataReader):
    """Gives a calibrator the inputs of scenes, one at a time, with the persons that are found in them as the given boxes."""

    def __init__(self, model: PersonSearchModel, scenes: Sequence[np.ndarray]) -> None:
        self.inputs = self._read(model, scenes)

    @staticmethod
    def _read(model: PersonSearchModel, scenes: Sequence[np.ndarray]) -> Iterator[Mapping[str, Any]]:
        for image in scenes:
            yield model.inputs([model.prepare(image, persons_of(model, image))])

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self.inputs, None)


def persons_of(model: PersonSearchModel, image: np.ndarray) -> np.ndarray:
    """Returns the boxes (N, 4) of the persons in an image. A box that was clipped to nothing is left out."""
    (persons,) = model([image])
    return persons.boxes[(persons.boxes[:, 2:] > persons.boxes[:, :2]).all(1)]


def layers_of(nodes: Sequence[onnx.NodeProto]) -> dict[str, list[str]]:
    """Returns the names of the nodes with weights, by layer, without the last convolutions of all branches."""
    needed = set[str]()  # values that lead to a node with weights
    layers: dict[str, list[str]] = {}
    for node in reversed(nodes):
        leads_on = needed.intersection(node.output)
        if node.op_type in WITH_WEIGHTS and len(node.input) > 1 and node.input[1].startswith('detector.'):
            needed.add(node.input[0])
            if leads_on or node.op_type != 'Conv':
                _, part, layer, *_ = node.input[1].split('.')
                layers.setdefault(f'{part}.{layer}', []).append(node.name)
        elif leads_on and node.op_type in PASSING_ON:
            needed.update(node.input)
    return layers


def values_of_convolutions(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """Returns the names of nodes that only pass on or join maps of convolutions, so that these can stay int8 in between."""
    maps, found = set(), []
    for node in nodes:
        of_maps = node.op_type in AMONG_THEM and all(
            name in maps for name in (node.input[:1] if node.op_type in ('Clip', 'Resize') else node.input)
        )
        if of_maps:
            found.append(node.name)
        if of_maps or node.op_type == 'Conv':
            maps.update(node.output)
    return found


def similarity(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Returns the mean cosine of embeddings (N_i, D) that two models give the same persons of images."""
    cosines = [(first * second).sum(1) for first, second in zip(one, other, strict=True)]
    return float(np.concatenate(cosines).mean())
