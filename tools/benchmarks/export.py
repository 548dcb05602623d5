"""Compares exported models with PyTorch: accuracy, time, memory, start and size on disk.

    python tools/benchmarks/export.py [--trained NAME CONFIG CHECKPOINT ...] [--untrained NAME CONFIG ...] [--data-root DIR]

Every model is exported and turned into int8, calibrated on 64 training scenes. Those of ``--trained`` are scored on the test
part of their data set. Those of ``--untrained`` get random weights: they only take time.

Each way of running a model is a process of its own, with one thread. All of a model are loaded, then take turns, one image
at a time. A time is that of the process's own work (its CPU time), so other programs on the machine count little. The start is
from the process's begin to its first result, as CPU time and as wall time; each starts alone. torch.compile needs a C++
compiler; where it fails, its row says so.

``--out`` gets the table as table.md, and the picture of accuracy against time.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ('eager', 'compile', 'onnxruntime', 'onnxruntime int8', 'openvino', 'openvino int8')
CALIBRATE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trained', nargs=3, action='append', default=[], metavar=('NAME', 'CONFIG', 'CHECKPOINT'))
    parser.add_argument('--untrained', nargs=2, action='append', default=[], metavar=('NAME', 'CONFIG'))
    parser.add_argument('--data-root', help='of the data set of the trained models; default as their configs say')
    parser.add_argument('--tolerance', type=float, default=0.01, help='of the embeddings in int8 (%(default)s)')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=WAYS)
    parser.add_argument('--rounds', type=int, default=10, help='images that each way is timed on (%(default)s)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/export'))
    parser.add_argument('--way', help=argparse.SUPPRESS)  # of a process that is measured
    args = parser.parse_args()
    if args.way:
        serve(json.loads(args.way))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name, config, checkpoint in [*args.trained, *([name, config, None] for name, config in args.untrained)]:
        rows += compare(name, config, checkpoint, args)
        table = as_table(rows)
        (args.out / 'table.md').write_text(f'{table}\n')
        (args.out / 'rows.json').write_text(json.dumps(rows, indent=1))
    print(table)
    if any('mAP' in row for row in rows):
        draw(rows, args.out / 'accuracy.png')


def compare(name: str, config: str, checkpoint: str | None, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures one model in all ways: a row each."""
    from mmengine.config import Config

    from mmps.export.scenes import read_scenes, training_images

    cfg = Config.fromfile(config)
    folder = args.out / name.replace(' ', '_')
    folder.mkdir(parents=True, exist_ok=True)
    weights = checkpoint or random_weights(cfg, folder / 'random.pth')
    for dataset in (cfg.train_dataloader.dataset, cfg.test_dataloader.dataset):
        dataset.data_root = args.data_root or dataset.data_root
    scenes = read_scenes(training_images(cfg), CALIBRATE) if checkpoint else random_scenes(cfg, 4)
    files = write_files(cfg, weights, folder, args.ways, scenes, args.tolerance if checkpoint else 1.0)
    cfg.dump(folder / 'config.py')
    np.save(folder / 'scene.npy', scenes[0])
    print(f'{name}: load average {os.getloadavg()[0]:.1f}', flush=True)
    rows = []
    for way in args.ways:
        job = dict(way=way, scene=str(folder / 'scene.npy'), file=str(files.get(way, '')))
        job |= dict(config=str(folder / 'config.py'), weights=str(weights))
        size = Path(job['file'] or weights).stat().st_size
        rows.append(dict(model=name, way=way, job=job, MB=size / 1e6, **start(job)))
    running = [row for row in rows if 'failed' not in row]
    for row, ms in zip(running, take_turns([row['job'] for row in running], args.rounds), strict=True):
        row['ms'] = float(np.median(ms))
        if checkpoint and row['way'] != 'compile':
            row['mAP'] = accuracy(row['job'], cfg)
            print(f'{name}, {row["way"]}: mAP {row["mAP"] * 100:.2f}', flush=True)
    return rows


