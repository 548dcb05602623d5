"""Writes a teacher's mean embedding of every identity of its training set.

A student's LookupTableHook reads this file.
"""

import argparse

from mmengine.config import Config

from mmps.distillation.lookup_table import export_lookup_table

from .run import add_overrides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="the teacher's config; its training set must be the student's")
    parser.add_argument('checkpoint', help="the teacher's checkpoint")
    parser.add_argument('--out', required=True, metavar='FILE.npz', help='where the table goes')
    parser.add_argument(
        '--dims',
        type=int,
        metavar='N',
        help="the student's embedding size: fewer than the teacher's are the leading principal directions, "
        "more are filled up with zeros (default: the teacher's)",
    )
    add_overrides(parser, 'overrides of the config; lists as KEY="[a,b]"')
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    print(export_lookup_table(cfg, args.checkpoint, args.out, args.dims))
