"""The demo: a teacher, a plain student and the same student under GDPS, trained and tested on scenes drawn on the spot."""
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmps.evaluation import SearchProtocol, colour_histogram, load_predictions, search_scores
from mmps.evaluation.tables import markdown_table
from mmps.registry import DATASETS, MODELS
from mmps.synthetic import generate
from mmps.visualization import search_rows
from mmps.visualization.report import Row, write_report

from .jobs import Job, run_jobs
from .logs import losses, scalars
from .runs import TrainingFolder

TEACHER = 'oim/oim_r18-w32-fpn_10e_synthps-mini.py'
STUDENT = 'oim/oim_r18-w8-fpn_10e_synthps-mini.py'
GDPS = 'gdps/gdps_oim-r18-w32_oim-r18-w8_10e_synthps-mini.py'
SCORES = {'mAP': 'search/mAP', 'top-1': 'search/top-1', 'det AP': 'search/det_AP'}


@dataclass
class Run(TrainingFolder):
    """One training and its test.

    Attributes:
        name: Of its folder below the demo's.
        role: teacher, student or gdps: the row of the table it belongs to.
        config: Path of its config.
        tested_as: Path of the config it is tested with.
        data: Overrides that lead either config to the data.
        options: Overrides of the training config.
    """
    name: str
    role: str
    config: Path
    tested_as: Path
    work_dir: Path
    data: dict
    options: dict = field(default_factory=dict)
    made_by: ClassVar[str] = 'the demo'
    stamp_name: ClassVar[str] = 'demo_config.py'

    @property
    def loaded(self) -> Config:
        cfg = Config.fromfile(self.config)
        cfg.merge_from_dict({**self.data, **self.options})
        return cfg

    def command(self, tools: Path) -> list[str]:
        return [sys.executable, str(tools / 'train.py'), str(self.config), '--work-dir', str(self.work_dir), '--resume',
                '--cfg-options', *(f'{key}={value}' for key, value in {**self.data, **self.options}.items())]

    def test_command(self, tools: Path) -> list[str]:
        return [sys.executable, str(tools / 'test.py'), str(self.tested_as), str(self.checkpoint), '--work-dir',
                str(self.work_dir / 'test'), '--out', str(self.predictions),
                '--cfg-options', *(f'{key}={value}' for key, value in self.data.items())]

    @property
    def predictions(self) -> Path:
        return self.work_dir / 'test' / 'predictions.npz'

    @property
    def is_tested(self) -> bool:
        return self.predictions.is_file() and super().is_tested


def demo(configs: Path, tools: Path, work_dir: Path, data_root: Path, seeds: int = 1) -> Path:
    """Runs the whole demo, prints its table and writes ``report.html``. Finished parts of an earlier call are used again.

    Args:
        configs: The folder of mmps's configs.
        tools: The folder of its tools.
        work_dir: Where all runs go.
        data_root: Where SynthPS mini is, or will be drawn.
        seeds: With how many seeds, 0, 1, ..., both students are trained.

    Returns:
        The report's path.
    """
    generate(data_root, 'cuhk-sysu', 'mini', seed=0, workers=os.cpu_count() or 1)
    runs = list_runs(configs, work_dir, data_root, seeds)
    for run in runs:
        run.forget_if_changed()
    if not runs[0].is_trained:  # what was distilled, or begun, with another teacher must go
        for run in runs:
            if run.role == 'gdps':
                run.forget()
    train(runs, tools)
    test(runs, tools)
    dataset, protocol, paths = test_set(configs / STUDENT, data_root)
    rows = table_rows(runs, dataset, protocol, paths)
    print('\n' + table(rows, seeds))
    report = work_dir / 'report.html'
    write_report(report, table(rows, seeds), {run.name: losses(run.work_dir) for run in runs},
                 search_pictures(runs, protocol, paths))
    print(f'\n{report}')
    return report


def list_runs(configs: Path, work_dir: Path, data_root: Path, seeds: int) -> list[Run]:
    """The teacher, then for each seed the plain and the distilled student."""
    roots = {f'{split}_dataloader.dataset.data_root': str(data_root) for split in ('train', 'val', 'test')}
    teacher = Run('teacher', 'teacher', configs / TEACHER, configs / TEACHER, work_dir / 'teacher', roots)
    runs = [teacher]
    for seed in range(seeds):
        seeded = {'randomness.seed': seed}
        runs.append(Run(f'student, seed {seed}', 'student', configs / STUDENT, configs / STUDENT,
                        work_dir / f'student_seed{seed}', roots, seeded))
        runs.append(Run(f'student + GDPS, seed {seed}', 'gdps', configs / GDPS, configs / STUDENT,
                        work_dir / f'gdps_seed{seed}', roots,
                        {**seeded, 'model.teacher_ckpt': str(teacher.checkpoint)}))
    return runs


