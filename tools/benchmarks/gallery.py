"""Times a gallery of persons: adding, searching, its recall, its size on disk and in memory.

    python tools/benchmarks/gallery.py [URI ...] [--persons 10000 100000] [--indexes FLAT HNSW] [--queries 200]

URI is http://host:19530 of a Milvus server, or LITE for a new file of Milvus Lite (the default). A server must not have a
gallery; the one that is made is removed again.

The embeddings are drawn: each of N / 20 identities has a random direction, and its sightings lie around it such that two of
them have a similarity of 0.8 in the mean. Queries are further sightings. Recall is the share of the exact 20 best that the
gallery returns. Prints a table with the milliseconds of one query (median and 95th percentile), by the clock and of the
processor. The second do not depend on what else runs, and have only this process, so not a server's.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmps.apis.gallery import Gallery
from mmps.apis.sightings import Sighting
from mmps.apis.storage import INDEXES, NOTES, PERSONS
from mmps.cli import run_tool
from mmps.evaluation.tables import markdown_table

DIMS, TOPK, BATCH, SIGHTINGS, SIMILARITY = 256, 20, 500, 20, 0.8
COLUMNS = ['gallery', 'persons', 'index', 'added per s', 'index, s', 'p50, ms', 'p95, ms', 'CPU p50, ms', 'CPU p95, ms']
COLUMNS += [f'recall@{TOPK}', 'disk, MB', 'memory, MB']


def draw_embeddings(persons: int, queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns embeddings of sightings (persons, D) and of queries (queries, D), in random order, of unit length."""
    generator = np.random.default_rng(seed)
    identities = normalized(generator.standard_normal((max(1, persons // SIGHTINGS), DIMS), dtype=np.float32))
    # Two views c + n of a person have a similarity of 1 / (1 + |n|^2) in the mean.
    noise = np.sqrt((1 / SIMILARITY - 1) / DIMS).astype(np.float32)
    rows = generator.integers(len(identities), size=persons + queries)
    views = identities[rows] + noise * generator.standard_normal((len(rows), DIMS), dtype=np.float32)
    return normalized(views)[:persons], normalized(views)[persons:]


def normalized(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def best_rows(embeddings: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    """Returns the rows (Q, count) of the most similar embeddings of each query, by NumPy."""
    similarities = queries @ embeddings.T
    return np.argpartition(-similarities, count - 1, axis=1)[:, :count]


def add_all(gallery: Gallery, embeddings: np.ndarray) -> None:
    """Adds the embeddings as a video's frames with a person each."""
    gallery.begin('video.mp4')
    for start in range(0, len(embeddings), BATCH):
        part = embeddings[start : start + BATCH]
        views = [
            Sighting('video.mp4', start + k, (start + k) / 25, '', (10.0, 20.0, 30.0, 80.0), 0.9, each)
            for k, each in enumerate(part)
        ]
        gallery.add('video.mp4', views, start + len(part))


def search_each(gallery: Gallery, queries: np.ndarray) -> Iterator[tuple[float, float, list[int]]]:
    """Yields the milliseconds of each query, by the clock and of the processor, and the rows that it found."""
    for query in queries:
        clock, processor = time.perf_counter(), time.process_time()
        (matches,) = gallery.search(query[None], TOPK)
        times = time.perf_counter() - clock, time.process_time() - processor
        yield 1000 * times[0], 1000 * times[1], [each.sighting.frame for each in matches]


def resident_megabytes() -> float:
    """Returns the memory of this process."""
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmRSS:')[1].split()[0]) / 1024


def measure(uri: str, label: str, persons: int, indexes: list[str], num_queries: int) -> list[list[str]]:
    """Returns a row of the table for each index."""
    embeddings, queries = draw_embeddings(persons, num_queries)
    exact = best_rows(embeddings, queries, TOPK)
    before = resident_megabytes()
    rows = []
    with Gallery(uri, 'benchmark', DIMS) as gallery:
        start = time.perf_counter()
        add_all(gallery, embeddings)
        rate = persons / (time.perf_counter() - start)
        for index in indexes:
            start = time.perf_counter()
            gallery.build_index(index)
            seconds = time.perf_counter() - start
            list(search_each(gallery, queries[:5]))  # the first ones load
            clock, processor, found = zip(*search_each(gallery, queries), strict=True)
            recall = np.mean([len({*one} & {*other}) for one, other in zip(found, exact.tolist(), strict=True)]) / TOPK
            figures = [*np.percentile(clock, [50, 95]), *np.percentile(processor, [50, 95])]
            disk = '' if '://' in uri else f'{sum(file.stat().st_size for file in Path(uri).rglob("*")) / 1e6:.0f}'
            rows.append(
                [
                    *(label, f'{persons:,}', index, f'{rate:,.0f}', f'{seconds:.1f}', *(f'{each:.1f}' for each in figures)),
                    *(f'{recall:.4f}', disk, f'{resident_megabytes() - before:.0f}'),
                ]
            )
            print(*rows[-1], sep=' | ', file=sys.stderr, flush=True)  # the large ones take long
        if '://' in uri:
            for collection in (PERSONS, NOTES):
                gallery.client.drop_collection(collection)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('uris', nargs='*', default=['LITE'], metavar='URI', help='LITE or http://host:19530 (%(default)s)')
    parser.add_argument('--persons', type=int, nargs='+', default=[10_000, 100_000], help='sizes (%(default)s)')
    parser.add_argument('--indexes', nargs='+', choices=INDEXES, default=list(INDEXES), help='indexes (%(default)s)')
    parser.add_argument('--queries', type=int, default=200, help='queries (%(default)s)')
    args = parser.parse_args()
    rows = []
    for uri in args.uris:
        for persons in args.persons:
            folder = tempfile.mkdtemp()
            path, label = (f'{folder}/gallery.db', 'Milvus Lite') if uri == 'LITE' else (uri, 'Milvus server')
            rows += measure(path, label, persons, args.indexes, args.queries)
            shutil.rmtree(folder)
    print(markdown_table(COLUMNS, rows))


if __name__ == '__main__':
    run_tool(main)
