#!/usr/bin/env python
"""Trains a detector, or a student under distillation, from a config."""
from mmengine.device import get_device
from mmengine.runner import Runner

from mmps.apis import config_parser, load_config, run_tool


def main() -> None:
    parser = config_parser(__doc__)
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument('--resume', nargs='?', const='auto',
                        help='go on from a checkpoint; without a path, from the latest in the work directory')
    args = parser.parse_args()
    cfg = load_config(args)
    if args.amp:
        if get_device() == 'cpu':
            raise ValueError("--amp needs a GPU: MMCV's operators have no half precision on the CPU")
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError(f'--auto-scale-lr: {args.config} has no auto_scale_lr with a base_batch_size')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    run_tool(main)
