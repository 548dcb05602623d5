"""Tests a checkpoint: search and detection scores, predictions and pictures."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmps.fileio.checkpoint import load_exactly

from .run import config_parser, few, load_config


def main() -> None:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file; a distilled student is tested with its plain config')
    parser.add_argument('--out', help='write the predictions to this file (npz)')
    parser.add_argument(
        '--show-dir', help='write ranked_results.png, failures.png, precision_recall.png and similarities.png to this folder'
    )
    parser.add_argument('--show-queries', type=few, default=12, help='how many queries ranked_results.png shows, spread evenly')
    args = parser.parse_args()
    cfg = load_config(args)
    cfg.load_from, cfg.resume = None, False  # the checkpoint on the command line is the one that is tested
    if args.out:
        cfg.test_evaluator.outfile = args.out
    if args.show_dir:
        cfg.merge_from_dict(
            {
                'default_hooks.visualization': dict(
                    type='SearchVisualizationHook', draw=True, num_queries=args.show_queries, test_out_dir=args.show_dir
                )
            }
        )
    runner = Runner.from_cfg(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    load_exactly(getattr(model, 'student', model), args.checkpoint, 'checkpoint')
    runner.test()