def write_files(cfg: Any, weights: str, folder: Path, ways: list[str], scenes: list, tolerance: float) -> dict[str, Path]:
    """Exports a model: the file of each way that reads one."""
    from mmps.export import ExportOptions, export_onnx
    from mmps.export.quantization import quantize_int8

    plain = unrolled = folder / 'float32.onnx'
    export_onnx(cfg, weights, plain)
    if 'openvino' in ' '.join(ways) and b'DeformConv' in plain.read_bytes():  # which OpenVINO lacks
        unrolled = folder / 'unrolled.onnx'
        export_onnx(cfg, weights, unrolled, ExportOptions(unroll=True))
    files = dict(onnxruntime=plain, openvino=unrolled)
    for runtime, whole in list(files.items()):
        small = whole.with_name(f'int8-{whole.name}')
        if f'{runtime} int8' in ways and small not in files.values():
            found = quantize_int8(whole, small, scenes, tolerance)
            print(f'{small}: loss {found.loss:.3f}, in float: {", ".join(found.kept_float) or "nothing"}', flush=True)
        if f'{runtime} int8' in ways:
            files[f'{runtime} int8'] = small
    return files


def random_weights(cfg: Any, path: Path) -> str:
    """Writes random weights of a config's model, none of which are downloaded."""
    import torch
    from mmengine.registry import DefaultScope

    from mmps.gpu.random_step import without_files
    from mmps.registry import MODELS

    without_files(cfg.model)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmps'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    for name, module in model.named_modules():
        if name.endswith('conv_cls'):  # a graph that finds nobody cannot be measured: FCOS begins with scores of 0.01
            module.bias.data.zero_()
        elif name.endswith('fc_cls'):
            module.bias.data[:] = torch.tensor([0.5, -0.5])
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


def random_scenes(cfg: Any, count: int) -> list[np.ndarray]:
    """Draws noise of the size of the test's images."""
    from mmps.export.exporter import test_scale

    width, height = test_scale(cfg)
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def open_way(job: dict[str, Any]) -> Any:
    """Returns a function of an image, and imports no more than it needs."""
    if job['file']:
        from mmps_runtime import PersonSearchModel

        model = PersonSearchModel(job['file'], job['way'].split()[0], threads=1)
        return lambda image: model.run([model.prepare(image)])
    import torch

    from mmps.apis.inferencer import PersonSearchInferencer
    from mmps.apis.video import Frame

    torch.set_num_threads(1)
    inferencer = PersonSearchInferencer(job['config'], job['weights'], 'cpu', show_progress=False)
    if job['way'] == 'compile':
        inferencer.model.extract_feat = torch.compile(inferencer.model.extract_feat, dynamic=False)

    def run(image: np.ndarray) -> None:
        _, data = inferencer._prepare((Frame('', 0, 0.0, image), ()))
        inferencer.forward(inferencer.collate_fn([data]))

    return run


def serve(job: dict[str, Any]) -> None:
    """Runs a model once for each line that is read, and writes the milliseconds of CPU time and the peak memory in MB."""
    run, image = open_way(job), np.load(job['scene'])
    while True:
        begin = time.process_time()
        try:
            run(image)
        except RuntimeError as error:
            if job['way'] != 'compile':
                raise
            return print(json.dumps(dict(failed=str(error).splitlines()[0])), flush=True)
        used = dict(ms=(time.process_time() - begin) * 1000, start=time.process_time(), MB=peak_memory())
        print(json.dumps(used), flush=True)
        if not sys.stdin.readline():
            return


def peak_memory() -> float:
    """Returns the peak memory of this process in MB. The kernel's other figure, ru_maxrss, begins with that of the parent."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1024


def spawn(job: dict[str, Any]) -> subprocess.Popen:
    command = [sys.executable, __file__, '--way', json.dumps(job)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def start(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the seconds to a first result, wall and CPU, and the peak memory until then; or why there was none."""
    begin = time.perf_counter()
    process = spawn(job)
    used = answer(process)
    seconds = time.perf_counter() - begin
    process.communicate()
    return used if 'failed' in used else dict(start_s=seconds, start_cpu_s=used['start'], peak_MB=used['MB'])


