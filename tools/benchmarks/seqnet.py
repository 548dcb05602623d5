"""Times SeqNet's inference and training step against the published code, on the same weights and images, in one process.

    python tools/benchmarks/seqnet.py CLONE [--device cuda] [--amp] [--channels-last] [--profile]

CLONE is a clone of github.com/serend1p1ty/SeqNet. It needs torchvision and yacs besides mmps. Both sides take turns, so that
other load on the machine slows both. The published code's resizing is left out, because mmps resizes while loading.
``--amp`` and ``--channels-last`` change our side only. Prints how far the detections differ and a table of median seconds;
``--profile`` adds our time by operator.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.profiler import profile

from mmps.evaluation.tables import markdown_table
from mmps.models.detectors import TwoStagePersonSearch
from mmps.models.released_weights import SEQNET, convert, fit
from mmps.registry import MODELS

BASE = Path(__file__).parents[2] / 'configs/_base_/models/seqnet_r50_c4.py'
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
PERSONS = 6  # per image


def published_model(clone: Path) -> nn.Module:
    """Returns the published network with random weights, without its resizing of images."""
    sys.path.insert(0, str(clone))
    import torchvision

    resnet50 = torchvision.models.resnet50
    torchvision.models.resnet.resnet50 = lambda pretrained: resnet50(weights=None)
    from defaults import get_default_cfg
    from models.seqnet import SeqNet

    model = SeqNet(get_default_cfg())
    model.transform.resize = lambda image, target: (image, target)
    return model


def make_it_detect(published: nn.Module, images: list[Tensor], targets: list[dict]) -> None:
    """Makes a network with random weights detect something.

    Sets the running statistics to those of its features, and biases its first head towards persons.
    """
    norms = [module for module in published.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        published.train()(images, targets)
        predictor: Any = published.get_submodule('roi_heads.faster_rcnn_predictor')  # of a class of the clone
        for layer in (predictor.cls_score, predictor.bbox_pred):
            layer.weight.mul_(0.02)
        predictor.cls_score.bias.copy_(torch.tensor([0.0, 0.5]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def our_model(published: nn.Module) -> TwoStagePersonSearch:
    """Returns our SeqNet with the weights of the published one."""
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(Config.fromfile(BASE).model)
    model.load_state_dict(fit(convert(published.state_dict(), SEQNET), model))
    return model


class Scene:
    """Random images with persons, in the form that each side takes."""

    def __init__(self, args: argparse.Namespace):
        rng = np.random.default_rng(0)
        height, width = args.size
        self.device = args.device
        self.images = torch.from_numpy(rng.random((args.batch, 3, height, width), dtype=np.float32))
        shape = np.array([width, height])
        corner = rng.uniform(0, shape * [0.85, 0.55], (args.batch, PERSONS, 2))
        size = rng.uniform(shape * [0.03, 0.1], shape * [0.15, 0.45], (args.batch, PERSONS, 2))
        self.boxes = torch.from_numpy(np.concatenate([corner, corner + size], axis=2).astype(np.float32))
        self.ids = torch.arange(args.batch * PERSONS).view(args.batch, PERSONS)

    def published(self) -> tuple[list[Tensor], list[dict]]:
        images = [image.to(self.device) for image in self.images]
        return images, [
            dict(boxes=boxes.to(self.device), labels=(ids + 1).to(self.device))
            for boxes, ids in zip(self.boxes, self.ids, strict=True)
        ]

    def ours(self) -> dict:
        samples = []
        for boxes, ids in zip(self.boxes, self.ids, strict=True):
            sample = DetDataSample(
                metainfo=dict(
                    img_id=0,
                    img_shape=tuple(self.images.shape[2:]),
                    ori_shape=tuple(self.images.shape[2:]),
                    scale_factor=(1.0, 1.0),
                )
            )
            sample.gt_instances = InstanceData(bboxes=boxes.clone(), labels=torch.zeros_like(ids), person_ids=ids.clone())
            samples.append(sample)
        return dict(inputs=list(self.images.flip(1) * 255), data_samples=samples)  # BGR


def sync(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()


def take_turns(sides: dict[str, Callable[[], None]], rounds: int, device: str) -> dict[str, list[float]]:
    """Returns the seconds of each side in each round. One round before them warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            sync(device)
            started = time.perf_counter()
            run()
            sync(device)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def table_row(what: str, seconds: dict[str, list[float]]) -> list[str]:
    ours, theirs = (statistics.median(seconds[name]) for name in ('ours', 'published'))
    ratios = [b / a for a, b in zip(seconds['ours'], seconds['published'], strict=True)]
    return [what, f'{ours:.3f}', f'{theirs:.3f}', f'{statistics.median(ratios):.2f}', f'{min(ratios):.2f} to {max(ratios):.2f}']


