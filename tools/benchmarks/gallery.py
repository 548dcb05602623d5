"""Times a gallery of persons: adding, searching, its recall, its size on disk and in memory.

    python tools/benchmarks/gallery.py [URI ...] [--persons 10000 100000] [--indexes FLAT HNSW] [--drawn identities random]
        [--queries 200] [--server-pid PID] [--server-data DIR]

URI is http://host:19530 of a Milvus server, or LITE for a new file of Milvus Lite (the default). A server must not have a
gallery; the one that is made is removed again.

The embeddings are drawn. 'identities': each of N / 20 identities has a random direction, and its sightings lie around it such
that two of them have a similarity of 0.8 in the mean; queries are further sightings. 'random': every embedding and query has a
direction of its own, which is the hardest case for an index. Recall is the share of the exact 20 best that the gallery
returns. Prints a table with the milliseconds of one query (median and 95th percentile), by the clock and of the processor. The
second do not depend on what else runs. A server's part of them, its disk and its memory are measured with its process and its
folder.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmps.apis.gallery import Gallery
from mmps.apis.sightings import Sighting
from mmps.apis.storage import INDEXES, NOTES, PERSONS, STALE
from mmps.cli import run_tool
from mmps.evaluation.tables import markdown_table

DIMS, TOPK, BATCH, SIGHTINGS, SIMILARITY = 256, 20, 2000, 20, 0.8
DRAWN = ('identities', 'random')
COLUMNS = [
    'gallery',
    'drawn',
    'persons',
    'index',
    'added per s',
    'index, s',
    'p50, ms',
    'p95, ms',
    'CPU p50, ms',
    'CPU p95, ms',
]
COLUMNS += [f'recall@{TOPK}', 'disk, MB', 'memory, MB']


def draw_embeddings(persons: int, queries: int, drawn: str = 'identities') -> tuple[np.ndarray, np.ndarray]:
    """Returns embeddings of sightings (persons, D) and of queries (queries, D), in random order, of unit length."""
    generator = np.random.default_rng(0)
    if drawn == 'random':
        views = normalized(generator.standard_normal((persons + queries, DIMS), dtype=np.float32))
        return views[:persons], views[persons:]
    identities = normalized(generator.standard_normal((max(1, persons // SIGHTINGS), DIMS), dtype=np.float32))
    # Two views c + n of a person have a similarity of 1 / (1 + |n|^2) in the mean.
    noise = np.sqrt((1 / SIMILARITY - 1) / DIMS).astype(np.float32)
    rows = generator.integers(len(identities), size=persons + queries)
    views = normalized(identities[rows] + noise * generator.standard_normal((len(rows), DIMS), dtype=np.float32))
    return views[:persons], views[persons:]


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


def seconds_of(process: int | None) -> float:
    """Returns the processor's time for all threads of another process; 0 for none."""
    tasks = [] if process is None else Path(f'/proc/{process}/task').glob('*/schedstat')
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def search_each(gallery: Gallery, queries: np.ndarray, server: int | None) -> Iterator[tuple[float, float, list[int]]]:
    """Yields the milliseconds of each query, by the clock and of the processor, and the rows that it found."""
    for query in queries:
        others = seconds_of(server)
        clock, processor = time.perf_counter(), time.process_time()
        (matches,) = gallery.search(query[None], TOPK)
        times = time.perf_counter() - clock, time.process_time() - processor + seconds_of(server) - others
        yield 1000 * times[0], 1000 * times[1], [each.sighting.frame for each in matches]


def resident_megabytes(process: int | str) -> float:
    """Returns the memory of a process."""
    status = Path(f'/proc/{process}/status').read_text()
    return int(status.split('VmRSS:')[1].split()[0]) / 1024


def megabytes_in(folder: str | Path) -> float:
    """Returns the size of a folder's files."""
    return sum(file.stat().st_size for file in Path(folder).rglob('*') if file.is_file()) / 1e6


def measure(uri: str, persons: int, drawn: str, args: argparse.Namespace) -> list[list[str]]:
    """Returns a row of the table for each index."""
    embeddings, queries = draw_embeddings(persons, args.queries, drawn)
    exact = best_rows(embeddings, queries, TOPK)
    is_server = '://' in uri
    process, folder = (args.server_pid, args.server_data) if is_server else ('self', uri)
    before = 0.0 if process is None else resident_megabytes(process)
    rows = []
    with Gallery(uri, 'benchmark', DIMS) as gallery:
        start = time.perf_counter()
        add_all(gallery, embeddings)
        rate = persons / (time.perf_counter() - start)
        for index in args.indexes if is_server else ['FLAT']:
            start = time.perf_counter()
            gallery.build_index(index) if is_server else gallery.flush()
            seconds = time.perf_counter() - start
            list(search_each(gallery, queries[:5], None))  # the first ones load
            if is_server:
                time.sleep(STALE)  # until then a search waits for what was written last
            clock, processor, found = zip(*search_each(gallery, queries, args.server_pid), strict=True)
            recall = np.mean([len({*one} & {*other}) for one, other in zip(found, exact.tolist(), strict=True)]) / TOPK
            figures = [*np.percentile(clock, [50, 95]), *np.percentile(processor, [50, 95])]
            disk = '' if folder is None else f'{megabytes_in(folder):.0f}'
            memory = '' if process is None else f'{resident_megabytes(process) - before:.0f}'
            label = 'Milvus server' if is_server else 'Milvus Lite'
            rates = [f'{rate:,.0f}', f'{seconds:.1f}', *(f'{each:.1f}' for each in figures)]
            rows.append([label, drawn, f'{persons:,}', index, *rates, f'{recall:.4f}', disk, memory])
            print(*rows[-1], sep=' | ', file=sys.stderr, flush=True)  # the large ones take long
        if is_server:
            for collection in (PERSONS, NOTES):
                gallery.client.drop_collection(collection)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('uris', nargs='*', default=['LITE'], metavar='URI', help='LITE or http://host:19530 (%(default)s)')
    parser.add_argument('--persons', type=int, nargs='+', default=[10_000, 100_000], help='sizes (%(default)s)')
    parser.add_argument('--indexes', nargs='+', choices=INDEXES, default=list(INDEXES), help='indexes (%(default)s)')
    parser.add_argument('--drawn', nargs='+', choices=DRAWN, default=['identities'], help='embeddings (%(default)s)')
    parser.add_argument('--queries', type=int, default=200, help='queries (%(default)s)')
    parser.add_argument('--server-pid', type=int, help="a server's process, whose memory is measured")
    parser.add_argument('--server-data', type=Path, help="a server's folder, whose size is measured")
    args = parser.parse_args()
    rows = []
    for uri, persons, drawn in itertools.product(args.uris, args.persons, args.drawn):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(f'{folder}/gallery.db' if uri == 'LITE' else uri, persons, drawn, args)
    print(markdown_table(COLUMNS, rows))


if __name__ == '__main__':
    run_tool(main)
