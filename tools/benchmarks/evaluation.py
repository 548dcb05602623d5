"""Seconds and peak memory of the evaluation on simulated results for the real PRW and CUHK-SYSU protocols.

    python tools/benchmarks/evaluation.py --golden ../shared/golden
"""
import argparse
import importlib.util
import time
import tracemalloc
from pathlib import Path

import numpy as np

from mmps.evaluation import SearchProtocol, detection_scores, search_scores


def protocol_of(case: dict) -> SearchProtocol:
    images, queries = case['images'], case['queries']
    names, cameras = [image['img_name'] for image in images], [image['cam_id'] for image in images]
    query = ([q['img_name'] for q in queries], [q['box'] for q in queries], [q['person_id'] for q in queries])
    if queries[0]['gallery'] is None:
        boxes, person_ids = [image['boxes'] for image in images], [image['person_ids'] for image in images]
        return SearchProtocol.from_identities(names, cameras, boxes, person_ids, *query)
    return SearchProtocol.from_galleries(names, cameras, *query, [q['gallery'] for q in queries])


def measure(name: str, function, *args, **kwargs):
    """Runs twice: once for the time, once for the memory, which costs time to trace."""
    started = time.perf_counter()
    result = function(*args, **kwargs)
    seconds = time.perf_counter() - started
    tracemalloc.start()
    function(*args, **kwargs)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    print(f'{name:<32} {seconds:7.2f} s {peak:8.0f} MiB')
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--golden', type=Path, required=True, help='folder of search_cases.py')
    folder = parser.parse_args().golden
    spec = importlib.util.spec_from_file_location('search_cases', folder / 'search_cases.py')
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    for name in ('prw', 'cuhk'):
        case = getattr(cases, f'{name}_case')(0)
        boxes, scores = [d[:, :4] for d in case['detections']], [d[:, 4] for d in case['detections']]
        query_embeddings = np.stack([query['embedding'] for query in case['queries']])
        protocol = measure(f'{name}: protocol', protocol_of, case)
        print(f'{"":<32} {protocol.num_queries} queries, {len(protocol.images)} images, {sum(map(len, scores))} '
              f'detections, {protocol.num_targets} targets')
        for other_cameras in (False, True)[:2 if name == 'prw' else 1]:
            result = measure(f'{name}: search{", other cameras" * other_cameras}', search_scores, protocol, boxes,
                             scores, case['embeddings'], query_embeddings, other_cameras=other_cameras)
            print(f'{"":<32} mAP {result.mAP:.6f}', *(f'top-{k} {v:.6f}' for k, v in result.topk.items()))
        persons = [image['boxes'] for image in case['images']]
        measure(f'{name}: detection', detection_scores, boxes, scores, persons)


if __name__ == '__main__':
    main()
