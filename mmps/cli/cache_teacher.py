"""Writes a teacher's embeddings of the training set's persons to a folder.

A distillation of re-id then needs no teacher. Its config reads them with model.teacher=dict(type='CachedTeacher', path=OUT) and
model.teacher_ckpt=None.
"""

import argparse
from pathlib import Path

from mmengine.config import Config

from mmps.apis import cache_teacher

from .run import add_overrides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a distilled run, with its teacher and teacher_ckpt')
    parser.add_argument('--out', type=Path, required=True, help='folder; what an earlier call left there is gone on with')
    parser.add_argument('--jitters', type=int, help='sets of jittered boxes (default: 4, or 1 where box_jitter is 0)')
    parser.add_argument('--seed', type=int, default=0, help='how the boxes move depends on it (default 0)')
    add_overrides(parser, 'overrides of the config; lists as KEY="[a,b]"')
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    header = cache_teacher(cfg, args.out, args.jitters, args.seed).header
    print(f'{args.out}: {header.boxes} persons of {header.images} images, mirrored too, {header.jitters} jitters each')