def answer(process: subprocess.Popen) -> dict[str, Any]:
    """Reads an answer, past whatever else a process prints."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(('{"ms"', '{"failed"')):
            return json.loads(line)
    raise ChildProcessError(f'a process ended with status {process.wait()}')


def take_turns(jobs: list[dict[str, Any]], rounds: int) -> list[list[float]]:
    """Returns for each job the milliseconds of each round, without the first, which warms up."""
    processes = [spawn(job) for job in jobs]
    times: list[list[float]] = [[] for _ in jobs]
    for last in [False] * rounds + [True]:
        for process, of_job in zip(processes, times, strict=True):
            of_job.append(answer(process)['ms'])
            assert process.stdin is not None
            if last:
                process.communicate()
            else:
                process.stdin.write('\n')
                process.stdin.flush()
    return [of_job[1:] for of_job in times]


def accuracy(job: dict[str, Any], cfg: Any) -> float:
    """Returns the mAP on the test part of a config's data set."""
    from mmps.apis import PersonSearchInferencer, build_test_set
    from mmps.apis.test_set import predict_test_set
    from mmps.evaluation import search_scores
    from mmps_runtime import PersonSearchModel

    least = cfg.test_evaluator.get('score_thr', 0.5)
    if job['file']:
        inferencer = PersonSearchInferencer(job['file'], score_thr=least)
        inferencer.model.runtime = PersonSearchModel(job['file'], job['way'].split()[0], score_thr=0)
    else:
        inferencer = PersonSearchInferencer(job['config'], job['weights'], 'cpu', score_thr=least)
    dataset = build_test_set(cfg)
    found = predict_test_set(inferencer, dataset)
    protocol = dataset.metainfo['protocol']
    return search_scores(protocol, found.boxes, found.scores, found.embeddings, found.query_embeddings, least).mAP


def as_table(rows: list[dict[str, Any]]) -> str:
    """Returns all rows as a Markdown table. Times are also given as how many times faster than eager PyTorch."""
    from mmps.evaluation.tables import markdown_table

    eager = {row['model']: row['ms'] for row in rows if row['way'] == 'eager'}
    cells = [
        [row['model'], row['way'], row['failed'], *[''] * 6]
        if 'failed' in row
        else [
            row['model'],
            row['way'],
            f'{row["mAP"] * 100:.1f}' if 'mAP' in row else '',
            f'{row["ms"]:.0f}',
            f'{eager[row["model"]] / row["ms"]:.2f}' if row['model'] in eager else '',
            f'{row["start_cpu_s"]:.2f}',
            f'{row["start_s"]:.1f}',
            f'{row["peak_MB"]:.0f}',
            f'{row["MB"]:.2f}',
        ]
        for row in rows
    ]
    return markdown_table(
        ['model', 'run by', 'mAP', 'ms', 'x eager', 'start, CPU s', 'start, s', 'peak, MB', 'file, MB'], cells
    )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws mAP against time: a line for each model, a point for each way of running it."""
    from matplotlib.figure import Figure

    from mmps.visualization import write_picture
    from mmps.visualization.sheet import DPI, picture_of

    figure = Figure(figsize=(6.4, 3.8), dpi=DPI, layout='constrained')
    axis = figure.subplots()
    axis.set(xlabel='milliseconds an image, one core', ylabel='mAP, %')
    axis.grid(color='0.9')
    axis.spines[['top', 'right']].set_visible(False)
    for number, model in enumerate(dict.fromkeys(row['model'] for row in rows if 'mAP' in row)):
        of_model = sorted((row for row in rows if row['model'] == model and 'mAP' in row), key=lambda row: row['ms'])
        times, scores = [row['ms'] for row in of_model], [row['mAP'] * 100 for row in of_model]
        axis.plot(times, scores, color=f'C{number}', linewidth=0.8, label=model)
        for row in of_model:
            shape = 'os^Dv<'[WAYS.index(row['way'])]
            axis.plot(row['ms'], row['mAP'] * 100, shape, color=f'C{number}', label=f'_{row["way"]}')
    for way, shape in zip(WAYS, 'os^Dv<', strict=True):
        if any(row['way'] == way and 'mAP' in row for row in rows):
            axis.plot([], [], shape, color='0.3', label=way)
    axis.set(xlim=(0, None), ylim=(0, None))
    figure.legend(loc='outside right upper', fontsize=8, frameon=False)
    write_picture(path, picture_of(figure))


if __name__ == '__main__':
    main()