def compare_detections(ours: TwoStagePersonSearch, published: nn.Module, scene: Scene) -> str:
    """Says how far apart the detections of the first image are. The two sides may order them differently."""
    with torch.no_grad():
        theirs = published(scene.published()[0][:1])[0]
        data = scene.ours()
        mine = ours.test_step(dict(inputs=data['inputs'][:1], data_samples=data['data_samples'][:1]))[0].pred_instances
    if len(mine) != len(theirs['boxes']):
        return f'{len(mine)} detections of ours, {len(theirs["boxes"])} published'
    nearest = torch.cdist(theirs['boxes'], mine.bboxes, p=float('inf')).min(dim=1)
    embeddings = (mine.embeddings[nearest.indices] - theirs['embeddings']).abs().max()
    return f'{len(mine)} detections, boxes {nearest.values.max():.1e} px and embeddings {embeddings:.1e} apart at most'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('clone', type=Path, help='folder of a clone of SeqNet')
    parser.add_argument('--size', type=int, nargs=2, default=(900, 1500), metavar=('HEIGHT', 'WIDTH'), help='of images')
    parser.add_argument('--batch', type=int, default=1, help='images of a training step')
    parser.add_argument('--rounds', type=int, default=5, help='turns of each side (%(default)s)')
    parser.add_argument('--device', default='cpu', help='of both sides (%(default)s)')
    parser.add_argument('--amp', action='store_true', help='our side with automatic mixed precision')
    parser.add_argument('--channels-last', action='store_true', help='our side in channels-last memory format')
    parser.add_argument('--profile', action='store_true', help='print our time by operator')
    args = parser.parse_args()
    torch.manual_seed(0)
    published = published_model(args.clone).to(args.device)
    scene = Scene(args)
    make_it_detect(published, *scene.published())
    ours = our_model(published).to(args.device)
    if args.channels_last:
        ours.to(memory_format=torch.channels_last)

    def autocast() -> contextlib.AbstractContextManager:
        return torch.autocast(args.device) if args.amp else contextlib.nullcontext()

    def steps(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5)

        def step() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return step

    @torch.no_grad()
    def infer() -> None:
        with autocast():
            ours.test_step(scene.ours())

    @torch.no_grad()
    def infer_published() -> None:
        published(scene.published()[0])

    def our_loss() -> Tensor:
        with autocast():
            data = ours.data_preprocessor(scene.ours(), training=True)
            return ours.parse_losses(ours.loss(data['inputs'], data['data_samples']))[0]

    published.eval(), ours.eval()
    rows = []
    if not (args.amp or args.channels_last):
        print(compare_detections(ours, published, scene))
    rows.append(table_row('inference', take_turns(dict(ours=infer, published=infer_published), args.rounds, args.device)))
    published.train(), ours.train()
    train = steps(ours, our_loss)
    train_published = steps(published, lambda: sum(published(*scene.published()).values()))
    rows.append(table_row('training step', take_turns(dict(ours=train, published=train_published), args.rounds, args.device)))
    print(markdown_table(['', 'ours, s', 'published, s', 'times faster', 'over the rounds'], rows))
    if args.profile:
        for name, run in (('inference', infer), ('training step', train)):
            ours.train(name != 'inference')
            with profile(record_shapes=False) as record:
                run()
            print(name, record.key_averages().table(sort_by='self_cpu_time_total', row_limit=20), sep='\n')


if __name__ == '__main__':
    main()
