"""Shows a gallery, or removes persons from it."""

import argparse
import json

from mmps.apis.gallery import Gallery
from mmps.apis.storage import INDEXES
from mmps.evaluation.tables import markdown_table

from .searching import add_gallery, add_json, add_model, add_where, open_inferencer, where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest='action', required=True)
    info = actions.add_parser('info', help='lists the sources and counts the persons')
    add_json(info)
    remove = actions.add_parser('remove', help='removes persons for good, for example of a camera')
    add_where(remove)
    index = actions.add_parser('index', help="builds a server's index, and keeps to it whatever the size")
    for action in (info, remove, index):
        add_gallery(action)
    index.add_argument('kind', choices=INDEXES, help='FLAT is exact; HNSW is faster where there are many persons')
    forget = actions.add_parser('forget', help='removes one person for good: every sighting that is similar enough')
    add_model(forget)
    add_json(forget)
    forget.add_argument('query', help='an image that shows the person')
    forget.add_argument('--box', type=float, nargs=4, required=True, metavar=('X', 'Y', 'W', 'H'), help='the person, in pixels')
    forget.add_argument(
        '--min-similarity', type=float, required=True, help="sightings that are at least so similar are the person's"
    )
    forget.add_argument('--dry-run', action='store_true', help='only count')
    args = parser.parse_args()
    if args.action == 'forget':
        forget_person(args)
        return
    with Gallery(args.gallery) as gallery:
        if args.action == 'remove':
            print(f'{gallery.remove(where(args))} persons removed, {len(gallery)} left')
            return
        if args.action == 'index':
            gallery.build_index(args.kind)
            print(f'{args.kind} index of {len(gallery)} persons')
            return
        sources = list(gallery.sources())
        about = dict(model=gallery.model, persons=len(gallery), sources=sources)
    if args.json:
        print(json.dumps(about))
        return
    print(f'{about["persons"]} persons, found by {about["model"]}\n')
    rows = [[each['source'], each['camera'], str(each['next_frame']), 'yes' if each['complete'] else 'no'] for each in sources]
    print(markdown_table(['source', 'camera', 'frames', 'complete'], rows))


def forget_person(args: argparse.Namespace) -> None:
    inferencer = open_inferencer(args, show_progress=False, must_exist=True)
    count = inferencer.forget(args.query, args.box, args.min_similarity, args.dry_run)
    inferencer.close()
    if args.json:
        print(json.dumps(dict(persons=count, removed=not args.dry_run)))
    else:
        print(f'{count} sightings {"would be " if args.dry_run else ""}removed')
