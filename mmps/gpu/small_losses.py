"""All losses and the memory's update on a few random persons, for checks of a device."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmps.distillation import losses as distillation_losses
from mmps.gpu.random_step import random_batch
from mmps.models import IdentityMemory
from mmps.models.losses import OIMLoss, TripletLoss

PERSONS = 24


def _unit(count: int, device: torch.device) -> Tensor:
    return F.normalize(torch.randn(count, 8, device=device)).requires_grad_()


def clean_parts(device: torch.device) -> dict[str, Callable[[], object]]:
    """Returns what must not wait for the device: the memory's update and the losses, each with its inputs."""
    ids = (torch.arange(12) % 5 - 1).to(device)
    maps = [torch.randn(2, 4, 8, 12, device=device, requires_grad=True) for _ in range(2)]
    _, samples = random_batch(2, (64, 96), 3)
    samples = [sample.to(device) for sample in samples]
    boxes = [sample.gt_instances.bboxes for sample in samples]
    memory = IdentityMemory(4, 7, 8).to(device)
    modules: dict[str, tuple[nn.Module, tuple]] = {
        'OIM': (OIMLoss(4, 7, 8), (_unit(12, device), ids, 3)),
        'focal OIM': (OIMLoss(4, 7, 8, gamma=2.0), (_unit(12, device), ids, 3)),
        'triplet': (TripletLoss(), (_unit(12, device), ids, _unit(4, device))),
        'relation': (make_loss('RelationLoss'), tuple(_unit(count, device) for count in (12, 12, 4, 4))),
        'response': (make_loss('ResponseLoss'), (*(_unit(count, device) for count in (12, 12, 4, 4)), ids)),
        'relation divergence': (make_loss('RelationDivergenceLoss'), (_unit(12, device), _unit(12, device), ids)),
        'triplet relation': (make_loss('TripletRelationLoss'), (_unit(12, device), _unit(12, device))),
        'embedding': (make_loss('EmbeddingLoss'), (_unit(12, device), _unit(12, device))),
        'features': (make_loss('PersonFeatureLoss', stride=8.0), (*maps, boxes)),
        'FGD': (make_loss('FGDLoss', channels=4, stride=8.0), (*maps, boxes)),
        'soft targets': (make_loss('SoftTargetLoss'), tuple(maps)),
        'bounded regression': (
            make_loss('BoundedRegressionLoss'),
            ((torch.cat(boxes) + 1).requires_grad_(), torch.cat(boxes), boxes, samples),
        ),
    }
    update = _unit(12, device)
    parts: dict[str, Callable[[], object]] = {'update of the memory': lambda: memory.update(update, ids, 3)}
    for name, (module, inputs) in modules.items():
        parts[name] = partial(_step, module.to(device), inputs)
    return parts


def _step(loss: nn.Module, inputs: tuple) -> None:
    loss(*inputs).backward()


def make_loss(name: str, **arguments: object) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmps'):
        return getattr(distillation_losses, name)(**arguments)


def losses_of_share(share: slice, device: torch.device) -> Tensor:
    """Returns the losses of a rank's share of a batch, and the sums of lookup table and queue after their update."""
    generator = torch.Generator().manual_seed(0)
    student, teacher, table, other = (
        F.normalize(torch.randn(count, 8, generator=generator)) for count in (PERSONS, PERSONS, 5, 5)
    )
    ids = torch.arange(PERSONS) % 6 - 1
    student, teacher, ids = student[share].to(device), teacher[share].to(device), ids[share].to(device)
    oim = OIMLoss(5, 7, 8).to(device)
    oim.memory.lut.copy_(table)
    parts = [
        TripletLoss()(student, ids, oim.memory.lut),
        make_loss('RelationLoss')(student, teacher),
        make_loss('ResponseLoss')(student, teacher, table.to(device), other.to(device), ids),
        oim(student, ids),
    ]
    return torch.stack([*parts, oim.memory.lut.sum(), oim.memory.queue.sum()])
