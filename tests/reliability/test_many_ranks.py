"""A training on several ranks is the training of one process with the same global batch: its losses, its gradients, its memory.

What is random is off: all RoIs are sampled, boxes are not jittered, and batch norms use their running statistics: a batch's are
a rank's own unless SyncBN is configured, which needs a GPU.
"""

import copy
import statistics
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm

from mmps.distillation import losses as distillation
from mmps.models.losses import TripletLoss
from mmps.registry import MODELS

DISTILLERS = Path(__file__).parents[2] / 'configs/_base_/distillers'
# And how many steps each. GDPS's feature loss is MMRazor's, the mean over the images of a rank: it needs as many on each.
KINDS = {'fpn': 20, 'seqnet': 20, 'alignps': 20, 'gdps-squared': 20, 'gdps': 20, 'seqnet without proposals': 6}
# The person ids of five images. Images are shared out in their order.
BATCHES = [
    [[0, -1, 2], [3], [1, 1], [-1, 4, 5], [2]],
    [[0, 1], [2, -1, 3], [4], [-1], [-1, -1]],  # the last rank has no labelled person
    [[5, 0, -1], [1], [2], [], []],  # the last rank has nobody
    [[-1], [], [-1, -1], [], []],
    [[], [], [], [], []],
    [[], [], [3, 1, -1], [0], [2, 2]],
]
# How many images each rank has, step by step.
SPLITS = {2: [(3, 2), (1, 4), (3, 2), (2, 3), (4, 1)], 4: [(2, 1, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2)]}


def shares_of(rank, world, step):
    split = SPLITS[world][step % len(SPLITS[world])]
    return slice(sum(split[:rank]), sum(split[: rank + 1]))


def batches_of(kind, batches):
    """The steps of a kind: all images, or as many as can be shared out evenly."""
    return [[part[: 4 if kind == 'gdps' else None] for part in batch] for batch in batches[: KINDS[kind]]]


