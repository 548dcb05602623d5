"""An exported model in the place of a detector."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmps_runtime import PersonSearchModel, Prepared


class ExportedDetector:
    """An exported model that an inferencer uses like a detector: images are prepared, then batches are run.

    Args:
        path: A file that ``mmps export`` wrote.
        weights: None: the file has them.
        device: None or 'cpu': ONNX Runtime runs it on the CPU.
        height: Shorter side to which images are resized. None = as in the model's test.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: ONNX Runtime is not installed.
        ModelFileError: The file is no exported model.
        ValueError: There are weights or another device, or the model has one input size and there is a height.
    """

    def __init__(self, path: str, weights: str | None, device: str | None, height: int | None) -> None:
        if weights is not None:
            raise ValueError(f'weights: expected none with an exported model, got {weights}')
        if device not in (None, 'cpu'):
            raise ValueError(f'device: an exported model runs on the CPU, got {device!r}; mmps_runtime takes other providers')
        self.runtime = PersonSearchModel(path, score_thr=0, height=height)

    def prepare(self, data: dict[str, Any]) -> Prepared:
        """Prepares an image ``img``, and the boxes of its ``queries`` to embed."""
        return self.runtime.prepare(data['img'], [query['bbox'] for query in data['queries']])

    def test_step(self, batch: Sequence[Prepared]) -> list[DetDataSample]:
        """Returns what is found, in the form of a detector's predictions."""
        samples = []
        for found in self.runtime.run(batch):
            boxes, scores, embeddings = map(torch.from_numpy, (found.boxes, found.scores, found.embeddings))
            sample = DetDataSample()
            sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, embeddings=embeddings)
            sample.query_instances = InstanceData(embeddings=torch.from_numpy(found.given_embeddings))
            samples.append(sample)
        return samples
