"""Draws charts of scores and losses as RGB pictures. Scores are given as fractions in 0..1 and drawn in per cent."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from .sheet import DPI, picture_of

Colour = str | tuple[float, float, float, float]  # a name or RGBA


def draw_precision_recall(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Draws precision against recall, one line per search. A curve is (recalls, precisions), each of shape (n,)."""
    figure, (axis,) = _panels(1)
    for name, (recalls, precisions) in curves.items():
        axis.plot(recalls * 100, precisions * 100, label=name)
    axis.set(xlabel='recall, %', ylabel='precision, %', xlim=(0, 100), ylim=(0, 103))
    _legend(axis)
    return picture_of(figure)


def draw_similarities(edges: np.ndarray, matches: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Draws histograms of the similarities to the query, of true positives and of all other detections.

    Args:
        edges: (bins + 1,), ascending.
        matches, others: Counts (bins,). They are drawn as densities of area 1, because the others are far more.
    """
    figure, (axis,) = _panels(1)
    for name, counts, colour in (('others', others, 'C3'), ('true positives', matches, 'C2')):
        densities = counts / (max(counts.sum(), 1) * np.diff(edges))
        label = f'{name} ({counts.sum():,})'
        axis.stairs(densities, edges, fill=True, alpha=0.55, color=colour, label=label)
    filled = np.flatnonzero(matches + others)
    if len(filled):
        axis.set_xlim(edges[filled[0]], edges[filled[-1] + 1])
    axis.set(xlabel='similarity to the query', ylabel='density')
    axis.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return picture_of(figure)


def draw_gallery_sizes(series: Mapping[str, Mapping[int, Mapping[str, float]]]) -> np.ndarray:
    """Draws scores against the gallery size, one panel per score and one line per series.

    Args:
        series: For each series and gallery size (images) the scores by name: ``{'OIM': {50: {'mAP': 0.9}, 100: ...}}``.
            A single series may have the name ''.
    """
    scores = list(dict.fromkeys(name for sizes in series.values() for at in sizes.values() for name in at))
    figure, axes = _panels(max(len(scores), 1))
    ticks = sorted({size for sizes in series.values() for size in sizes})
    for axis, score in zip(axes, scores, strict=False):
        for name, sizes in series.items():
            points = sorted((size, at[score] * 100) for size, at in sizes.items() if score in at)
            axis.plot(*zip(*points, strict=True), marker='o', markersize=4, label=name)
        axis.set(xlabel='images in the gallery', ylabel=f'{score}, %', xscale='log')
        axis.set_xticks(ticks, [f'{tick:,}' for tick in ticks])
        axis.minorticks_off()
    _legend(axes[0])
    return picture_of(figure)


def draw_camera_pairs(scores: np.ndarray, counts: np.ndarray, cameras: Sequence[int | str], score: str = 'mAP') -> np.ndarray:
    """Draws a heat map of query cameras (rows) against gallery cameras (columns). Pairs without queries are blank.

    Args:
        scores: (C, C), mean scores.
        counts: (C, C), numbers of queries.
        cameras: (C,), names.
        score: Name of the score.
    """
    side = 0.75 * len(cameras) + 1.2
    figure, (axis,) = _panels(1, (side + 0.8, side))
    shown = np.where(counts > 0, scores * 100, np.nan)
    image = axis.imshow(shown, cmap='YlGnBu', vmin=0, vmax=100)
    for row, column in np.argwhere(counts > 0):
        value = shown[row, column]
        axis.text(
            column,
            row,
            f'{value:.1f}\n({counts[row, column]:,})',
            ha='center',
            va='center',
            fontsize=8,
            color='white' if value > 60 else 'black',
        )
    names = [str(camera) for camera in cameras]
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel='camera of the gallery', ylabel='camera of the query')
    axis.grid(False)
    figure.colorbar(image, ax=axis, label=f'{score}, % (queries)', shrink=0.85)
    return picture_of(figure)


def draw_detection_by_height(
    edges: Sequence[float], recalls: Sequence[float], aps: Sequence[float], counts: Sequence[int]
) -> np.ndarray:
    """Draws bars of detection recall and AP per range of person heights.

    Args:
        edges: (B + 1,), pixels, ascending; the last may be infinite.
        recalls, aps: (B,), NaN for a range without persons.
        counts: (B,), numbers of persons.
    """
    figure, (axis,) = _panels(1, (max(4.6, 0.95 * len(recalls) + 0.8), 3.4))
    places = np.arange(len(recalls))
    for shift, name, values in ((-0.2, 'recall', recalls), (0.2, 'AP', aps)):
        bars = axis.bar(places + shift, np.multiply(values, 100), width=0.38, label=name)
        axis.bar_label(bars, ['' if np.isnan(value) else f'{value * 100:.0f}' for value in values], fontsize=7)
    ranges = [f'{low:.0f}+' if np.isinf(high) else f'{low:.0f}-{high:.0f}' for low, high in pairwise(edges)]
    axis.set_xticks(places, [f'{heights}\n{count:,} persons' for heights, count in zip(ranges, counts, strict=True)])
    axis.set(xlabel='height, pixels', ylabel='%', xlim=(-0.5, len(places) - 0.5), ylim=(0, 118))
    axis.grid(False, axis='x')
    axis.legend(loc='upper right', ncols=2, frameon=False)
    return picture_of(figure)


def draw_learning(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> np.ndarray:
    """Draws scores against training time, one panel per score and one line per run.

    Args:
        curves: For each score and each run the (minutes of training, score) pairs.
    """
    figure, axes = _panels(len(curves), (3.6, 3.0))
    for axis, (score, runs) in zip(axes, curves.items(), strict=True):
        for name, points in runs.items():
            axis.plot(*np.multiply(points, [1, 100]).T, marker='o', markersize=3, label=name)
        axis.set(xlabel='minutes of training', ylabel=f'{score}, %', xlim=(0, None), ylim=(0, 100))
    _legend(axes[0])
    return picture_of(figure)


def draw_losses(curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> np.ndarray:
    """Draws losses against steps, one panel per loss and one line per run.

    The losses ``student.*`` of a distilled student share panels with those of a plain student.

    Args:
        curves: For each run and each of its losses the (step, value) pairs.
    """
    panels: dict[str, dict[str, Sequence[tuple[int, float]]]] = {}
    for run, losses in curves.items():
        for name, points in losses.items():
            if name != 'loss':
                panels.setdefault(name.removeprefix('student.'), {})[run] = points
    columns = 4
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(3.4 * columns, 2.4 * rows), dpi=DPI, layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = {run: f'C{i % 10}' for i, run in enumerate(curves)}
    for axis, (name, lines) in zip(axes, panels.items(), strict=False):
        for run, points in lines.items():
            axis.plot(*zip(*points, strict=True), label=run, color=colours[run], linewidth=1.2)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_ylim(bottom=0)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc='outside lower center', ncols=4, fontsize=8, frameon=False)
    return picture_of(figure)


def draw_gains(gains: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> np.ndarray:
    """Draws gains in mAP with their intervals, one panel per student and one row per method.

    An interval that includes 0 is grey.

    Args:
        gains: For each student and each method the gain in mAP and both ends of its 95 % interval.
    """
    of_method: dict[str, list[float]] = {}
    for methods in gains.values():
        for method, (gain, _, _) in methods.items():
            of_method.setdefault(method, []).append(gain)
    order = sorted(of_method, key=lambda method: np.mean(of_method[method]))
    labels = max(map(len, order), default=0) * 0.085  # inches
    figure = Figure(figsize=(3.4 * len(gains) + labels, max(0.3 * len(order) + 1.2, 2.4)), dpi=DPI, layout='constrained')
    axes = figure.subplots(1, len(gains), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (student, methods) in zip(axes, gains.items(), strict=True):
        _style(axis)
        axis.axvline(0, color='0.4', linewidth=1)
        for place, method in enumerate(order):
            if method not in methods:
                continue
            gain, low, high = np.multiply(methods[method], 100)
            colour = '0.6' if low <= 0 <= high else 'C2' if gain > 0 else 'C3'
            axis.plot([low, high], [place, place], color=colour, linewidth=2.5, solid_capstyle='round')
            axis.plot(gain, place, 'o', markersize=7, color=colour, markeredgecolor='white')
        axis.set_title(student, fontsize=11)
        axis.set_yticks(range(len(order)), order, fontsize=10)
        axis.set_ylim(-0.6, len(order) - 0.4)
    figure.supxlabel(
        'points of mAP over the plain student; 95 % interval over queries and seeds (grey: includes 0)', fontsize=10
    )
    return picture_of(figure)


def draw_accuracy(sizes: Mapping[str, tuple[int, float]], scores: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """Draws mAP against parameters and against milliseconds per image. Shapes are networks, colours are methods.

    Args:
        sizes: For each network the number of parameters and the milliseconds per image.
        scores: For each network the mAP of each method. A teacher has one, with the method ''.
    """
    figure, axes = _panels(2, (5.2, 4.4))
    methods = list(dict.fromkeys(method for of_network in scores.values() for method in of_network if method))
    colours: dict[str, Colour] = {'': 'black', **dict(zip(methods, _colours(len(methods)), strict=True))}
    shapes = {name: 'os^Dv<>p*hXP'[i % 12] for i, name in enumerate(scores)}
    values = [score * 100 for of_network in scores.values() for score in of_network.values()]
    margin = 0.05 * (max(values) - min(values)) + 0.5
    low, high = min(values) - margin, max(values) + margin
    millions = {name: parameters / 1e6 for name, (parameters, _) in sizes.items()}
    milliseconds = {name: time for name, (_, time) in sizes.items()}
    axes[0].set(xlabel='parameters, millions', xscale='log', xlim=(min(millions.values()) / 1.4, max(millions.values()) * 1.4))
    axes[1].set(xlabel='milliseconds an image', xlim=(0, max(milliseconds.values()) * 1.1))
    for axis, places in zip(axes, (millions, milliseconds), strict=True):
        axis.set(ylabel='mAP, %', ylim=(low, high))
        for name, of_network in scores.items():
            heights = [(score * 100 - low) / (high - low) * 270 for score in of_network.values()]  # points: 3.75 inches
            for (method, score), aside in zip(of_network.items(), _swarm(heights), strict=True):
                axis.plot(
                    places[name],
                    score * 100,
                    shapes[name],
                    color=colours[method],
                    markersize=6 if method else 8,
                    markeredgecolor='white',
                    markeredgewidth=0.5,
                    clip_on=False,
                    transform=axis.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans),
                )
    left, right = axes[0].get_xlim()
    ticks = [tick for tick in np.outer(10.0 ** np.arange(-3, 5), [1, 2, 5]).ravel() if left < tick < right]
    axes[0].set_xticks(ticks, [f'{tick:g}' for tick in ticks])
    axes[0].minorticks_off()
    handles = [Line2D([], [], linestyle='', marker=shape, color='0.3', label=name) for name, shape in shapes.items()]
    handles += [Line2D([], [], linestyle='', marker='o', color=colours[method], label=method) for method in methods]
    figure.legend(handles=handles, loc='outside right upper', fontsize=8, frameon=False)
    return picture_of(figure)


def _swarm(heights: Sequence[float], size: float = 6.0) -> list[float]:
    """Returns sideward shifts of the dots of a column, such that no dot hides another. All lengths are in points."""
    placed: list[tuple[float, float]] = []
    for height in heights:
        steps = sorted(range(-len(heights), len(heights) + 1), key=abs)
        aside = next(
            step * size for step in steps if all(np.hypot(step * size - x, height - y) >= size * 0.99 for x, y in placed)
        )
        placed.append((aside, height))
    return [aside for aside, _ in placed]


def _colours(count: int) -> list[Colour]:
    """Returns distinct colours: the strong ones of tab20, then its light ones."""
    strong_first = [*range(0, 20, 2), *range(1, 20, 2)]
    return [colormaps['tab20'](strong_first[i % 20]) for i in range(count)]


def _panels(columns: int, size: tuple[float, float] = (4.6, 3.4)) -> tuple[Figure, list[Axes]]:
    """Makes a figure with panels side by side. ``size`` is width and height of a panel in inches."""
    figure = Figure(figsize=(size[0] * columns, size[1]), dpi=DPI, layout='constrained')
    axes = list(figure.subplots(1, columns, squeeze=False).ravel())
    for axis in axes:
        _style(axis)
    return figure, axes


def _style(axis: Axes) -> None:
    axis.grid(color='0.9')
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    axis.spines[['top', 'right']].set_visible(False)


def _legend(axis: Axes) -> None:
    if axis.get_legend_handles_labels()[1]:  # a single line without a name needs no legend
        axis.legend(loc='best', frameon=False)
