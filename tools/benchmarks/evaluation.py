"""Times the search and detection scores on simulated results for the real PRW and CUHK-SYSU protocols.

    python tools/benchmarks/evaluation.py --golden ../shared/golden [--seqnet CLONE] [--device cuda] [--factors 1 4 16]

Prints three tables of seconds, peak memory (on top of the inputs) and scores:

- ours, on both protocols; ``--device`` adds the ranking with similarities from that device of PyTorch
- ours against SeqNet's, with ``--seqnet``: runs the published evaluator of a clone of SeqNet on the same arrays in the same
  process. It needs scikit-learn and tabulate and, with PRW's first 300 queries, some minutes
- ours on galleries ``--factors`` times as large as PRW's, and how the time grows
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

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
from mmps.synthetic import cuhk_sysu

CONTEXT = {'prw': CBGM(30, 4), 'cuhk': CBGM(10, 3)}
Result = TypeVar('Result')


class Inputs(NamedTuple):
    """The arguments of search_scores."""

    protocol: SearchProtocol
    boxes: list[np.ndarray]
    scores: list[np.ndarray]
    embeddings: list[np.ndarray]
    query_embeddings: np.ndarray


def load_cases(golden: Path) -> dict[str, dict]:
    """Returns the simulated results of both protocols, from the folder's search_cases.py."""
    spec = importlib.util.spec_from_file_location('search_cases', golden / 'search_cases.py')
    assert spec is not None and spec.loader is not None  # it is None only for a name that does not end in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {'prw': module.prw_case(0), 'cuhk': module.cuhk_case(0)}


def to_protocol(case: dict) -> SearchProtocol:
    images, queries = case['images'], case['queries']
    names, cameras = [image['img_name'] for image in images], [image['cam_id'] for image in images]
    query_images, query_ids = [q['img_name'] for q in queries], [q['person_id'] for q in queries]
    query_boxes = np.stack([q['box'] for q in queries])
    if queries[0]['gallery'] is None:
        boxes, person_ids = [image['boxes'] for image in images], [image['person_ids'] for image in images]
        return SearchProtocol.from_identities(names, cameras, boxes, person_ids, query_images, query_boxes, query_ids)
    galleries = [q['gallery'] for q in queries]
    return SearchProtocol.from_galleries(names, cameras, query_images, query_boxes, query_ids, galleries)


def to_inputs(case: dict) -> Inputs:
    detections = case['detections']
    return Inputs(
        to_protocol(case),
        [d[:, :4] for d in detections],
        [d[:, 4] for d in detections],
        case['embeddings'],
        np.stack([query['embedding'] for query in case['queries']]),
    )


def measure(call: Callable[[], Result], runs: int = 3) -> tuple[Result, float, float]:
    """Returns the result, the median seconds of the runs, and the peak MiB of one more run, because tracing takes time."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - started)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return result, float(np.median(seconds)), peak


def time_scores(cases: dict[str, dict], device: str) -> list[list[str]]:
    """Returns the rows of the first table."""
    rows = []

    def add_row(name: str, what: str, seconds: float, peak: float, figures: str) -> None:
        rows.append([name, what, f'{seconds:.2f}', f'{peak:.0f}', figures])

    for name, case in cases.items():
        inputs = to_inputs(case)
        settings: dict[str, dict[str, Any]] = {'search': {}, 'search + CBGM': {'cbgm': CONTEXT[name]}}
        if name == 'prw':
            settings['search, other cameras'] = {'cameras': 'other'}
        for setting, options in settings.items():
            result, seconds, peak = measure(partial(search_scores, *inputs, **options))
            figures = f'mAP {result.mAP * 100:.4f}, top-1 {result.topk[1] * 100:.2f}'
            add_row(name, f'{setting}, {inputs.protocol.num_queries} queries', seconds, peak, figures)
        if device != 'cpu':
            dim = inputs.query_embeddings.shape[1]
            candidates = Candidates.from_lists(inputs.protocol, inputs.boxes, inputs.scores, inputs.embeddings, dim)
            searches = {'': Search(inputs.protocol)}
            for product in (NumPyProduct(), TorchProduct(device)):
                rank = partial(score_searches, searches, candidates, inputs.query_embeddings, product=product)
                results, seconds, peak = measure(rank)
                add_row(name, f'ranking, {type(product).__name__}', seconds, peak, f'mAP {results[""].mAP * 100:.4f}')
        persons = [image['boxes'] for image in case['images']]
        found, seconds, peak = measure(partial(detection_scores, inputs.boxes, inputs.scores, persons))
        figures = f'AP {found["ap"] * 100:.2f}, recall {found["recall"] * 100:.2f}'
        add_row(name, f'detection, {len(persons)} images', seconds, peak, figures)
    return rows


def enlarged(case: dict, factor: int, rng: np.random.Generator) -> dict:
    """Returns PRW's case with every image repeated under other names, with other embeddings and without identities."""
    images, detections, embeddings = (list(case[name]) for name in ('images', 'detections', 'embeddings'))
    for copy in range(1, factor):
        for image, found in zip(case['images'], case['detections'], strict=True):
            noise = rng.normal(size=(len(found), 256)).astype(np.float32)
            unlabelled = np.full_like(image['person_ids'], -1)
            images.append({**image, 'img_name': f'{copy} {image["img_name"]}', 'person_ids': unlabelled})
            detections.append(found)
            embeddings.append(noise / np.linalg.norm(noise, axis=1, keepdims=True))
    return dict(images=images, detections=detections, embeddings=embeddings, queries=case['queries'])


