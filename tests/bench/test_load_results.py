"""Figures in the OpenMessaging Benchmark's form, tables, pictures and suites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.load import plots, results, suite
from bench.load.consuming import ConsumerTask, Received
from bench.load.pacing import NS
from bench.load.producing import Sent
from bench.load.results import Result
from bench.load.session import Phase
from bench.load.workload import WorkloadError, load
from bench.measuring.records import Records
from bench.peers.api import Topic

ROOT = Path(__file__).parents[2]
MS = 1_000_000


def paced_phase(seconds: int = 20, rate: int = 100, failed: int = 0) -> Phase:
    """Every record leaves 1 ms late, is acknowledged after 5 ms and arrives after 7."""
    count = seconds * rate
    due = np.arange(count, dtype=np.int64) * (NS // rate)
    sent = due + MS
    acked = sent + 5 * MS
    acked[:failed] = 0
    task = ConsumerTask(0, Topic("t"), 0, (0,))
    received = Received(task, count, sent + 7 * MS, np.full(count, 7 * MS, np.int64))
    phase = Phase(0, seconds * NS, planned=count, received=[received])
    phase.sent = [Sent({"t": [Records(count, 100)]}, due, sent, acked, failures=failed)]
    return phase


def result(driver: str, number: int = 0, **more: Any) -> Result:
    workload = load(ROOT / "bench/workloads/100-per-second-100b.yaml")
    figures = results.measured(paced_phase(), 1)
    figures["aggregatedPublishLatency99pct"] += number
    return {
        **results.head(workload, driver, "1.0"),
        **figures,
        "overrides": ["a note"],
        "entry": "an entry",
        "sweep": {},
        **more,
    }


def test_units_are_milliseconds_and_for_delays_microseconds() -> None:
    figures = results.measured(paced_phase(), 1)
    assert figures["aggregatedPublishLatency99pct"] == 5
    assert figures["aggregatedPublishDelayLatency50pct"] == 1000
    assert figures["aggregatedEndToEndLatencyMax"] == 7
    assert figures["aggregatedPublishLatencyQuantiles"]["100.0"] == 5
    assert len(figures["publishRate"]) == 10
    assert figures["publishRate"][3] == pytest.approx(100, rel=0.02)
    assert figures["consumeRate"][3] == pytest.approx(100, rel=0.02)
    assert len(figures["publishLatency9999pct"]) == 10
    assert figures["records"] == 2000


def test_failed_sends_are_errors_and_have_no_latency() -> None:
    figures = results.measured(paced_phase(failed=100), 1)
    assert sum(figures["publishErrorRate"]) * figures["periodSeconds"] == pytest.approx(100)
    assert figures["aggregatedPublishLatencyMax"] == 5


def test_a_void_phase_has_no_figures() -> None:
    phase = paced_phase()
    phase.void = "3 of 2000 records lost"
    assert results.measured(phase, 1) == {"void": "3 of 2000 records lost"}


def test_an_unpaced_phase_has_rates_only_and_reading_counts_from_its_own_begin() -> None:
    sent = Sent({"t": [Records(1000, 100)]}, begin_ns=0, end_ns=NS)
    task = ConsumerTask(0, Topic("t"), 0, (0,))
    received = Received(task, 1000, begin_ns=2 * NS, end_ns=4 * NS)
    figures = results.measured(Phase(0, 4 * NS, [sent], [received]), 1)
    assert figures["publishRate"] == [1000]
    assert figures["consumeRate"] == [500]
    assert not figures["latencyMeasured"]
    assert figures["publishLatency99pct"] == [0]


def test_backlog_stages_are_told_apart() -> None:
    phase = paced_phase()
    phase.resumed_ns, phase.drained_ns = 5 * NS, 6 * NS
    stages = results.measured(phase, 1)["backlogStages"]
    assert [stages[name]["seconds"] for name in ("building", "draining", "after")] == [5, 1, 14]
    assert stages["draining"]["publishLatency99pct"] == 5


def test_the_table_names_what_is_void_or_missing(tmp_path: Path) -> None:
    runs = [
        result("one"),
        result("one"),
        {**result("one"), "void": "a record was lost"},
        {**result("two"), "missing": "not installed"},
        {**result("three"), "void": "doubled"},
    ]
    rows = results.table(runs).splitlines()
    assert "| 2 (1 void) | 100" in rows[2]
    assert "| missing: not installed |" in rows[3]
    assert "| void: doubled |" in rows[4]
    assert len({row.count("|") for row in rows}) == 1
    path = results.save(runs[0], tmp_path, "100 records/s [x=1]-one-1")
    assert path.name == "100-records-s-x=1-one-1.json"
    assert json.loads(path.read_text())["driver"] == "one"
    assert "- an entry: a note" in suite.report(runs)


def test_pictures_are_drawn_of_what_has_figures(tmp_path: Path) -> None:
    runs = [
        result(driver, number, sweep={"fsync": value}, loadShare=share, offeredRate=share * 1000)
        for number, driver in enumerate(("one", "two"))
        for value, share in (("none", 0.2), ("batch", 0.8))
    ]
    assert plots.load_curve(runs, "curve", tmp_path / "curve.png")
    assert plots.sweep(runs, "fsync", "sweep", tmp_path / "sweep.png")
    assert plots.percentiles(runs, "tail", tmp_path / "tail.png")
    assert len(list(tmp_path.glob("*.png"))) == 3
    void = [{**run, "void": "lost"} for run in runs]
    assert not plots.load_curve(void, "curve", tmp_path / "none.png")
    assert not plots.sweep(void, "fsync", "sweep", tmp_path / "none.png")
    assert not plots.percentiles(void, "tail", tmp_path / "none.png")


def test_the_full_suite_can_be_read() -> None:
    entries = suite.load(ROOT / "bench/suites/full.yaml")
    assert len({entry.name for entry in entries}) == len(entries)
    swept = next(entry for entry in entries if entry.name.startswith("Producers"))
    names = [case.name for _, case, _ in swept.cases()]
    assert "Producers, 100 B [producersPerTopic=4, keyDistributor=KEY_ROUND_ROBIN]" in names


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("{name: x, clients: [a]}", "x: give workload"),
        ("{name: x, workload: w.yaml, clients: [a], partitons: 1}", "no such key: partitons"),
        ("{name: x, workload: w.yaml, clients: [a], sweep: {topics: [0]}}", "topics must be at"),
    ],
)
def test_a_suite_is_checked_before_anything_runs(
    tmp_path: Path, entry: str, complaint: str
) -> None:
    source = ROOT / "bench/workloads/100-per-second-100b.yaml"
    (tmp_path / "w.yaml").write_text(source.read_text())
    (tmp_path / "suite.yaml").write_text(f"entries:\n  - {entry}\n")
    with pytest.raises(WorkloadError, match=complaint):
        suite.load(tmp_path / "suite.yaml")
