"""Trains a detector, or a student under distillation, from a config."""

from mmengine.device import get_device

from mmps.registry import RUNNERS

from .resuming import checkpoint_to_resume
from .run import config_parser, load_config


def main() -> None:
    parser = config_parser(__doc__)
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16, or what optim_wrapper.dtype says')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint; without a path, from the latest in the work directory',
    )
    args = parser.parse_args()
    cfg = load_config(args)
    if args.amp:
        if get_device() == 'cpu':
            raise ValueError("--amp needs a GPU: MMEngine's AmpOptimWrapper trains on none else")
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError(f'--auto-scale-lr: {args.config} has no auto_scale_lr with a base_batch_size')
        cfg.auto_scale_lr.enable = True
    checkpoint = checkpoint_to_resume(args.resume, cfg.work_dir) if args.resume else None
    if checkpoint:
        cfg.resume, cfg.load_from = True, checkpoint
    runner = RUNNERS.build(cfg)
    if args.resume and not checkpoint:
        runner.logger.info(f'--resume: there is no checkpoint in {cfg.work_dir} yet, so the training begins anew')
    runner.train()
