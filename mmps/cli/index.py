"""Adds everybody in images and videos to a gallery."""

import json

from .searching import add_json, model_parser, open_inferencer


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument('inputs', nargs='+', help='images, videos, folders, patterns, URLs of streams')
    parser.add_argument('--camera', default='', help='name of the camera')
    parser.add_argument('--start', type=float, default=0.0, help='time of the first frame, in seconds (%(default)s)')
    parser.add_argument('--stride', type=int, default=1, help='only every n-th frame of a video (%(default)s)')
    parser.add_argument('--fps', type=float, help='so many frames of a video a second, in place of --stride')
    parser.add_argument('--since', type=float, metavar='SECONDS', help='only frames of a video from this second of it on')
    parser.add_argument('--until', type=float, metavar='SECONDS', help='only frames of a video before this second of it')
    parser.add_argument('--tracks', action='store_true', help='a person in consecutive frames is one record')
    parser.add_argument(
        '--timeout', type=float, default=30.0, help='a stream without a frame for so many seconds has ended (%(default)s)'
    )
    parser.add_argument('--only-new', action='store_true', help='pass over what the gallery has whole, with the same settings')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time (%(default)s)')
    add_json(parser)
    args = parser.parse_args()
    inferencer = open_inferencer(args, show_progress=not args.json)
    given = ('inputs', 'camera', 'start', 'stride', 'batch_size', 'fps', 'tracks', 'timeout', 'only_new', 'since', 'until')
    counts = inferencer.index(**{name: getattr(args, name) for name in given})
    inferencer.close()
    if args.json:
        print(json.dumps(counts))
    else:
        print(', '.join(f'{count} {name}' for name, count in counts.items()))
