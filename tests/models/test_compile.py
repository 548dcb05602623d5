"""``torch.compile`` takes losses and dense networks in one piece, and does not compile anew for every size."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch._dynamo.testing import CompileCounter

from mmps.distillation import losses as distillation_losses
from mmps.models.losses import BoxGIoULoss, OIMLoss, TripletLoss


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def unit(count, seed):
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)))


def ids(count):
    return torch.arange(count) % 5 - 1


def maps(count):
    return [torch.randn(2, 4, 8, 8 + count, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]


def boxes(count, seed=0):
    corners = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 30
    return torch.cat([corners, corners + 20], dim=1)


def persons(count):
    sample = DetDataSample()
    sample.gt_instances = InstanceData(bboxes=boxes(count))
    return sample


LOSSES = {
    'OIM': (OIMLoss(5, 7, 8), lambda n: (unit(n, 0), ids(n), n)),
    'focal OIM': (OIMLoss(5, 7, 8, gamma=2.0, normalize=False, queue_dims=4), lambda n: (unit(n, 0), ids(n), n)),
    'triplet': (TripletLoss(), lambda n: (unit(n, 0), ids(n), unit(5, 1))),
    'GIoU': (BoxGIoULoss(), lambda n: (boxes(n), boxes(n, 1))),
    'relation': ('RelationLoss', lambda n: (unit(n, 0), unit(n, 1), unit(4, 2), unit(4, 3))),
    'response': ('ResponseLoss', lambda n: (unit(n, 0), unit(n, 1), unit(4, 2), unit(4, 3), ids(n))),
    'relations of labelled': ('RelationDivergenceLoss', lambda n: (unit(n, 0), unit(n, 1), ids(n))),
    'triplet relation': ('TripletRelationLoss', lambda n: (unit(n, 0), unit(n, 1))),
    'embedding': ('EmbeddingLoss', lambda n: (unit(n, 0), unit(n, 1))),
    'features': ('PersonFeatureLoss', lambda n: (*maps(n), [boxes(2), boxes(n)], [(64, 60), (50, 60)])),
    'FGD': ('FGDLoss', lambda n: (*maps(n), [boxes(2), boxes(n)], [(64, 60), (50, 60)])),
    'bounded regression': (
        'BoundedRegressionLoss',
        lambda n: (boxes(2 * n, 3), boxes(2 * n, 4), [boxes(n, 1), boxes(n, 2)], [persons(2), persons(n)]),
    ),
    'soft targets': ('SoftTargetLoss', lambda n: (torch.randn(2, n), torch.randn(2, n))),
}
ARGUMENTS = {'PersonFeatureLoss': dict(stride=8.0), 'FGDLoss': dict(channels=4, stride=8.0)}


@pytest.mark.parametrize('name', LOSSES)
def test_a_loss_is_one_graph_for_any_number_of_persons(name):
    loss, inputs = LOSSES[name]
    if isinstance(loss, str):
        with DefaultScope.overwrite_default_scope('mmps'):
            loss = getattr(distillation_losses, loss)(**ARGUMENTS.get(loss, {}))
    loss.eval()  # the memory stays as it is, so that both ways see the same one
    counter = CompileCounter()
    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for count in (6, 9, 13, 17, 24):
        arguments = inputs(count)
        torch.testing.assert_close(compiled(*arguments), loss(*arguments))
    assert counter.frame_count <= 3


def test_the_update_of_the_memory_is_one_graph():
    one, other = OIMLoss(5, 7, 8).train(), OIMLoss(5, 7, 8).train()
    compiled = torch.compile(one, fullgraph=True, backend='eager')
    for seed in range(2):
        compiled(unit(9, seed), ids(9), 3)
        other(unit(9, seed), ids(9), 3)
    for name, rows in other.memory.state_dict().items():
        assert torch.equal(one.memory.state_dict()[name], rows), name


@pytest.mark.parametrize('kind', ['fpn', 'c4', 'nae', 'seqnet', 'alignps'])
def test_backbone_neck_and_dense_head_are_one_graph_for_any_size(build_detector, kind):
    detector = build_detector(kind).eval()

    def dense(images):
        return detector.run_dense_head(detector.extract_feat(images))

    counter = CompileCounter()
    compiled = torch.compile(dense, fullgraph=True, backend=counter)
    with torch.no_grad():
        for height, width in ((64, 96), (96, 128), (128, 96), (160, 224)):
            images = torch.randn(2, 3, height, width)
            for found, expected in zip(compiled(images), dense(images), strict=True):
                torch.testing.assert_close(list(found), list(expected))
    assert counter.frame_count <= 3


@pytest.mark.parametrize('kind', ['c4', 'nae', 'seqnet'])
def test_the_head_that_embeds_is_one_graph_for_any_number_of_persons(build_detector, kind):
    head = build_detector(kind).eval().roi_head.reid_head
    counter = CompileCounter()
    compiled = torch.compile(head.embedding_head, fullgraph=True, backend=counter)
    sizes = [module.in_features for module in head.embedding_head.modules() if isinstance(module, torch.nn.Linear)]
    for count in (3, 5, 8, 13):
        feats = [torch.randn(count, size) for size in sizes] if kind != 'c4' else torch.randn(count, sizes[0], 2, 2)
        torch.testing.assert_close(compiled(feats), head.embedding_head(feats))
    assert counter.frame_count <= 3
