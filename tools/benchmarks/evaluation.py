"""Times the scores on simulated results for the real PRW and CUHK-SYSU protocols, and on galleries 4 and 16 times PRW's.

    python tools/benchmarks/evaluation.py --golden ../shared/golden [--seqnet FOLDER] [--device cuda]

``--seqnet`` runs the published evaluator of a clone of SeqNet beside ours, on the same arrays, in the same process; it needs
scikit-learn and tabulate, and with PRW's 300 first queries some minutes.
"""

import argparse
import contextlib
import importlib.util
import io
import os
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from mmps.evaluation import (
    CBGM,
    Candidates,
    NumPyProduct,
    Search,
    SearchProtocol,
    TorchProduct,
    detection_scores,
    score_searches,
    search_scores,
)
from mmps.evaluation.tables import markdown_table
from mmps.synthetic import mat5

CONTEXT = {'prw': CBGM(30, 4), 'cuhk': CBGM(10, 3)}


def protocol_of(case: dict) -> SearchProtocol:
    images, queries = case['images'], case['queries']
    names, cameras = [image['img_name'] for image in images], [image['cam_id'] for image in images]
    query = ([q['img_name'] for q in queries], [q['box'] for q in queries], [q['person_id'] for q in queries])
    if queries[0]['gallery'] is None:
        boxes, person_ids = [image['boxes'] for image in images], [image['person_ids'] for image in images]
        return SearchProtocol.from_identities(names, cameras, boxes, person_ids, *query)
    return SearchProtocol.from_galleries(names, cameras, *query, [q['gallery'] for q in queries])


def arguments_of(case: dict) -> tuple:
    """What search_scores takes."""
    detections = case['detections']
    return (
        protocol_of(case),
        [d[:, :4] for d in detections],
        [d[:, 4] for d in detections],
        case['embeddings'],
        np.stack([query['embedding'] for query in case['queries']]),
    )


def measure(function, *args, runs: int = 3, **kwargs) -> tuple:
    """The result, the median of the seconds of some runs, and the MiB that one more (tracing costs time) takes at most."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        result = function(*args, **kwargs)
        seconds.append(time.perf_counter() - started)
    tracemalloc.start()
    function(*args, **kwargs)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return result, float(np.median(seconds)), peak


def time_scores(cases: dict[str, dict], device: str) -> list[list[str]]:
    rows = []
    for name, case in cases.items():
        arguments = arguments_of(case)
        protocol, boxes, scores = arguments[:3]
        settings = {'search': {}, 'search + CBGM': {'cbgm': CONTEXT[name]}}
        settings |= {'search, other cameras': {'cameras': 'other'}} if name == 'prw' else {}
        for setting, options in settings.items():
            result, seconds, peak = measure(search_scores, *arguments, **options)
            figures = f'mAP {result.mAP * 100:.4f}, top-1 {result.topk[1] * 100:.2f}'
            rows.append([name, f'{setting}, {protocol.num_queries} queries', f'{seconds:.2f}', f'{peak:.0f}', figures])
        if device != 'cpu':
            candidates = Candidates.from_lists(*arguments[:4], arguments[4].shape[1])
            for kind in (NumPyProduct(), TorchProduct(device)):
                result, seconds, peak = measure(score_searches, {'': Search(protocol)}, candidates, arguments[4], product=kind)
                rows.append(
                    [
                        name,
                        f'ranking, {type(kind).__name__}',
                        f'{seconds:.2f}',
                        f'{peak:.0f}',
                        f'mAP {result[""].mAP * 100:.4f}',
                    ]
                )
        found, seconds, peak = measure(detection_scores, boxes, scores, [image['boxes'] for image in case['images']])
        rows.append(
            [
                name,
                f'detection, {len(boxes)} images',
                f'{seconds:.2f}',
                f'{peak:.0f}',
                f'AP {found["ap"] * 100:.2f}, recall {found["recall"] * 100:.2f}',
            ]
        )
    return rows


def time_growth(case: dict, factors: list[int]) -> tuple[list[list[str]], dict[str, float]]:
    """PRW with every image there again under other names, with other faces; and the exponents of time over size."""
    rows, times, rng = [], {'search': [], 'search + CBGM': []}, np.random.default_rng(0)
    for factor in factors:
        grown = {name: list(case[name]) for name in ('images', 'detections', 'embeddings')} | {'queries': case['queries']}
        for copy in range(1, factor):
            for image, detections in zip(case['images'], case['detections'], strict=True):
                noise = rng.normal(size=(len(detections), 256)).astype(np.float32)
                grown['images'].append(
                    {**image, 'img_name': f'{copy} {image["img_name"]}', 'person_ids': np.full_like(image['person_ids'], -1)}
                )
                grown['detections'].append(detections)
                grown['embeddings'].append(noise / np.linalg.norm(noise, axis=1, keepdims=True))
        arguments = arguments_of(grown)
        inputs = sum(array.nbytes for arrays in arguments[1:4] for array in arrays) / 2**20
        for name, options in (('search', {}), ('search + CBGM', {'cbgm': CONTEXT['prw']})):
            result, seconds, peak = measure(search_scores, *arguments, runs=1 if factor > 1 else 3, **options)
            times[name].append(seconds)
            rows.append(
                [
                    f'{factor} x',
                    str(sum(map(len, arguments[2]))),
                    f'{inputs:.0f}',
                    name,
                    f'{seconds:.1f}',
                    f'{peak:.0f}',
                    f'{result.mAP * 100:.2f}',
                ]
            )
    if len(factors) == 1:
        return rows, {}
    return rows, {name: float(np.polyfit(np.log(factors), np.log(seconds), 1)[0]) for name, seconds in times.items()}


class Listed(list):
    """Annotations in the form in which SeqNet's data sets hold them."""

    @property
    def annotations(self) -> list[dict]:
        return self


