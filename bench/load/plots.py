"""Pictures of results: latency over load, sweeps over one field, latency percentiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from bench.load.results import Result, mean_rate, usable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by everybody, also in print (Okabe and Ito)."""
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
}
NINES = (0, 50, 90, 99, 99.9, 99.99)
_LABEL_GAP = 14.0
"""Pixels at 100 dots per inch from one label to the next."""

Point = tuple[float, float]
Ends = list[tuple[Point, str, str]]
"""Where lines end, what they are called, and their colours."""


def colours(results: Sequence[Result]) -> dict[str, str]:
    """A colour per client, in the order in which they come."""
    names = dict.fromkeys(result["driver"] for result in results)
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}


def load_curve(results: Sequence[Result], title: str, path: Path) -> bool:
    """Publish and end-to-end latency over the offered rate; False when there is nothing to draw."""
    good = [result for result in usable(results) if result["latencyMeasured"]]
    if not good:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        ends = _publish_and_read(left, right, good, lambda result: result["offeredRate"])
        for axes in (left, right):
            axes.set_xlabel("offered load, records/s")
            axes.xaxis.set_major_formatter(FuncFormatter(_short))
            axes.set_xlim(left=0)
        _finish(figure, ends, title, path)
    return True


def sweep(results: Sequence[Result], field: str, title: str, path: Path) -> bool:
    """Rates over a swept field, or latencies where the rate was given; False without figures."""
    good = [result for result in usable(results) if field in result.get("sweep", {})]
    if not good:
        return False
    values = list(dict.fromkeys(result["sweep"][field] for result in good))
    places = {value: _place(value, index) for index, value in enumerate(values)}

    def place(result: Result) -> float:
        return places[result["sweep"][field]]

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        if all(result["latencyMeasured"] for result in good):  # paced: the rate is given
            ends = _publish_and_read(left, right, good, place)
        else:
            ends = {
                left: _rate_lines(left, good, "publishRate", place),
                right: _rate_lines(right, good, "consumeRate", place),
            }
            left.set_title("published", fontsize=9)
            right.set_title("consumed", fontsize=9)
            left.set_ylabel("records/s")
        for axes in (left, right):
            _set_places(axes, field, places)
        _finish(figure, ends, title, path)
    return True


def percentiles(results: Sequence[Result], title: str, path: Path) -> bool:
    """Latency over percentile, the tail drawn out; one line per client (its median run)."""
    good = [result for result in usable(results) if result["latencyMeasured"]]
    if not good:
        return False
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 4.4), layout="constrained")
        both = figure.subplots(1, 2, sharey=True)
        ends: dict[Axes, Ends] = {axes: [] for axes in both}
        for axes, name in zip(both, ("PublishLatency", "EndToEndLatency"), strict=True):
            for client, colour in colours(good).items():
                runs = [result for result in good if result["driver"] == client]
                points = _tail(_middle_run(runs, f"aggregated{name}99pct"), name)
                axes.plot(*zip(*points, strict=True), color=colour)
                ends[axes].append((points[-1], client, colour))
            _logarithmic(axes)
            axes.xaxis.set_major_locator(FixedLocator([_nines(level) for level in NINES]))
            axes.xaxis.set_major_formatter(FixedFormatter([f"{level:g}" for level in NINES]))
            axes.set_xlabel("percentile")
        both[0].set_title("publish", fontsize=9)
        both[1].set_title("end to end", fontsize=9)
        both[0].set_ylabel("latency, ms")
        _finish(figure, ends, title, path)
    return True


# --- parts ----------------------------------------------------------------------------------------


def _medians(
    results: Sequence[Result],
    client: str,
    place: Callable[[Result], float],
    figure: Callable[[Result], float],
) -> list[Point]:
    """One point per place: the median over the client's runs there."""
    found: dict[float, list[float]] = {}
    for result in results:
        if result["driver"] == client:
            found.setdefault(place(result), []).append(figure(result))
    return sorted((x, statistics.median(ys)) for x, ys in found.items())


