"""Rows that count in no image are cut before the next stage, in PyTorch and in the exported graph."""

import numpy as np
import onnxruntime
import pytest
import small_exports  # noqa: F401  skips where a package is missing
import torch
from torch import nn
from torch.export import Dim

from mmps.export import stages
from mmps.export.operators import OPSET, TRANSLATIONS

PERSONS = 4


class Cut(nn.Module):
    def forward(self, boxes, scores):
        rows = stages.without_rest(stages.Rows(boxes, scores))
        return rows.boxes, rows.scores, stages.padded(rows.boxes, PERSONS)


@pytest.fixture(scope='module')
def session():
    example = (torch.rand(2, PERSONS, 4), torch.rand(2, PERSONS))
    batch = Dim('batch', min=1, max=9)
    traced = torch.export.export(Cut(), example, dynamic_shapes=({0: batch}, {0: batch}))
    program = torch.onnx.export(traced, opset_version=OPSET, custom_translation_table=TRANSLATIONS, verbose=False)
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=['CPUExecutionProvider'])


@pytest.mark.parametrize('counts', [(2, 0), (0, 0), (4, 1), (0,), (1, 3, 3)])
def test_as_many_rows_are_left_as_count_in_any_image(session, counts):
    scores = torch.linspace(0.9, 0.2, PERSONS).repeat(len(counts), 1)
    for of_image, count in zip(scores, counts, strict=True):
        of_image[count:] = stages.NOT_COUNTED
    boxes = torch.arange(scores.numel() * 4.0).view(*scores.shape, 4)
    left = max(1, *counts)
    names = [each.name for each in session.get_inputs()]
    in_graph = session.run(None, dict(zip(names, (boxes.numpy(), scores.numpy()), strict=True)))
    for found in (Cut()(boxes, scores), in_graph):
        np.testing.assert_array_equal(found[0], boxes[:, :left])
        np.testing.assert_array_equal(found[1], scores[:, :left])
        np.testing.assert_array_equal(found[2][:, :left], boxes[:, :left])
        assert found[2].shape == (len(counts), PERSONS, 4)
