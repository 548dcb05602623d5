"""Draws SynthPS, a data set of drawn pedestrians.

Its files are in CUHK-SYSU's or PRW's layout.
"""

import argparse
from pathlib import Path

import cv2

from mmps.synthetic import LAYOUTS, SIZES, STYLES, contact_sheet, generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', nargs='?', metavar='OUT', help='folder of the data set; must not hold anything else')
    parser.add_argument('--layout', choices=LAYOUTS, default='cuhk-sysu', help='whose files to write (%(default)s)')
    parser.add_argument('--size', choices=SIZES, default='mini', help='how much (%(default)s)')
    parser.add_argument(
        '--style',
        choices=STYLES,
        default='varied',
        help='varied: for detectors that work on photographs; classic: version 1, small and fast to learn (%(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='the same seed draws the same data set (%(default)s)')
    parser.add_argument('--workers', type=int, default=1, help='processes that draw (%(default)s)')
    parser.add_argument(
        '--contact-sheet',
        metavar='FILE.png',
        help='also show some identities across cameras; alone, without OUT, nothing else is written',
    )
    args = parser.parse_args()
    if args.out is None and args.contact_sheet is None:
        parser.error('OUT or --contact-sheet is needed')
    if args.out is not None:
        drawn = generate(args.out, args.layout, args.size, args.seed, args.workers, style=args.style)
        counts = SIZES[args.size]
        print(
            f'{args.out}: {counts.train_scenes} training and {counts.test_scenes} test scenes'
            if drawn
            else f'{args.out} holds this data set already: nothing to do'
        )
    if args.contact_sheet is not None:
        done, data = cv2.imencode('.png', contact_sheet(args.layout, args.size, args.seed, style=args.style))
        if not done:
            raise OSError('OpenCV cannot encode PNG')
        Path(args.contact_sheet).write_bytes(data.tobytes())
