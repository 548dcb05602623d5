"""Times a distillation step against its parts: the student's own training step and the teacher's forward pass.

    python tools/benchmarks/distillation.py STUDENT TEACHER [--methods gdps ...] [--rounds 20] [--teacher KEY=VALUE ...]

STUDENT and TEACHER are configs. All parts take turns on the same random images (of the training size, with persons), so that
other load on the machine slows all. Prints a table of medians over the rounds; on a CPU they are CPU time. What distillation
adds, in per cent, is (distillation step) / (student's step + teacher's forward) - 1, computed round by round.

``--teacher`` sets how the teacher runs, for example teacher_channels_last=False teacher_autocast=bfloat16
teacher_compile=True. ``--cache`` takes the teacher's embeddings from memory, as from a teacher cache, and compares with the
student's step alone.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS, DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mmps.cli import run_tool
from mmps.distillation import PersonSearchDistill
from mmps.distillation.recorders import Boxes, RecorderManager
from mmps.distillation.teachers import Teacher
from mmps.evaluation.tables import markdown_table
from mmps.models.detectors import AlignPS, TwoStagePersonSearch
from mmps.registry import MODELS

DISTILLERS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'distillers'
IDENTITIES = 200
Detector = AlignPS | TwoStagePersonSearch


class ReadyTeacher(Teacher):
    """A teacher that returns given embeddings of given boxes, as a cached teacher does."""

    def __init__(self, detector: Detector, embeddings: list[torch.Tensor], boxes: list[torch.Tensor]):
        super().__init__()
        self.detector, self.embeddings, self.boxes = detector, embeddings, boxes

    @property
    def network(self) -> nn.Module:
        return self

    @property
    def memory(self) -> nn.Module:
        return self.detector.memory

    def choose_boxes(self, samples: list, jitter: float) -> list[torch.Tensor]:
        return self.boxes

    def record_from_images(self, recorders: RecorderManager, images: torch.Tensor, samples: list, boxes: Boxes) -> None:
        with recorders:
            self.embed(samples, boxes.to_embed)

    def embed(self, samples: list, boxes: list[torch.Tensor]) -> list[torch.Tensor]:
        return self.embeddings


def random_batch(cfg: Config, persons: int, seed: int = 0) -> tuple[torch.Tensor, list]:
    """Returns random images of the training size and their samples, with ``persons`` persons in each."""
    generator = torch.Generator().manual_seed(seed)
    width, height = next(each.scale for each in cfg.train_dataloader.dataset.pipeline if 'scale' in each)
    size = -(-height // 32) * 32, -(-width // 32) * 32
    samples = []
    for index in range(cfg.train_dataloader.batch_size):
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=size,
                batch_input_shape=size,
                pad_shape=size,
                ori_shape=size,
                scale_factor=(1.0, 1.0),
                flip=False,
            )
        )
        sides = torch.tensor([width / 16, height / 4]) * (0.5 + torch.rand(persons, 2, generator=generator))
        corners = torch.rand(persons, 2, generator=generator) * (torch.tensor([width, height]) - sides)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corners, corners + sides], 1),
            labels=torch.zeros(persons, dtype=torch.long),
            person_ids=torch.randint(-1, IDENTITIES, (persons,), generator=generator),
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample.to(get_device()))
    return torch.randn(len(samples), 3, *size, generator=generator).to(get_device()), samples


def build_detector(cfg: Config) -> Detector:
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.memory.resize(IDENTITIES)
    model.memory.lut.copy_(F.normalize(torch.randn_like(model.memory.lut)))
    return model.to(get_device())


def training_step(
    model: Detector | PersonSearchDistill, cfg: Config, images: torch.Tensor, samples: list, amp: bool
) -> Callable[[], None]:
    """Returns a call that takes one training step, as MMEngine's runner does."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='AmpOptimWrapper' if amp else 'OptimWrapper',
            clip_grad=cfg.optim_wrapper.get('clip_grad'),
            optimizer=OPTIMIZERS.build({'params': weights, **cfg.optim_wrapper.optimizer}),
        )
    )
    model.train()

    def step() -> None:
        with wrapper.optim_context(model):
            losses = model.loss(images, samples)
        wrapper.update_params(model.parse_losses(losses)[0])

    return step


