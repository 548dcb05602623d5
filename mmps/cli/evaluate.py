"""Scores a file of predictions, of mmps or of any other program.

It scores every search that the data set offers, and detection.
"""

from pathlib import Path

from mmps.apis import write_scores

from .predictions import open_predictions, predictions_parser, score_as_asked


def main() -> None:
    parser = predictions_parser(__doc__)
    parser.add_argument('--out', type=Path, help='also write scores.json, scores.md and the charts to this folder')
    args = parser.parse_args()
    scores = score_as_asked(args, *open_predictions(args))
    print(scores.text())
    if args.out:
        write_scores(args.out, scores)
        print(f'{args.out}: scores.json, scores.md and charts')
