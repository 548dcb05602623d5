"""Times MMCV's operators as PyTorch operations against compiled MMCV, alone and in detectors of real size.

    python tools/benchmarks/operators.py WHEEL [--rounds 3] [--threads 2] [--only PATTERN ...]

WHEEL is a wheel of mmcv 2.1.0 with compiled operators, for this Python and torch. Both sides take turns in one process, so
that other load on the machine slows both. Prints a table of the median milliseconds of each side over the rounds.
"""

import argparse
import fnmatch
import importlib
import importlib.util
import statistics
import sys
import tempfile
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from mmps.cli import run_tool
from mmps.compat import operators, torch_kernels
from mmps.evaluation.tables import markdown_table
from mmps.models.detectors import TwoStagePersonSearch
from mmps.registry import MODELS

MODELS_FOLDER = Path(__file__).parents[2] / 'configs/_base_/models'
SIZE = (900, 1500)
PERSONS = 6


def compiled_kernels(wheel: Path) -> types.ModuleType:
    """Returns mmps's kernels that call the compiled module of a wheel."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        name = next((name for name in archive.namelist() if name.startswith('mmcv/_ext')), None)
        if name is None:
            raise ValueError(f'{wheel}: expected a wheel of mmcv with compiled operators')
        spec = importlib.util.spec_from_file_location('mmcv._ext', archive.extract(name, folder))
        if spec is None or spec.loader is None:
            raise ValueError(f'{wheel}: Python cannot import {name}')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    stand_in, sys.modules['mmcv._ext'] = sys.modules['mmcv._ext'], module
    kernels = importlib.import_module('mmps.compat.mmcv_kernels')
    sys.modules['mmcv._ext'] = stand_in
    return kernels


def random_boxes(count: int, sizes: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Returns boxes (count, 4) in an image of SIZE, twice as high as wide.

    Half of them are near one of a dozen places, as the boxes of an RPN are. ``sizes`` are the smallest and largest width.
    """
    height, width = SIZE
    places = torch.rand(12, 2, generator=generator) * torch.tensor([width, height])
    near = places[torch.randint(0, 12, (count,), generator=generator)] + torch.randn(count, 2, generator=generator) * 15
    anywhere = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    centres = torch.where(torch.rand(count, 1, generator=generator) < 0.5, near, anywhere)
    wide = sizes[0] + (sizes[1] - sizes[0]) * torch.rand(count, 1, generator=generator)
    half = torch.cat([wide, 2 * wide], 1) / 2
    return torch.cat([centres - half, centres + half], 1).clamp(min=0).minimum(torch.tensor([width, height] * 2))