def seconds(call: Callable[[], None]) -> float:
    """Returns the wall-clock seconds of a call on a GPU, or its CPU seconds if there is no GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(student: Config, teacher: Config, distil: dict, args: argparse.Namespace) -> np.ndarray:
    """Returns seconds (rounds, 4).

    The columns are the student's step, the teacher's plain forward, the distillation step, and the teacher's forward with the
    settings that it has in that step.
    """
    images, samples = random_batch(student, args.persons)
    plain, source = build_detector(student), build_detector(teacher).eval()
    taught_by: nn.Module = build_detector(teacher)
    options = dict(args.teacher)
    if args.cache:
        boxes = [sample.gt_instances.bboxes for sample in samples]
        with torch.no_grad():
            taught_by = ReadyTeacher(source, source.embed(source.extract_feat(images), boxes), boxes)
        options['box_jitter'] = 0
    model = MODELS.build(
        {'type': 'PersonSearchDistill', 'architecture': student.model, 'teacher': taught_by, **distil, **options}
    )
    model.memory.resize(IDENTITIES)
    model.memory.lut.copy_(plain.memory.lut)
    model.student.load_state_dict(plain.state_dict())
    model.to(get_device())

    @torch.no_grad()
    def bare() -> None:
        with torch.autocast(images.device.type, enabled=args.amp):
            source.extract_feat(images)

    @torch.no_grad()
    def as_distilled() -> None:
        teacher = model.teacher
        with torch.autocast(images.device.type, teacher.dtype, enabled=args.amp or bool(teacher.dtype)):
            teacher.network.extract_feat(images.contiguous(memory_format=teacher.memory_format))

    parts = [
        training_step(plain, student, images, samples, args.amp),
        (lambda: None) if args.cache else bare,
        training_step(model, student, images, samples, args.amp),
        (lambda: None) if args.cache else as_distilled,
    ]
    times = [[seconds(part) for part in parts] for _ in range(args.rounds + 3)]
    return np.array(times[3:])  # the first ones warm up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('student', help='config')
    parser.add_argument('teacher_config', metavar='teacher', help='config')
    parser.add_argument(
        '--methods',
        nargs='+',
        default=['gdps', 'gdps:loss_feature', 'gdps:loss_relation', 'gdps:loss_response'],
        help='names of files in configs/_base_/distillers; NAME:LOSS for one loss of a method',
    )
    parser.add_argument('--rounds', type=int, default=20, help='turns of each part (%(default)s)')
    parser.add_argument('--persons', type=int, default=6, help='in each image (%(default)s)')
    parser.add_argument('--threads', type=int, help='of the CPU')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision, on a GPU')
    parser.add_argument('--cache', action='store_true', help="take the teacher's embeddings from memory")
    parser.add_argument('--teacher', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE', help='how the teacher runs')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    student, teacher = Config.fromfile(args.student), Config.fromfile(args.teacher_config)
    rows = []
    with DefaultScope.overwrite_default_scope('mmps'):
        for method in args.methods:
            name, _, loss = method.partition(':')
            distil = Config.fromfile(DISTILLERS / f'{name}.py').distil
            distil.distiller.losses = [loss] if loss else None
            times = measure(student, teacher, distil, args)
            share = np.percentile(times[:, 2] / times[:, :2].sum(1) - 1, [25, 50, 75]) * 100
            own = np.median(times[:, 2] - times[:, :2].sum(1))
            rows.append(
                [
                    method,
                    *(f'{value * 1000:.1f}' for value in [*np.median(times, axis=0), own]),
                    f'{share[1]:+.1f} ({share[0]:+.1f} to {share[2]:+.1f})',
                ]
            )
            print(' | '.join(rows[-1]), file=sys.stderr, flush=True)
    print(
        markdown_table(
            [
                'method',
                "student's step, ms",
                "teacher's bare forward, ms",
                'distillation step, ms',
                "teacher's forward in it, ms",
                'added, ms',
                'added, % (quartiles)',
            ],
            rows,
        )
    )


if __name__ == '__main__':
    run_tool(main)
