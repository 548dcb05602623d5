"""What a step asks of a GPU, seen on a pretended one: waits of the host, operators, and tensors on the wrong device.

All runs in a process of its own: PyTorch counts the devices at the first backward pass, and later ones must not be new.
"""

import os
import subprocess
import sys

import pytest
import torch

from mmps.gpu.device_waits import record_step
from mmps.gpu.pretended_device import PretendedTensor, device, pretended_device, to_pretended
from mmps.gpu.small_losses import clean_parts
from mmps.models import IdentityMemory

OWN_PROCESS = 'MMPS_PRETENDED_DEVICE'


@pytest.fixture(autouse=True)
def own_process(request):
    if OWN_PROCESS not in os.environ and request.node.name != 'test_this_file_in_a_process_of_its_own':
        pytest.skip('runs in a process of its own')


@pytest.mark.skipif(OWN_PROCESS in os.environ, reason='this is the process')
def test_this_file_in_a_process_of_its_own():
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', __file__]
    done = subprocess.run(command, env=os.environ | {OWN_PROCESS: '1'}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def gpu():
    """gpu(a tensor) -> the same on the pretended device."""
    device()
    return lambda tensor: PretendedTensor(tensor)


@pytest.mark.parametrize(
    ('code', 'waits'),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool(x.any()), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x.to('cpu', non_blocking=True), 0),
        (lambda x: x.nonzero(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x[:, [0, 2]], 1),
        (lambda x: x.new_tensor([1.0]), 1),
        (lambda x: torch.tensor(1.0, device=x.device), 1),
        (lambda x: x.unique(), 1),
        (lambda x: x.masked_fill(x > 0, 0), 0),
        (lambda x: x[x.long()[0]], 0),
        (lambda x: x.new_zeros(3), 0),
        (lambda x: torch.full((), 2.0, device=x.device), 0),
        (lambda x: x.sort().values.topk(2).indices, 0),
    ],
)
def test_a_wait_is_counted_where_a_gpu_would_make_the_host_wait(gpu, code, waits):
    with pretended_device() as record:
        code(gpu(torch.tensor([[1.0, 0, 2], [0, 0, 1], [2, 1, 0]])))
    assert sum(record.waits.values()) == waits
    assert all(place.startswith('tests/gpu/test_device_waits.py:') for place, _ in record.waits)


def test_tensors_of_both_devices_cannot_be_mixed(gpu):
    with pretended_device(), pytest.raises(RuntimeError, match='same device'):
        gpu(torch.ones(3)) + torch.ones(3)


def test_the_pretended_device_computes_what_the_cpu_computes(build_detector, make_batch):
    def gradients(detector, inputs, samples):
        torch.manual_seed(1)
        losses = detector.loss(inputs, samples)
        sum(sum(value) if isinstance(value, list) else value for name, value in losses.items() if 'loss' in name).backward()
        return {name: each.grad for name, each in detector.named_parameters() if each.grad is not None}

    expected = gradients(build_detector('alignps').train(), *make_batch([[0, -1], [3]]))
    device()
    detector = to_pretended(build_detector('alignps').train())
    inputs, samples = make_batch([[0, -1], [3]])
    with pretended_device():
        found = gradients(detector, inputs.to(device()), [sample.to(device()) for sample in samples])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].held, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ('config', 'most_waits', 'ours', 'most_operators'),
    [
        ('alignps/alignps_r18-w8_10e', 1, 1, 1300),
        ('oim/oim_r18-w8-fpn_10e', 18, 6, 2900),
        pytest.param('seqnet/seqnet_r18-w8-fpn_10e', 23, 7, 3700, marks=pytest.mark.soak),
        pytest.param('nae/nae_r18-w8-fpn_10e', 10, 6, 2800, marks=pytest.mark.soak),
    ],
)
def test_a_step_of_four_images_seldom_waits(repository, config, most_waits, ours, most_operators):
    record = record_step(repository / f'configs/{config}_synthps-mini.py', 4, (128, 224), 4)
    assert sum(record.waits.values()) <= most_waits, record.waits
    assert record.ours() <= ours, record.waits
    assert record.operators <= most_operators


@pytest.mark.soak
@pytest.mark.parametrize(
    'config',
    [
        'qeeps/qeeps_r18-w8-fpn_10e',
        'reid/reid_r18-w32_10e',
        'alignps/alignps_r18-w16-roi_10e',
        'oim/oim_mobilenetv2-fpn_3e',
        'gdps/gdps_seqnet-r18-w32_alignps-r18-w8_10e',
        'hkd/hkd_head_oim-r18-w8-fpn_10e',
        'hkd/hkd-self_oim-r18-w8_10e',
        'munjal/munjal_frcnn-r18-w32_oim-r18-w8_10e',
        'dkd/dkd_reid-r18-w32_oim-r18-w8_10e',
        'fgd/fgd_oim-r18-w32_oim-r18-w8_10e',
        'pkd/pkd_oim-r18-w32_oim-r18-w8_10e',
        'mgd/mgd_oim-r18-w32_oim-r18-w8_10e',
        'cwd/cwd_oim-r18-w32_oim-r18-w8_10e',
        'ddps/ddps_oim-r18-w32_oim-r18-w8_10e',
    ],
)
def test_every_tensor_of_a_step_is_made_on_the_device_of_the_images(repository, config):
    record_step(repository / f'configs/{config}_synthps-mini.py', 2, (128, 224), 3)


@pytest.mark.parametrize('kind', ['fpn', 'c4', 'nae', 'seqnet', 'alignps', 'alignps-roi'])
def test_every_tensor_of_a_search_is_made_on_the_device_of_the_images(build_detector, make_batch, kind):
    device()
    detector = to_pretended(build_detector(kind).eval())
    inputs, samples = make_batch([[0, -1], [3]])
    with pretended_device(), torch.no_grad():
        found = detector.predict(inputs.to(device()), [sample.to(device()) for sample in samples])
        fields = [value for sample in found for value in sample.pred_instances.values()]
    assert all(isinstance(value, PretendedTensor) for value in fields)


def test_the_memory_does_not_wait_if_it_knows_how_often_an_identity_occurs(gpu):
    memory = to_pretended(IdentityMemory(num_identities=7, queue_size=5, embed_dims=4))
    ids = torch.tensor([3, -1, 3, 0, -1, 3])
    with pretended_device() as record:
        memory.update(gpu(torch.randn(6, 4)), gpu(ids), most_sightings=3)
    assert not record.waits
    with pretended_device() as record:
        memory.update(gpu(torch.randn(6, 4)), gpu(ids))
    assert sum(record.waits.values()) == 1


@pytest.mark.parametrize('name', clean_parts(torch.device('cpu')))
def test_no_loss_and_no_update_waits_for_the_device(name):
    device()
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with pretended_device():
            run = clean_parts(device())[name]
            run()  # fills caches
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
    with pretended_device() as record:
        run()
    assert record.operators > 5 and not record.waits
