#!/usr/bin/env python
"""Tests a checkpoint: search and detection scores, and if asked the predictions and a picture of ranked results."""
import argparse
import os
import os.path as osp

import numpy as np
from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmps.apis import run_tool
from mmps.models.checkpoint import load_exactly
from mmps.visualization import search_rows, write_rows


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file; for a distilled student also the plain student\'s')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='where logs go; default work_dirs/CONFIG-NAME')
    parser.add_argument('--out', help='write the predictions to this file (npz)')
    parser.add_argument('--show-dir', help='write ranked_results.png, queries and their first results, to this folder')
    parser.add_argument('--show-queries', type=int, default=12, help='how many queries it shows, drawn evenly')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction,
                        help='overrides of the config, KEY=VALUE; lists as KEY="[a,b]"')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)  # given by torch.distributed.launch
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    cfg.merge_from_dict(args.cfg_options or {})
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    cfg.load_from = None
    if args.out:
        cfg.test_evaluator.outfile = args.out
    runner = Runner.from_cfg(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    load_exactly(getattr(model, 'student', model), args.checkpoint, 'checkpoint')
    runner.test()
    if args.show_dir and is_main_process():
        show(runner, osp.join(args.show_dir, 'ranked_results.png'), args.show_queries)


def show(runner: Runner, path: str, num_queries: int) -> None:
    dataset, metric = runner.test_loop.dataloader.dataset, runner.test_loop.evaluator.metrics[0]
    protocol = dataset.metainfo['protocol']
    queries = np.unique(np.linspace(0, protocol.num_queries - 1, num_queries).round().astype(int))
    image_paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    write_rows(path, search_rows(protocol, metric.predictions, image_paths, queries, 5, metric.score_thr,
                                 metric.other_cameras))
    runner.logger.info(f'Ranked results: {path}')


if __name__ == '__main__':
    run_tool(main)