def single_operators(kernels: types.ModuleType) -> Iterator[tuple[str, Callable]]:
    """Yields a name and a call without arguments for each operator."""
    generator = torch.Generator().manual_seed(0)
    for count in (100, 1000, 2000, 6000, 12000):
        boxes, scores = random_boxes(count, (20, 200), generator), torch.rand(count, generator=generator)
        yield f'NMS of {count:,} boxes, 0.7', lambda boxes=boxes, scores=scores: kernels.nms(boxes, scores, 0.7, 0)
    layers = [
        ('FPN, stride 4, 256 channels, 7 x 7, 128 RoIs', 256, 4, 7, 128, (14, 80)),
        ('FPN, stride 8, 256 channels, 7 x 7, 128 RoIs', 256, 8, 7, 128, (80, 160)),
        ('FPN, stride 16, 256 channels, 7 x 7, 128 RoIs', 256, 16, 7, 128, (160, 320)),
        ('C4, stride 16, 1,024 channels, 14 x 14, 128 RoIs', 1024, 16, 14, 128, (20, 250)),
        ('SynthPS, stride 4, 32 channels, 7 x 7, 100 RoIs', 32, 4, 7, 100, (20, 80)),
    ]
    for name, channels, stride, bins, count, sizes in layers:
        height, width = (-(-length // stride) for length in SIZE)
        feats = torch.randn(1, channels, height, width, generator=generator)
        rois = torch.cat([torch.zeros(count, 1), random_boxes(count, sizes, generator)], 1)
        gradient = torch.randn(count, channels, bins, bins, generator=generator)
        args = (1 / stride, 2, True)
        yield f'RoIAlign, {name}', lambda f=feats, r=rois, b=bins, a=args: kernels.roi_align(f, r, (b, b), *a)
        yield (
            f'its gradient, {name}',
            lambda f=feats, r=rois, g=gradient, a=args: kernels.roi_align_backward(g, r, tuple(f.shape), *a),
        )
    for channels, stride in ((256, 8), (1024, 16)):
        height, width = (-(-length // stride) for length in SIZE)
        feats = torch.randn(1, channels, height, width, generator=generator)
        offset = torch.randn(1, 18, height, width, generator=generator)
        weight = torch.randn(256, channels, 3, 3, generator=generator) / 100
        gradient = torch.randn(1, 256, height, width, generator=generator)
        inputs, settings = (feats, offset, None, weight), ((1, 1), (1, 1), (1, 1), 1)
        name = f'3 x 3, stride {stride}, {channels:,} to 256 channels'
        yield f'deformable convolution, {name}', lambda i=inputs, s=settings: kernels.deform_conv(*i, None, *s)
        yield f'its gradients, {name}', lambda i=inputs, s=settings, g=gradient: kernels.deform_conv_backward(*i, g, *s)


def detectors(kernels: types.ModuleType) -> Iterator[tuple[str, Callable]]:
    """Yields a name and a call without arguments for a training step and the inference of each detector."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((1, 3, *SIZE), dtype=np.float32))
    sample = DetDataSample(
        metainfo=dict(img_id=0, img_shape=SIZE, ori_shape=SIZE, pad_shape=SIZE, batch_input_shape=SIZE, scale_factor=(1.0, 1.0))
    )
    boxes = random_boxes(PERSONS, (40, 120), torch.Generator().manual_seed(1))
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.zeros(PERSONS, dtype=torch.long), person_ids=torch.arange(PERSONS)
    )
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    for name, base in (('OIM R18-FPN', 'oim_r18_fpn'), ('SeqNet R50-C4', 'seqnet_r50_c4')):
        torch.manual_seed(0)
        cfg = Config.fromfile(MODELS_FOLDER / f'{base}.py')
        cfg.merge_from_dict({'model.backbone.init_cfg': None})
        with DefaultScope.overwrite_default_scope('mmps'):
            detector = MODELS.build(cfg.model)
        detector.memory.resize(10)

        def step(detector: TwoStagePersonSearch = detector) -> None:
            operators.on_cpu = kernels
            torch.manual_seed(0)
            losses = detector.train().loss(images, [sample.clone()])
            parts = [losses[key] for key in losses if 'loss' in key]
            parts = [term for part in parts for term in (part if isinstance(part, list | tuple) else [part])]
            total = torch.stack([term.sum() for term in parts]).sum()
            detector.zero_grad()
            total.backward()

        @torch.no_grad()
        def infer(detector: TwoStagePersonSearch = detector) -> None:
            operators.on_cpu = kernels
            detector.eval().predict(images, [sample.clone()])

        yield f'{name}, training step', step
        yield f'{name}, inference', infer


def seconds(call: Callable) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('wheel', type=Path, help='wheel of compiled mmcv')
    parser.add_argument('--rounds', type=int, default=3, help='turns of each side (%(default)s)')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='of the CPU (%(default)s)')
    parser.add_argument('--only', nargs='+', default=['*'], help='measure only names with one of these patterns')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    compiled, rows = compiled_kernels(args.wheel), []
    for part in (single_operators, detectors):
        for (name, ours), (_, theirs) in zip(part(torch_kernels), part(compiled), strict=True):
            if not any(fnmatch.fnmatch(name.lower(), f'*{pattern.lower()}*') for pattern in args.only):
                continue
            ours(), theirs()  # warm up
            times = [(seconds(ours), seconds(theirs)) for _ in range(args.rounds)]
            mine, others = (statistics.median(side) for side in zip(*times, strict=True))
            rows.append([name, f'{mine * 1000:.1f}', f'{others * 1000:.1f}', f'{others / mine:.2f}'])
            print(' | '.join(rows[-1]), file=sys.stderr, flush=True)
    print(f'\n{args.threads} threads, medians of {args.rounds}\n')
    print(markdown_table(['', 'PyTorch, ms', 'compiled mmcv, ms', 'times faster'], rows))


if __name__ == '__main__':
    run_tool(main)
