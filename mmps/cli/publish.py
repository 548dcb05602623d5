"""Writes the weights of a checkpoint alone, in float16."""

import argparse

from mmps.apis.converters import publish_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='a checkpoint of a training')
    parser.add_argument('out', help='where the small one goes')
    parser.add_argument('--force', action='store_true', help='replace OUT if it is there')
    args = parser.parse_args()
    print(publish_checkpoint(args.checkpoint, args.out, args.force))