def write_protocol(path: Path, queries: list[dict]) -> None:
    """The queries with their galleries as CUHK-SYSU's TestG files have them."""

    def seen(name, box):
        corner, size = box[:2], box[2:] - box[:2]
        return mat5.record(mat5.text(name), mat5.numbers([[int(x) for x in (*corner, *size)]]), mat5.numbers([[0]]))

    fields, nothing = ('imname', 'idlocate', 'ishard'), (mat5.empty(), mat5.empty())
    rows = []
    for query in queries:
        listed = [mat5.record(mat5.text(name), *nothing) if box is None else seen(name, box) for name, box in query['gallery']]
        rows.append(
            [
                *mat5.struct((*fields, 'idname'), [mat5.record([seen(query['img_name'], query['box'])], mat5.text('p'))]),
                *mat5.struct(fields, listed),
            ]
        )
    mat5.save(path, mat5.struct(('Query', 'Gallery'), rows, path.stem))


def published_evaluator(folder: Path, case: dict, name: str, cbgm: bool) -> tuple[float, float, float]:
    """Seconds, without reading the protocol's file, mAP and top-1 of SeqNet's own evaluation."""
    sys.path.insert(0, str(folder))
    import eval_func

    persons = [
        {
            'img_name': image['img_name'],
            'boxes': image['boxes'],
            'cam_id': image['cam_id'],
            'pids': np.where(image['person_ids'] < 0, 5555, image['person_ids']),
        }
        for image in case['images']
    ]
    asked = [
        {'img_name': query['img_name'], 'boxes': query['box'], 'pids': query['person_id'], 'cam_id': query['cam_id']}
        for query in case['queries']
    ]
    index = {image['img_name']: i for i, image in enumerate(case['images'])}
    query_detections, query_features = [], []
    for query in case['queries']:
        detections, features = case['detections'][index[query['img_name']]], case['embeddings'][index[query['img_name']]]
        order = [i for i in np.argsort(-detections[:, 4], kind='stable') if detections[i, 4] >= 0.5]
        query_detections.append(np.concatenate([np.append(query['box'], 1)[None], detections[order]]).astype(np.float32))
        query_features.append(np.concatenate([query['embedding'][None], features[order]]))
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / 'vis').mkdir()  # for the file that it writes
        gallery = Listed(persons)
        gallery.root, gallery.img_prefix, evaluate, options, reading = root, '', eval_func.eval_search_prw, {}, 0.0
        if name != 'prw':
            # The number in a file's name is how it is asked for, not what it lists.
            protocol = Path(root) / 'annotation/test/train_test/TestG100.mat'
            protocol.parent.mkdir(parents=True)
            write_protocol(protocol, case['queries'])
            started = time.perf_counter()
            loadmat(protocol)
            reading = time.perf_counter() - started
            evaluate, options = eval_func.eval_search_cuhk, {'gallery_size': 100}
        started = time.perf_counter()
        with contextlib.chdir(root), contextlib.redirect_stdout(io.StringIO()):
            found = evaluate(
                gallery,
                Listed(asked),
                case['detections'],
                case['embeddings'],
                [query['embedding'] for query in case['queries']],
                query_detections,
                query_features,
                cbgm=cbgm,
                **options,
            )
        return time.perf_counter() - started - reading, found['mAP'], found['accs'][0]


