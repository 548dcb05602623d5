"""The memory that a training step keeps is counted, once for each piece of memory."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmps.gpu.activation_memory import RESERVE, StepMemory, step_memory
from mmps.gpu.random_step import build_model, random_batch


class Chain(BaseModel):
    """Keeps the input of its second layer (as the output of the first, and of tanh) and nothing else of size."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(10, 100, bias=False), nn.Linear(100, 1, bias=False)

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.second(self.first(inputs).tanh()).sum())


def test_tensors_count_once_and_weights_apart():
    memory = step_memory(Chain(), torch.randn(7, 10), [])
    assert memory.saved * 7 == 4 * (7 * 10 + 7 * 100)  # the images, and the output of tanh that two layers keep
    assert memory.weights == 1100 * (4 + 4 + 4)
    assert step_memory(Chain(), torch.randn(7, 10), [], optimizer='Adam').weights == 1100 * (4 + 4 + 8)


def test_a_batch_fits_with_a_reserve():
    memory = StepMemory(saved=10**9, weights=5 * 10**8)
    assert memory.images_that_fit(12 * 10**9) == int((12 * 10**9 - RESERVE - 5 * 10**8) / 10**9) == 10
    assert memory.images_that_fit(10**9) == 0


@pytest.mark.parametrize('name', ['oim/oim_r18-w8-fpn_10e', 'alignps/alignps_r18-w8_10e'])
def test_half_precision_and_checkpoints_need_less(repository, name):
    config, batch = repository / f'configs/{name}_synthps-mini.py', random_batch(1, (320, 512), 3)
    plain = step_memory(build_model(config), *batch).saved
    half = step_memory(build_model(config), *batch, torch.bfloat16).saved
    checkpointed = step_memory(build_model(config, {'model.backbone.with_cp': True}), *batch).saved
    assert half < 0.85 * plain and checkpointed < 0.95 * plain
    two = step_memory(build_model(config), *random_batch(2, (320, 512), 3)).saved
    assert abs(two / plain - 1) < 0.1  # per image
