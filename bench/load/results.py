"""Results in the form of the OpenMessaging Benchmark (OMB), so that its chart tools read them.

Publish and end-to-end latencies are in milliseconds, publish delays in microseconds, rates in
records per second; lists have one entry per period. As with OMB, a period without samples has
latency 0; ``latencyMeasured`` tells whether there were any at all. A publish delay is how late a
record left: no publish latency means anything without it, since a client that stalls sends later
and would otherwise look fast.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.load.pacing import NS
from bench.load.session import Phase
from bench.load.workload import Workload

Result = dict[str, Any]
Numbers = npt.NDArray[np.number[Any]]

LEVELS = {"50pct": 50, "75pct": 75, "95pct": 95, "99pct": 99, "999pct": 99.9, "9999pct": 99.99}
KINDS = {"publishLatency": 1e6, "publishDelayLatency": 1e3, "endToEndLatency": 1e6}
"""OMB's names and the nanoseconds of their units."""
_STEPS_PER_HALVING = 10
_PERIOD_S = 10.0


def head(workload: Workload, driver: str, version: str) -> Result:
    """What every result begins with, also that of a run that could not take place."""
    return {
        "workload": workload.name,
        "driver": driver,
        "messageSize": workload.messageSize,
        "topics": workload.topics,
        "partitions": workload.partitionsPerTopic,
        "producersPerTopic": workload.producersPerTopic,
        "consumersPerTopic": workload.consumerPerSubscription,
        "subscriptionsPerTopic": workload.subscriptionsPerTopic,
        "version": version,
        "beginTime": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "void": None,
        "missing": None,
    }


