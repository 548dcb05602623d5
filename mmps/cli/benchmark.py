"""Compares distillation methods, as a matrix file says.

It trains and tests each student under each method, and keeps tables and charts of their scores. With --from it makes tables and
charts of the results of an earlier call.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from mmps.benchmark.docs_block import check_page, update_page
from mmps.benchmark.matrix_file import read_matrix
from mmps.benchmark.matrix_runner import run_benchmark
from mmps.benchmark.report import write_report
from mmps.benchmark.results import load_entries

from .run import add_overrides, packaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('matrix', type=Path, nargs='?', help='YAML, for example configs/benchmarks/synthps-mini.yml')
    parser.add_argument('--work-dir', type=Path, help='folder of the runs; default work_dirs/benchmark/MATRIX')
    parser.add_argument('--out', type=Path, help='folder of the tables and charts; default the work directory')
    parser.add_argument('--data-root', type=Path, help="folder of the data set; default the matrix's")
    parser.add_argument(
        '--only',
        nargs='+',
        default=[],
        metavar='PATTERN',
        help='make only runs with one of these in their names, and their teachers',
    )
    parser.add_argument('--workers', type=int, help='runs at a time; default one per GPU, without GPUs one per core')
    parser.add_argument('--gpus', help='for example 0,1; default all')
    parser.add_argument(
        '--server',
        metavar='ADDRESS',
        help='a running Dask scheduler, tcp://HOST:8786 or its scheduler file: its workers make the runs',
    )
    parser.add_argument('--retries', type=int, default=1, help='how often a command that failed is tried again (%(default)s)')
    add_overrides(parser, 'overrides of every config; lists as KEY="[a,b]"')
    parser.add_argument('--report-only', action='store_true', help='run nothing, write tables and charts of the finished runs')
    parser.add_argument(
        '--from',
        dest='results',
        type=Path,
        metavar='RESULTS',
        help='instead of a matrix: a folder with results.csv and queries.npz, to make tables and charts of',
    )
    parser.add_argument('--page', type=Path, help='with --from: also write the tables into this page, between their comments')
    parser.add_argument('--check', action='store_true', help='with --page: write nothing, fail if the page has other tables')
    args = parser.parse_args()
    if (args.matrix is None) == (args.results is None):
        parser.error('expected either a matrix or --from')
    if args.check and not args.page:
        parser.error('--check needs --page')
    if args.results:
        report(args)
    else:
        run(args)


def report(args: argparse.Namespace) -> None:
    """Makes tables and charts of results, or checks a page against them."""
    entries = load_entries(args.results)
    if args.check:
        check_page(args.page, entries)
        return
    write_report(args.out or args.results, entries)
    if args.page:
        update_page(args.page, entries)


def run(args: argparse.Namespace) -> None:
    """Makes the runs of a matrix."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES', ','.join(map(str, range(torch.cuda.device_count()))))
    gpus = [name for name in (visible if args.gpus is None else args.gpus).split(',') if name]
    workers = args.workers if args.workers is not None else len(gpus) or os.cpu_count() or 1
    if workers < 1:
        raise ValueError(f'--workers: expected 1 or more, got {workers}')
    matrix = read_matrix(args.matrix, packaged('configs'), args.data_root, args.cfg_options)
    work_dir = args.work_dir or Path('work_dirs/benchmark') / matrix.name
    try:
        finished = run_benchmark(
            matrix,
            packaged('tools'),
            work_dir,
            args.out or work_dir,
            workers,
            gpus,
            args.only,
            args.report_only,
            server=args.server,
            retries=args.retries,
        )
    except KeyboardInterrupt:
        sys.exit('stopped; the same command goes on from here')
    if not finished:
        sys.exit(1)