def with_galleries(case: dict, size: int, num_queries: int) -> dict:
    """The case with the first of its queries, whose galleries are filled up to a size with images without the target."""
    names, rng, queries = [image['img_name'] for image in case['images']], np.random.default_rng(0), []
    for query in case['queries'][:num_queries]:
        listed = {query['img_name'], *(name for name, _ in query['gallery'])}
        others = [name for name in rng.permutation(names).tolist() if name not in listed]
        gallery = query['gallery'] + [(name, None) for name in others[: size - len(query['gallery'])]]
        queries.append({**query, 'gallery': gallery})
    return {**case, 'queries': queries}


def time_against(folder: Path, cases: dict[str, dict]) -> list[list[str]]:
    rows = []
    for name, case, galleries in (
        ('prw', {**cases['prw'], 'queries': cases['prw']['queries'][:300]}, 'all images'),
        ('cuhk', cases['cuhk'], 'galleries of 100'),
        ('cuhk', with_galleries(cases['cuhk'], 4000, 290), 'galleries of 4,000'),
    ):
        arguments = arguments_of(case)
        for cbgm in (None, CONTEXT[name]):
            theirs, mean_ap, top1 = published_evaluator(folder, case, name, cbgm is not None)
            result, ours, _ = measure(search_scores, *arguments, cbgm=cbgm)
            rows.append(
                [
                    name,
                    f'{len(result.ap)} queries, {galleries}{", CBGM" * (cbgm is not None)}',
                    f'{theirs:.1f}',
                    f'{ours:.2f}',
                    f'{theirs / ours:.0f} x',
                    f'{abs(mean_ap - result.mAP):.1e}',
                    f'{abs(top1 - result.topk[1]):.1e}',
                ]
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--golden', type=Path, required=True, help='folder of search_cases.py')
    parser.add_argument('--seqnet', type=Path, help='folder of a clone of SeqNet')
    parser.add_argument('--device', default='cpu', help='also rank with similarities from this device of PyTorch')
    parser.add_argument('--factors', type=int, nargs='+', default=[1, 4, 16], help="times PRW's gallery (default 1 4 16)")
    arguments = parser.parse_args()
    spec = importlib.util.spec_from_file_location('search_cases', arguments.golden / 'search_cases.py')
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    cases = {'prw': cases.prw_case(0), 'cuhk': cases.cuhk_case(0)}
    print(f'{os.cpu_count()} cores; memory is what comes on top of the inputs\n')
    print(markdown_table(['case', 'what', 'seconds', 'MiB', 'figures'], time_scores(cases, arguments.device)), '\n', flush=True)
    if arguments.seqnet:
        print(
            markdown_table(
                ['case', 'what', 'SeqNet s', 'mmps s', 'faster', 'mAP apart', 'top-1 apart'],
                time_against(arguments.seqnet, cases),
            ),
            '\n',
            flush=True,
        )
    rows, exponents = time_growth(cases['prw'], arguments.factors)
    print(markdown_table(['gallery', 'detections', 'inputs MiB', 'what', 'seconds', 'MiB', 'mAP'], rows))
    print(''.join(f'\n{name}: time grows as size to the power of {exponent:.2f}' for name, exponent in exponents.items()))


if __name__ == '__main__':
    main()
