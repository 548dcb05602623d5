"""Finds a person of an image in a gallery."""

import json

from mmps.evaluation.tables import markdown_table

from .searching import add_json, add_where, model_parser, open_inferencer, where


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument('query', help='an image')
    parser.add_argument(
        '--box',
        type=float,
        nargs=4,
        action='append',
        metavar=('X', 'Y', 'W', 'H'),
        help='the person, in pixels; may be repeated; default everybody who is detected',
    )
    parser.add_argument('--same-person', action='store_true', help='the boxes show one person')
    parser.add_argument('--topk', type=int, default=20, help='matches of each (%(default)s)')
    parser.add_argument('--min-similarity', type=float, help='least similarity, -1 to 1')
    parser.add_argument('--best-of', choices=['source', 'camera'], help='only the best match of each')
    add_where(parser)
    parser.add_argument('--out', metavar='DIR', help='write matches.json, matches.csv and matches.png there')
    add_json(parser)
    args = parser.parse_args()
    inferencer = open_inferencer(args, show_progress=not args.json)
    predictions = inferencer(
        args.query,
        args.box,
        args.topk,
        args.min_similarity,
        where(args),
        args.best_of,
        args.same_person,
        out_dir=args.out or '',
    )['predictions']
    inferencer.close()
    if args.json:
        print(json.dumps(predictions))
        return
    rows = [
        [
            str(number),
            str(match['rank']),
            f'{match["similarity"]:.3f}',
            match['source'],
            str(match['frame']),
            f'{match["time"]:.1f}',
            match['camera'],
        ]
        for number, prediction in enumerate(predictions)
        for match in prediction['matches']
    ]
    print(
        markdown_table(['query', 'rank', 'similarity', 'source', 'frame', 'seconds', 'camera'], rows)
        if rows
        else 'nobody found'
    )