def _publish_and_read(
    left: Axes, right: Axes, results: Sequence[Result], place: Callable[[Result], float]
) -> dict[Axes, Ends]:
    """Publish latency with the delay that belongs to it, and end-to-end latency."""
    publish = {
        "p99": ("aggregatedPublishLatency99pct", 1.0, "-"),
        "p50": ("aggregatedPublishLatency50pct", 1.0, "--"),
        "delay p99": ("aggregatedPublishDelayLatency99pct", 1000.0, ":"),
    }
    read = {
        "p99": ("aggregatedEndToEndLatency99pct", 1.0, "-"),
        "p50": ("aggregatedEndToEndLatency50pct", 1.0, "--"),
    }
    left.set_title("publish (dotted: how late sends left)", fontsize=9)
    right.set_title("end to end", fontsize=9)
    left.set_ylabel("latency, ms")
    return {
        left: _latency_lines(left, results, publish, place),
        right: _latency_lines(right, results, read, place),
    }


def _latency_lines(
    axes: Axes,
    results: Sequence[Result],
    figures: Mapping[str, tuple[str, float, str]],
    place: Callable[[Result], float],
) -> Ends:
    ends: Ends = []
    for client, colour in colours(results).items():
        for label, (name, per_ms, dashes) in figures.items():
            points = _medians(results, client, place, _milliseconds(name, per_ms))
            axes.plot(*zip(*points, strict=True), dashes, color=colour, marker="o")
            ends.append((points[-1], f"{client} {label}", colour))
    _logarithmic(axes)
    return ends


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _milliseconds(name: str, per_ms: float) -> Callable[[Result], float]:
    def figure(result: Result) -> float:
        return max(0.001, float(result[name]) / per_ms)

    return figure


def _rate_lines(
    axes: Axes, results: Sequence[Result], name: str, place: Callable[[Result], float]
) -> Ends:
    ends: Ends = []
    for client, colour in colours(results).items():
        points = _medians(results, client, place, lambda result: mean_rate(result, name))
        axes.plot(*zip(*points, strict=True), color=colour, marker="o")
        ends.append((points[-1], client, colour))
    highest = max(y for line in axes.lines for y in _ys(line.get_ydata()))
    lowest = min(y for line in axes.lines for y in _ys(line.get_ydata()))
    if highest > 8 * lowest:
        _logarithmic(axes)
    else:
        axes.set_ylim(bottom=0, top=highest * 1.08)
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
    return ends


def _ys(data: object) -> list[float]:
    assert isinstance(data, Iterable)
    return [float(value) for value in data]


def _place(value: object, index: int) -> float:
    """Numbers on a logarithmic axis, names side by side."""
    return math.log10(value) if isinstance(value, (int, float)) and value > 0 else float(index)


def _set_places(axes: Axes, field: str, places: Mapping[object, float]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(places.values())))
    texts = [f"{value:,}" if isinstance(value, int) else str(value) for value in places]
    axes.xaxis.set_major_formatter(FixedFormatter(texts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(field)


def _nines(level: float) -> float:
    return -math.log10(1 - level / 100)


def _tail(result: Result, name: str) -> list[Point]:
    quantiles = result[f"aggregated{name}Quantiles"]
    levels = sorted((float(level), value) for level, value in quantiles.items())
    return [(_nines(level), max(0.001, value)) for level, value in levels if level < 100]


def _middle_run(runs: Sequence[Result], name: str) -> Result:
    return sorted(runs, key=lambda result: float(result[name]))[(len(runs) - 1) // 2]


def _short(value: float, _: int | None = None) -> str:
    """1.5M rather than 1500000."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _label_ends(axes: Axes, ends: Ends) -> None:
    """Names at the right ends of lines, pushed apart until none covers another."""
    scale = axes.transData
    rows = sorted((float(scale.transform(point)[1]), text, colour) for point, text, colour in ends)
    heights: list[float] = []
    for height, _, _ in rows:
        heights.append(max(height, heights[-1] + _LABEL_GAP) if heights else height)
    top = float(axes.bbox.y1)
    for index in range(len(heights) - 1, -1, -1):
        limit = top if index == len(heights) - 1 else heights[index + 1] - _LABEL_GAP
        heights[index] = min(heights[index], limit)
    for height, (_, text, colour) in zip(heights, rows, strict=True):
        share = (height - float(axes.bbox.y0)) / float(axes.bbox.height)
        axes.annotate(
            text,
            (1, share),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=8,
        )


def _finish(figure: Figure, ends: Mapping[Axes, Ends], title: str, path: Path) -> None:
    figure.draw_without_rendering()  # only then is it known where the lines end
    for axes, some in ends.items():
        _label_ends(axes, some)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
