#!/usr/bin/env python
"""Tests a checkpoint: search and detection scores, and if asked the predictions and a picture of ranked results."""
import os.path as osp

import numpy as np
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmps.apis import config_parser, load_config, run_tool
from mmps.models.checkpoint import load_exactly
from mmps.visualization import search_rows, write_rows


def main() -> None:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file; a distilled student is tested with its plain config')
    parser.add_argument('--out', help='write the predictions to this file (npz)')
    parser.add_argument('--show-dir', help='write ranked_results.png, queries and their first results, to this folder')
    parser.add_argument('--show-queries', type=int, default=12, help='how many queries it shows, drawn evenly')
    args = parser.parse_args()
    cfg = load_config(args)
    cfg.load_from, cfg.resume = None, False  # the checkpoint on the command line is the one that is tested
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
