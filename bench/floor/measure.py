"""Timing helpers: interleaved runs, medians, ratios, and the environment of every result."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from bench.measuring.statistics import percentile


@dataclass
class Row:
    """One line of the result table. ``ratio`` is ours / theirs; ``target`` says what it must be."""

    name: str
    unit: str
    ours: float
    theirs: float | None = None
    target: str = ""
    met: bool | None = None
    spread: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None


def microseconds(call: Callable[[], object], count: int) -> list[float]:
    """Time ``count`` calls one by one, in microseconds."""
    samples = []
    clock = time.perf_counter
    for _ in range(count):
        start = clock()
        call()
        samples.append((clock() - start) * 1e6)
    return samples


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(
    ours: Callable[[], list[float]], theirs: Callable[[], list[float]], runs: int
) -> tuple[list[list[float]], list[list[float]]]:
    """Run A/B/A/B so that a noisy minute hits both; one list of samples per run and side."""
    left: list[list[float]] = []
    right: list[list[float]] = []
    for _ in range(runs):
        left.append(ours())
        right.append(theirs())
    return left, right


def median_of(runs: Sequence[Sequence[float]], share: float) -> float:
    """Median over the runs of each run's percentile."""
    return statistics.median(percentile(run, share) for run in runs)


def environment() -> dict[str, str]:
    """What a reader must know to compare: machine, versions, file system."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    versions = {name: metadata.version(name) for name in ("ray", "pyarrow", "uvloop", "msgspec")}
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **versions,
    }


def print_rows(rows: Sequence[Row]) -> None:
    """Write the table to standard output."""
    widths = (46, 12, 12, 12, 8, 22, 5)
    titles = ("row", "unit", "raykafka", "floor", "ratio", "target", "met")
    print("  ".join(t.ljust(w) for t, w in zip(titles, widths, strict=True)))
    for row in rows:
        cells = (
            row.name,
            row.unit,
            f"{row.ours:,.4g}" if row.ours < 1000 else f"{row.ours:,.0f}",
            "-"
            if row.theirs is None
            else f"{row.theirs:,.4g}"
            if row.theirs < 1000
            else f"{row.theirs:,.0f}",
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            row.target,
            "-" if row.met is None else "yes" if row.met else "NO",
        )
        print("  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)))
        if row.note:
            print(f"    {row.note}")
    sys.stdout.flush()


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write the rows with their environment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {
        "environment": environment(),
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }
    path.write_text(json.dumps(body, indent=2) + "\n")