def train(runs: Sequence[Run], tools: Path) -> None:
    """Trains what is not trained yet, two at a time; GDPS waits for its teacher."""
    todo = [run for run in runs if not run.is_trained]
    pending = {run.name for run in todo}
    jobs = []
    for run in todo:
        shutil.rmtree(run.work_dir / 'test', ignore_errors=True)
        steps = run.loaded.max_epochs * num_batches(run.loaded)
        jobs.append(Job(run.name, run.command(tools), run.work_dir / 'train.log', steps,
                        lambda run=run: max((entry.get('iter', 0) for entry in scalars(run.work_dir)), default=0),
                        after=[runs[0].name] if run.role == 'gdps' and runs[0].name in pending else []))
    if todo:
        print(f'Training {len(todo)} of {len(runs)} runs; logs in {runs[0].work_dir.parent}/*/train.log', flush=True)
        run_jobs(jobs, workers=2)


def num_batches(cfg: Config) -> int:
    dataset = build_dataset(cfg.train_dataloader.dataset)
    return -(-len(dataset) // cfg.train_dataloader.batch_size)


def build_dataset(cfg: dict):
    with DefaultScope.overwrite_default_scope('mmps'):
        return DATASETS.build(cfg)


def test(runs: Sequence[Run], tools: Path) -> None:
    """Tests, one at a time, whose time is to be compared."""
    for run in runs:
        if run.is_tested:
            continue
        run_jobs([Job(f'test {run.name}', run.test_command(tools), run.work_dir / 'test.log', 1,
                      lambda run=run: int(run.predictions.is_file()))], workers=1)


def test_set(config: Path, data_root: Path) -> tuple:
    """The test data set, its protocol and the paths of its images."""
    cfg = Config.fromfile(config).test_dataloader.dataset
    dataset = build_dataset({**cfg, 'data_root': str(data_root)})
    return dataset, dataset.metainfo['protocol'], [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


def table_rows(runs: Sequence[Run], dataset, protocol: SearchProtocol, paths: Sequence[str]) -> list[Row]:
    """Rows of the table: the colour histogram, then teacher, student and distilled student over the seeds."""
    rows = [Row('colour histogram, given boxes', histogram_scores(dataset, protocol, paths))]
    names = {'teacher': 'teacher (OIM, R18 x 1/2)', 'student': 'student (OIM, R18 x 1/8)', 'gdps': 'student + GDPS'}
    for role, name in names.items():
        of_role = [run for run in runs if run.role == role]
        tested = [run.test_scores() for run in of_role]
        scores = {label: [score[key] * 100 for score in tested] for label, key in SCORES.items()}
        rows.append(Row(name, scores, num_parameters(of_role[0].tested_as), np.mean([s['time'] for s in tested]) * 1000))
    return rows


def histogram_scores(dataset, protocol: SearchProtocol, paths: Sequence[str]) -> dict[str, list[float]]:
    """How far colours alone lead, even with the annotated boxes for detections."""
    boxes, embeddings, queries = [], [], [None] * protocol.num_queries
    for index, path in enumerate(paths):
        image = cv2.imread(path)
        boxes.append(np.array([instance['bbox'] for instance in dataset.get_data_info(index)['instances']],
                              dtype=np.float32).reshape(-1, 4))
        embeddings.append(colour_histogram(image, boxes[-1]))
        asked = np.flatnonzero(protocol.query_images == index)
        for query, histogram in zip(asked, colour_histogram(image, protocol.query_boxes[asked]), strict=True):
            queries[query] = histogram
    result = search_scores(protocol, boxes, [np.ones(len(b), np.float32) for b in boxes], embeddings,
                           np.stack(queries))
    return {'mAP': [result.mAP * 100], 'top-1': [result.topk[1] * 100]}


def num_parameters(config: Path) -> int:
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(Config.fromfile(config).model)
    return sum(parameter.numel() for parameter in model.parameters())


def table(rows: Sequence[Row], seeds: int) -> str:
    """The rows as a Markdown table; more than one seed as mean and spread."""
    columns = ['mAP', 'top-1', 'det AP', 'parameters', 'ms / image']
    text = markdown_table(['', *columns], [[row.name, *row.cells(columns)] for row in rows])
    spread = f'; students: mean and standard deviation of {seeds} seeds' if seeds > 1 else ''
    return f'{text}\n\nSynthPS mini, per cent{spread}'


def search_pictures(runs: Sequence[Run], protocol: SearchProtocol, paths: Sequence[str], count: int = 6) -> dict:
    """For some queries, drawn evenly, and for one run of each row: the query and its first five results."""
    queries = np.unique(np.linspace(0, protocol.num_queries - 1, count).round().astype(int))
    first = {run.role: run for run in reversed(runs)}
    per_run = {role: search_rows(protocol, load_predictions(first[role].predictions), paths, queries)
               for role in ('teacher', 'student', 'gdps')}
    return {int(query): {first[role].name: rows[i] for role, rows in per_run.items()} for i, query in enumerate(queries)}
