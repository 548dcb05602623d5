"""Shows a gallery, or removes persons from it."""

import argparse
import json

from mmps.apis.gallery import Gallery
from mmps.evaluation.tables import markdown_table

from .searching import add_where, where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest='action', required=True)
    info = actions.add_parser('info', help='lists the sources and counts the persons')
    info.add_argument('--json', action='store_true', help='print JSON')
    remove = actions.add_parser('remove', help='removes persons for good, for example of a camera')
    add_where(remove)
    for action in (info, remove):
        action.add_argument('gallery', help='a file name ending in .db, or http://host:19530')
    args = parser.parse_args()
    with Gallery(args.gallery) as gallery:
        if args.action == 'remove':
            print(f'{gallery.remove(where(args))} persons removed, {len(gallery)} left')
            return
        sources = list(gallery.sources())
        about = dict(model=gallery.model, persons=len(gallery), sources=sources)
    if args.json:
        print(json.dumps(about))
        return
    print(f'{about["persons"]} persons, found by {about["model"]}\n')
    rows = [[each['source'], each['camera'], str(each['next_frame']), 'yes' if each['complete'] else 'no'] for each in sources]
    print(markdown_table(['source', 'camera', 'frames', 'complete'], rows))
