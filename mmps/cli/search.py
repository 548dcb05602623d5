"""Finds a person of an image in a gallery."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mmps.apis.video import is_video
from mmps.evaluation.tables import markdown_table

from .searching import add_json, add_where, model_parser, open_inferencer, where


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument('query', help='an image, or a video with --at')
    parser.add_argument('--at', type=float, metavar='SECONDS', help='the query is a video, and this second of it counts')
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
    parser.add_argument('--cbgm', action='store_true', help='re-rank by the people around the query and around each match')
    add_where(parser)
    parser.add_argument(
        '--gap', type=float, metavar='SECONDS', help='longest gap within an appearance; default as the frames that were indexed'
    )
    parser.add_argument('--out', metavar='DIR', help='write matches.json, matches.csv and matches.png there')
    parser.add_argument('--video', metavar='OUT.mp4', help='write the video of the best match, with the person in a box')
    add_json(parser)
    args = parser.parse_args()
    inferencer = open_inferencer(args, show_progress=not args.json, must_exist=True)
    predictions = inferencer(
        args.query,
        args.box,
        args.topk,
        args.min_similarity,
        where(args),
        args.best_of,
        args.same_person,
        out_dir=args.out or '',
        gap=args.gap,
        cbgm=args.cbgm,
        at=args.at,
    )['predictions']
    if args.video:
        source = video_of(predictions)
        inferencer.draw_video(source, predictions[0], args.video)
    inferencer.close()
    if args.json:
        print(json.dumps(predictions))
        return
    print('\n\n'.join(tables(predictions)) or 'nobody found')


def video_of(predictions: Sequence[Mapping[str, Any]]) -> str:
    """Returns the video of the best match."""
    if len(predictions) != 1:
        raise ValueError(f'--video: expected one person, got {len(predictions)}: give one --box, or --same-person')
    videos = [match['source'] for match in predictions[0]['matches'] if is_video(match['source'])]
    if not videos:
        raise ValueError('--video: there is no match in a video')
    return videos[0]


def tables(predictions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a table of all matches and one of all appearances; none without a match."""
    matches = [
        [
            number,
            each['rank'],
            f'{each["similarity"]:.3f}',
            each['source'],
            each['frame'],
            f'{each["time"]:.1f}',
            each['camera'],
        ]
        for number, prediction in enumerate(predictions)
        for each in prediction['matches']
    ]
    spans = [
        [
            *(number, each['camera'], each['source'], f'{each["since"]:.1f}', f'{each["until"]:.1f}'),
            *(each['matches'], f'{each["similarity"]:.3f}'),
        ]
        for number, prediction in enumerate(predictions)
        for each in prediction['appearances']
    ]
    if not matches:
        return []
    return [
        markdown_table(['query', 'rank', 'similarity', 'source', 'frame', 'seconds', 'camera'], as_text(matches)),
        markdown_table(['query', 'camera', 'source', 'since', 'until', 'matches', 'best'], as_text(spans)),
    ]


def as_text(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in rows]
