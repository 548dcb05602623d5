"""Writes the scores, charts, searches and worst failures of a finished test as HTML."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mmps.apis import write_scores
from mmps.apis.scoring import annotated_persons, chart_path
from mmps.evaluation import worst_queries
from mmps.visualization import draw_rows, failure_rows, search_rows, write_picture, write_search_report

from .predictions import open_predictions, predictions_parser, score_as_asked
from .run import few


def main() -> None:
    parser = predictions_parser(__doc__)
    parser.add_argument('--out', type=Path, required=True, help='folder for report.html, its pictures and scores.json')
    parser.add_argument('--show-queries', type=few, default=12, help='how many searches to show, drawn evenly (default 12)')
    parser.add_argument('--show-failures', type=few, default=12, help='how many of the worst searches to show (default 12)')
    args = parser.parse_args()
    dataset, predictions = open_predictions(args)
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(
            f'{missing[0]}: no such file; expected the images of the data set, of which {len(missing)} are '
            'missing (mmps evaluate needs none)'
        )
    scores = score_as_asked(args, dataset, predictions)
    protocol, result = scores.searches[scores.headline].protocol, scores.results[scores.headline]
    evenly = np.unique(np.linspace(0, protocol.num_queries - 1, args.show_queries).round().astype(int)).tolist()
    pictures = write_scores(args.out, scores)
    boxes, person_ids = annotated_persons(dataset)  # who is who, the data set says, not the file
    predictions = replace(predictions, gt_boxes=boxes, gt_person_ids=person_ids, gt_embeddings=None)
    for name, rows in (
        ('Searches', search_rows(protocol, predictions, paths, evenly, score_thr=args.score_thr, result=result)),
        (
            'Failures',
            failure_rows(
                protocol,
                predictions,
                result,
                paths,
                worst_queries(result, args.show_failures).tolist(),
                score_thr=args.score_thr,
            ),
        ),
    ):
        if rows:
            pictures[name] = draw_rows(rows)
            write_picture(chart_path(args.out, name), pictures[name])
    title = f'Person search: {Path(args.predictions).stem}, {scores.headline}'
    write_search_report(args.out / 'report.html', title, scores.tables(), pictures)
    print(args.out / 'report.html')