def measured(phase: Phase, subscriptions: int) -> Result:
    """The figures of a timed phase; none of one that is void."""
    if phase.void:
        return {"void": phase.void}
    figures = _unpaced(phase, subscriptions) if not phase.planned else _paced(phase, subscriptions)
    million = max(1, phase.count) / 1e6
    return {
        **figures,
        "records": phase.count,
        "serverCpuSecondsPerMillion": phase.server_cpu_s / million,
        "clientCpuSecondsPerMillion": phase.client_cpu_s / million,
        "endTime": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _unpaced(phase: Phase, subscriptions: int) -> Result:
    """Rates only: of the producers as long as one sends, of the consumers as long as one reads."""
    begin = min(sent.begin_ns for sent in phase.sent)
    took_ns = max(sent.end_ns for sent in phase.sent) - begin
    reading = max(r.end_ns for r in phase.received) - max(
        begin, min(r.begin_ns for r in phase.received)
    )
    read = sum(received.count for received in phase.received)
    empty = np.zeros(0, np.int64)
    figures: Result = {
        "publishRate": [phase.count * NS / took_ns],
        "publishErrorRate": [0.0],
        "consumeRate": [read * NS / max(1, reading)],
        "backlog": [max(0, phase.count * subscriptions - read)],
        "periodSeconds": took_ns / NS,
        "latencyMeasured": False,
    }
    for kind, unit in KINDS.items():
        figures |= _over_periods(kind, [empty], unit) | _aggregated(kind, empty, unit)
    return figures


def _paced(phase: Phase, subscriptions: int) -> Result:
    begin, end = phase.begin_ns, phase.end_ns
    seconds = (end - begin) / NS
    periods = max(1, math.floor(seconds / min(_PERIOD_S, max(1.0, seconds / 10))))
    edges = np.linspace(begin, end, periods + 1)
    due, sent, acked = (
        np.concatenate([getattr(some, name) for some in phase.sent])
        for name in ("due", "sent", "acked")
    )
    good = acked > 0
    times = np.concatenate([received.times for received in phase.received])
    ages = np.concatenate([received.latencies for received in phase.received])
    samples = {
        "publishLatency": (acked[good], (acked - sent)[good]),
        "publishDelayLatency": (acked[good], np.maximum(0, sent - due)[good]),
        "endToEndLatency": (times, ages),
    }
    each = seconds / periods
    published, consumed = _per_period(acked[good], edges), _per_period(times, edges)
    failed = _per_period(sent[~good], edges)
    unread = np.cumsum(published) * subscriptions - np.cumsum(consumed)
    figures: Result = {
        "publishRate": (published / each).tolist(),
        "publishErrorRate": (failed / each).tolist(),
        "consumeRate": (consumed / each).tolist(),
        "backlog": np.maximum(0, unread).astype(int).tolist(),
        "periodSeconds": each,
        "latencyMeasured": bool(good.any()),
        "lateAtEnd": phase.late,
        "unreadAtEnd": phase.unread,
    }
    for kind, (moments, values) in samples.items():
        groups = [
            values[(moments >= first) & (moments < last)]
            for first, last in itertools.pairwise(edges)
        ]
        figures |= _over_periods(kind, groups, KINDS[kind])
        figures |= _aggregated(kind, values, KINDS[kind])
    if phase.resumed_ns:
        figures |= _backlog_stages(phase, *samples["publishLatency"])
    return figures


def _backlog_stages(phase: Phase, moments: Numbers, latencies: Numbers) -> Result:
    """What producers felt while the backlog grew, while it was drained, and after that."""
    drained = phase.drained_ns or phase.end_ns
    edges = {
        "building": (phase.begin_ns, phase.resumed_ns),
        "draining": (phase.resumed_ns, drained),
        "after": (drained, phase.end_ns),
    }
    stages = {}
    for name, (first, last) in edges.items():
        values = np.sort(latencies[(moments >= first) & (moments < last)])
        stages[name] = {
            "seconds": (last - first) / NS,
            "publishRate": len(values) / max(1e-9, (last - first) / NS),
            "publishLatency50pct": _at(values, 50) / 1e6,
            "publishLatency99pct": _at(values, 99) / 1e6,
        }
    return {"backlogStages": stages, "backlogDrained": bool(phase.drained_ns)}


def _per_period(moments: Numbers, edges: Numbers) -> npt.NDArray[np.int64]:
    return np.histogram(moments, edges)[0].astype(np.int64)


def _at(ordered: Numbers, level: float) -> float:
    """The value at a percentile, as HdrHistogram counts: no interpolation; 0 of nothing."""
    if not len(ordered):
        return 0.0
    return float(ordered[max(0, math.ceil(len(ordered) * level / 100) - 1)])


def _summary(values: Numbers, unit: float) -> dict[str, float]:
    ordered = np.sort(values)
    found = {name: _at(ordered, level) / unit for name, level in LEVELS.items()}
    mean = float(np.mean(values)) / unit if len(values) else 0.0
    return {"Avg": mean, **found, "Max": _at(ordered, 100) / unit}


def _over_periods(kind: str, groups: Sequence[Numbers], unit: float) -> Result:
    summaries = [_summary(group, unit) for group in groups]
    return {f"{kind}{name}": [summary[name] for summary in summaries] for name in summaries[0]}


def _aggregated(kind: str, values: Numbers, unit: float) -> Result:
    title = "aggregated" + kind[0].upper() + kind[1:]
    figures: Result = {f"{title}{name}": value for name, value in _summary(values, unit).items()}
    ordered = np.sort(values)
    figures[f"{title}Quantiles"] = {
        str(level): _at(ordered, level) / unit for level in _levels(len(values))
    }
    return figures


def _levels(samples: int) -> list[float]:
    """Percentiles that get denser towards 100, as far as there are samples behind them."""
    if not samples:
        return []
    halvings = max(1, math.ceil(math.log2(samples)))
    steps = range(halvings * _STEPS_PER_HALVING)
    return [100 * (1 - 0.5 ** (step / _STEPS_PER_HALVING)) for step in steps] + [100.0]


def save(result: Result, folder: Path, label: str) -> Path:
    """Write it as JSON; the file's name is made of ``label``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^\w.=]+", "-", label).strip("-") + ".json")
    path.write_text(json.dumps(result, indent=1))
    return path


# --- the table ------------------------------------------------------------------------------------


def mean_rate(result: Result, name: str = "publishRate") -> float:
    return statistics.fmean(result[name])


def usable(results: Sequence[Result]) -> list[Result]:
    """Those with figures."""
    return [result for result in results if not result["void"] and not result["missing"]]


def table(results: Sequence[Result]) -> str:
    """Markdown with a row per workload and client; medians over runs, the spread of the rate."""
    lines = [
        "| workload | client | runs | publish /s (least - most) | MB/s | consume /s "
        "| publish p50 / p99 ms | delay p99 ms | end to end p50 / p99 ms "
        "| CPU s per M, client + server |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (workload, driver), runs in grouped(results).items():
        lines.append(f"| {workload} | {driver} | {_cells(runs)} |")
    lines += ["", *filter(None, map(_stages, usable(results)))]
    return "\n".join(lines).rstrip() + "\n"


def _stages(result: Result) -> str:
    """What producers felt of a backlog, in one line."""
    stages = result.get("backlogStages")
    if not stages:
        return ""
    latencies = ", ".join(
        f"{name} {stage['publishLatency99pct']:.1f} ({stage['seconds']:.1f} s)"
        for name, stage in stages.items()
    )
    return f"- {result['workload']}, {result['driver']}: publish p99 in ms while {latencies}"


def grouped(results: Sequence[Result]) -> Mapping[tuple[str, str], list[Result]]:
    """The runs of each workload and client, in the order in which they came."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result["workload"], result["driver"]), []).append(result)
    return groups


def median(runs: Sequence[Result], name: str) -> float:
    return statistics.median(float(run[name]) for run in runs)


def _cells(runs: Sequence[Result]) -> str:
    good = usable(runs)
    if not good:
        reason = next((f"void: {run['void']}" for run in runs if run["void"]), None)
        return f"0 | {reason or 'missing: ' + str(runs[0]['missing'])} | | | | | | "
    rates = [mean_rate(run) for run in good]
    rate = statistics.median(rates)
    consumed = statistics.median(mean_rate(run, "consumeRate") for run in good)
    void = f" ({len(runs) - len(good)} void)" if len(good) < len(runs) else ""
    cells = [
        f"{len(good)}{void}",
        f"{rate:,.0f} ({min(rates):,.0f} - {max(rates):,.0f})",
        f"{rate * good[0]['messageSize'] / 1e6:,.1f}",
        f"{consumed:,.0f}",
        _latencies(good, "aggregatedPublishLatency", 1),
        _latencies(good, "aggregatedPublishDelayLatency", 1000).split(" / ")[-1],
        _latencies(good, "aggregatedEndToEndLatency", 1),
        f"{median(good, 'clientCpuSecondsPerMillion'):.2f} + "
        f"{median(good, 'serverCpuSecondsPerMillion'):.2f}",
    ]
    return " | ".join(cells)


def _latencies(runs: Sequence[Result], title: str, per_ms: float) -> str:
    if not runs[0]["latencyMeasured"]:
        return "-"
    return " / ".join(f"{median(runs, title + name) / per_ms:.2f}" for name in ("50pct", "99pct"))