def time_growth(case: dict, factors: list[int]) -> tuple[list[list[str]], dict[str, float]]:
    """Returns the rows of the third table, and for each setting the exponent of the time as a power of the size."""
    rows, rng = [], np.random.default_rng(0)
    settings: dict[str, CBGM | None] = {'search': None, 'search + CBGM': CONTEXT['prw']}
    times: dict[str, list[float]] = {name: [] for name in settings}
    for factor in factors:
        inputs = to_inputs(enlarged(case, factor, rng))
        mebibytes = sum(array.nbytes for arrays in inputs[1:4] for array in arrays) / 2**20
        count = sum(map(len, inputs.scores))
        for name, cbgm in settings.items():
            result, seconds, peak = measure(partial(search_scores, *inputs, cbgm=cbgm), runs=1 if factor > 1 else 3)
            times[name].append(seconds)
            figures = [f'{mebibytes:.0f}', name, f'{seconds:.1f}', f'{peak:.0f}', f'{result.mAP * 100:.2f}']
            rows.append([f'{factor} x', str(count), *figures])
    if len(factors) == 1:
        return rows, {}
    return rows, {name: float(np.polyfit(np.log(factors), np.log(seconds), 1)[0]) for name, seconds in times.items()}


class Annotations(list):
    """Annotations in the form in which SeqNet's data sets hold them."""

    root = img_prefix = ''

    @property
    def annotations(self) -> list[dict]:
        return self


def write_protocol(path: Path, queries: list[dict]) -> None:
    """Writes the queries with their galleries as a TestG*.mat of CUHK-SYSU."""

    def sighting(name: str, box: np.ndarray | None) -> bytes:
        return cuhk_sysu.sighting(name, None if box is None else [int(x) for x in (*box[:2], *(box[2:] - box[:2]))])

    cuhk_sysu.save_protocol(
        path,
        (
            (sighting(query['img_name'], query['box']), 'p', [sighting(name, box) for name, box in query['gallery']])
            for query in queries
        ),
    )


def published_evaluator(eval_func: ModuleType, case: dict, name: str, cbgm: bool) -> tuple[float, float, float]:
    """Returns the seconds (without reading the protocol's file), mAP and top-1 of SeqNet's own evaluation."""
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
        (Path(root) / 'vis').mkdir()  # for the file that SeqNet writes
        gallery = Annotations(persons)
        gallery.root = root
        evaluate, options, reading = eval_func.eval_search_prw, {}, 0.0
        if name != 'prw':
            # SeqNet finds the file by the number in its name; the galleries may have another size.
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
                Annotations(asked),
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
    """Returns the case with its first queries. Images without the target fill their galleries up to the given size."""
    names, rng, queries = [image['img_name'] for image in case['images']], np.random.default_rng(0), []
    for query in case['queries'][:num_queries]:
        listed = {query['img_name'], *(name for name, _ in query['gallery'])}
        others = [name for name in rng.permutation(names).tolist() if name not in listed]
        gallery = query['gallery'] + [(name, None) for name in others[: size - len(query['gallery'])]]
        queries.append({**query, 'gallery': gallery})
    return {**case, 'queries': queries}


def time_against(clone: Path, cases: dict[str, dict]) -> list[list[str]]:
    """Returns the rows of the second table."""
    sys.path.insert(0, str(clone))
    eval_func = importlib.import_module('eval_func')
    rows = []
    for name, case, galleries in (
        ('prw', {**cases['prw'], 'queries': cases['prw']['queries'][:300]}, 'all images'),
        ('cuhk', cases['cuhk'], 'galleries of 100'),
        ('cuhk', with_galleries(cases['cuhk'], 4000, 290), 'galleries of 4,000'),
    ):
        inputs = to_inputs(case)
        for cbgm in (None, CONTEXT[name]):
            theirs, mean_ap, top1 = published_evaluator(eval_func, case, name, cbgm is not None)
            result, ours, _ = measure(partial(search_scores, *inputs, cbgm=cbgm))
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
    args = parser.parse_args()
    cases = load_cases(args.golden)
    print(f'{os.cpu_count()} cores; memory is what comes on top of the inputs\n')
    print(markdown_table(['case', 'what', 'seconds', 'MiB', 'figures'], time_scores(cases, args.device)), '\n', flush=True)
    if args.seqnet:
        columns = ['case', 'what', 'SeqNet s', 'mmps s', 'faster', 'mAP apart', 'top-1 apart']
        print(markdown_table(columns, time_against(args.seqnet, cases)), '\n', flush=True)
    rows, exponents = time_growth(cases['prw'], args.factors)
    print(markdown_table(['gallery', 'detections', 'inputs MiB', 'what', 'seconds', 'MiB', 'mAP'], rows))
    print(''.join(f'\n{name}: time grows as size to the power of {exponent:.2f}' for name, exponent in exponents.items()))


if __name__ == '__main__':
    main()