def share_of(kind, rank, world, step):
    return slice(rank * 4 // world, (rank + 1) * 4 // world) if kind == 'gdps' else shares_of(rank, world, step)


def config_of(kind, detector_config):
    if kind.startswith('gdps'):
        distil = Config.fromfile(DISTILLERS / f'{kind}.py').distil
        student, teacher = (take_all_rois(detector_config('fpn', width=width)) for width in (8, 16))
        return dict(type='PersonSearchDistill', architecture=student, teacher=teacher, **{**distil, 'box_jitter': 0})
    name, *without_proposals = kind.split(maxsplit=1)
    cfg = take_all_rois(detector_config(name))
    if without_proposals:  # then an image without persons has no RoI at all
        cfg.train_cfg.rpn_proposal.min_bbox_size = 1000
    return cfg


def take_all_rois(cfg):
    for part in (cfg.train_cfg or {}).values():
        if 'sampler' in part:
            part.sampler.num = 100000
    return cfg


def build(cfg):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(copy.deepcopy(cfg))
        model.init_weights()
    for network in (model.student, model.teacher.network) if 'teacher' in cfg else (model,):
        network.memory.lut.copy_(normalize(torch.randn_like(network.memory.lut)))
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def train(cfg, batches, wrap=lambda model: model):
    """Of each step the loss terms, the gradients and the memory after it."""
    model = build(cfg)
    wrapped = wrap(model)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.SGD(weights.values(), lr=1e-4, momentum=0.9)
    history = []
    for images, samples in batches:
        total, terms = model.parse_losses(wrapped(images, copy.deepcopy(samples), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        gradients = {name: weight.grad.clone() for name, weight in weights.items() if weight.grad is not None}
        torch.nn.utils.clip_grad_norm_(weights.values(), 10)
        optimizer.step()
        memory = {name: buffer.clone() for name, buffer in model.memory.state_dict().items()}
        history.append(
            dict(
                losses={name: term.item() for name, term in terms.items() if 'loss' in name}, gradients=gradients, memory=memory
            )
        )
    return history


def embeddings_of(images):
    return [each['embeddings'] for each in images], [each['teacher_embeddings'] for each in images]


def maps_of(images):
    return (torch.stack([each[name] for each in images]) for name in ('map', 'teacher_map'))


def boxes_of(images):
    return [each['boxes'] for each in images]


def refined_boxes_of(images):
    samples = [DetDataSample(gt_instances=InstanceData(bboxes=boxes)) for boxes in boxes_of(images)]
    refined = (
        torch.cat([boxes + moves[:, :4] for boxes, moves in zip(boxes_of(images), each, strict=True)])
        for each in embeddings_of(images)
    )
    return *refined, [boxes + 1 for boxes in boxes_of(images)], samples


TABLES = normalize(torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=2)
# Losses of the images of a batch, each a dictionary of what an image has.
LOSSES = {
    'triplet': lambda images: TripletLoss()(
        torch.cat(embeddings_of(images)[0]), torch.cat([each['person_ids'] for each in images]), TABLES[0]
    ),
    'relation': lambda images: distillation.RelationLoss()(*embeddings_of(images)),
    'relation to LUT': lambda images: distillation.RelationLoss()(*embeddings_of(images), *TABLES),
    'relation of rows': lambda images: distillation.RelationLoss(normalize_rows=True)(*embeddings_of(images)),
    'triplet relation': lambda images: distillation.TripletRelationLoss(margin=1.0)(*embeddings_of(images)),
    'relation divergence': lambda images: distillation.RelationDivergenceLoss(0.5)(*embeddings_of(images)),
    'response': lambda images: distillation.ResponseLoss()(*embeddings_of(images), *TABLES),
    'embedding': lambda images: distillation.EmbeddingLoss()(*embeddings_of(images)),
    'soft target': lambda images: distillation.SoftTargetLoss()(*maps_of(images)),
    'soft target, mean': lambda images: distillation.SoftTargetLoss(num_samples=1000)(*maps_of(images)),
    'bounded regression': lambda images: distillation.BoundedRegressionLoss()(*refined_boxes_of(images)),
    'person feature': lambda images: distillation.PersonFeatureLoss(stride=8)(*maps_of(images), boxes_of(images)),
    'FGD': lambda images: distillation.FGDLoss(4, stride=8, relation_weight=0)(*maps_of(images), boxes_of(images)),
}


def images_of(samples):
    """What losses take of each image: drawn, in float64."""
    images = []
    for index, sample in enumerate(samples):
        generator = torch.Generator().manual_seed(index)
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: B023, E731
        boxes, person_ids = sample.gt_instances.bboxes.double(), sample.gt_instances.person_ids
        images.append(
            dict(
                boxes=boxes,
                person_ids=person_ids,
                embeddings=normalize(draw(len(boxes), 8)).requires_grad_(),
                teacher_embeddings=normalize(draw(len(boxes), 8)),
                map=draw(4, 8, 12).requires_grad_(),
                teacher_map=2 * draw(4, 8, 12) + 1,
            )
        )
    return images


def values_of(batches, share=lambda step: slice(None)):
    """Of each loss and batch its value and its gradients, image by image."""
    found = {}
    for name, loss in LOSSES.items():
        for step, (_, samples) in enumerate(batches[: len(BATCHES)]):
            images = images_of(samples)[share(step)]
            value = loss(images)
            leaves = [image[of] for image in images for of in ('embeddings', 'map')]
            found[name, step] = value.item(), torch.autograd.grad(value, leaves, materialize_grads=True)
    return found


def run_rank(rank, world, store, results, configs, batches):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=world)
    found = {}
    for kind, cfg in configs.items():
        steps = batches_of(kind, batches)
        shares = [[part[share_of(kind, rank, world, step)] for part in batch] for step, batch in enumerate(steps)]
        found[kind] = train(cfg, shares, lambda model: MMDistributedDataParallel(model, broadcast_buffers=False))
    found['losses'] = values_of(batches, lambda step: shares_of(rank, world, step))
    torch.save(found, results / f'{rank}.pt')
    dist.destroy_process_group()


@pytest.fixture
def check_ranks(tmp_path, detector_config, make_batch):
    """check_ranks(world) -> the largest difference between the ranks' training and that of one process, by kind and part."""

    def check(world, most=20):
        configs = {kind: config_of(kind, detector_config) for kind in KINDS}
        batches = [make_batch(BATCHES[step % len(BATCHES)], seed=step) for step in range(most)]
        spawned = mp.spawn(run_rank, (world, tmp_path / 'store', tmp_path, configs, batches), nprocs=world, join=False)
        alone = {kind: train(cfg, batches_of(kind, batches)) for kind, cfg in configs.items()}
        while not spawned.join():
            pass
        ranks = [torch.load(tmp_path / f'{rank}.pt') for rank in range(world)]
        check_losses(values_of(batches), [rank['losses'] for rank in ranks])
        return {
            f'{kind}: {part}': value
            for kind in KINDS
            for part, value in check_training(alone[kind], [rank[kind] for rank in ranks]).items()
        }

    return check


def check_losses(alone, ranks):
    for name, (value, gradients) in alone.items():
        values, parts = zip(*(rank[name] for rank in ranks), strict=True)
        assert sum(values) / len(ranks) == pytest.approx(value, rel=1e-6, abs=1e-12), name  # counts are float32
        for found, wanted in zip([each for part in parts for each in part], gradients, strict=True):
            torch.testing.assert_close(found / len(ranks), wanted, rtol=1e-6, atol=1e-9, msg=str(name))


def check_training(alone, ranks):
    losses, gradients, memory = [], [], []
    for step, (expected, *each) in enumerate(zip(alone, *ranks, strict=True)):
        for rank in each:
            for part in ('losses', 'gradients', 'memory'):
                assert rank[part].keys() == expected[part].keys(), step
            for part in ('gradients', 'memory'):
                assert all(torch.equal(rank[part][name], value) for name, value in each[0][part].items()), (step, part)
        for name, value in expected['losses'].items():
            losses.append(abs(statistics.mean(rank['losses'][name] for rank in each) - value) / max(abs(value), 1e-3))
        wanted, found = (torch.cat([value.flatten() for value in step['gradients'].values()]) for step in (expected, each[0]))
        gradients.append(((found - wanted).norm() / wanted.norm()).item())
        memory += [(each[0]['memory'][name] - value).abs().max().item() for name, value in expected['memory'].items()]
    # A gradient jumps where a ReLU turns on or another pair becomes the hardest: there the last bit of a number decides.
    assert max(losses) < 1e-4 and max(memory) < 1e-5
    assert statistics.median(gradients) < 1e-5 and max(gradients) < 0.02, gradients
    return {
        'loss': max(losses),
        'memory': max(memory),
        'memory of the first step': max(memory[:3]),
        'gradient': max(gradients),
        'gradient, median': statistics.median(gradients),
    }


def test_two_ranks_train_as_one_process_does(check_ranks):
    check_ranks(2, len(BATCHES))


@pytest.mark.soak
@pytest.mark.parametrize('world', [2, 4])
def test_ranks_train_twenty_steps_as_one_process_does(check_ranks, report, world):
    report(**check_ranks(world))
