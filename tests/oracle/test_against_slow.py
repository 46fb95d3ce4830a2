"""The oracle beside a slow one that is obvious, on random histories; and how fast it is."""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.testing.oracle.history import FAIL, OK, History, Polls, Reads, Recorder, Sends
from raykafka.testing.oracle.judging import judge

PARTITIONS = 2
OFFSETS = 5


@st.composite
def histories(draw: st.DrawFn) -> tuple[History, set[int]]:
    recorder = Recorder()
    now = 0
    small = st.integers(0, 3)
    for value in range(draw(st.integers(0, 8))):
        now += draw(small)
        process, partition = draw(st.integers(0, 1)), draw(st.integers(0, PARTITIONS - 1))
        # Values are unique in what is real; a few that are not must not break anything.
        operation = draw(st.sampled_from((None, None, 1000, 1001)))
        number = recorder.send(process, partition, value, now, operation)
        now += draw(small)
        outcome = draw(st.sampled_from("oooofi"))
        if outcome == "o":
            recorder.acknowledged(number, draw(st.integers(0, OFFSETS)), now)
        elif outcome == "f":
            recorder.failed(number, now)
    for _ in range(draw(st.integers(0, 6))):
        now += draw(small)
        records = draw(
            st.lists(
                st.tuples(
                    st.integers(0, PARTITIONS - 1), st.integers(0, OFFSETS), st.integers(0, 9)
                ),
                max_size=4,
            )
        )
        positions = [(n, draw(st.integers(0, OFFSETS))) for n in range(PARTITIONS)]
        recorder.polled(
            draw(st.integers(2, 4)),
            records,
            positions,
            now,
            reassigned=draw(st.sets(st.integers(0, PARTITIONS - 1))),
            operation=draw(st.sampled_from((None, None, 1000, 1001))),
        )
    return recorder.history(), draw(st.sets(st.integers(2, 4)))


def rows(table: Sends | Reads | Polls) -> list[dict[str, int]]:
    columns = {name: getattr(table, name).tolist() for name in table.__dataclass_fields__}
    return [dict(zip(columns, row, strict=False)) for row in zip(*columns.values(), strict=False)]


def slow(history: History, subscribed: set[int]) -> tuple[Counter[str], float]:
    """The same rules, said with loops."""
    counts: Counter[str] = Counter()
    lag = 0
    for number in range(PARTITIONS):
        sends = [row for row in rows(history.sends) if row["partition"] == number]
        reads = [row for row in rows(history.reads) if row["partition"] == number]
        polls = [row for row in rows(history.polls) if row["partition"] == number]
        acknowledged = [row for row in sends if row["status"] == OK]

        at, where = defaultdict(set), defaultdict(set)
        for row in [*acknowledged, *reads]:
            at[row["offset"]].add(row["value"])
            where[row["value"]].add(row["offset"])
        counts["inconsistent-offsets"] += sum(len(values) - 1 for values in at.values())
        counts["duplicate"] += sum(len(offsets) - 1 for offsets in where.values())

        highest = max((row["offset"] for row in reads), default=-1)
        read = {row["value"] for row in reads}
        for row in acknowledged:
            if row["value"] not in read:
                counts["lost-write" if row["offset"] <= highest else "unseen"] += 1
        for row in reads:
            of = [each for each in sends if each["value"] == row["value"]]
            counts["phantom-read"] += not of
            counts["aborted-read"] += any(each["status"] == FAIL for each in of)
            counts["precommitted-read"] += any(each["operation"] == row["operation"] for each in of)

        moved = {row["operation"] for row in polls if row["reassigned"]}
        for process in {row["process"] for row in reads}:
            mine = [row for row in reads if row["process"] == process]
            for one, two in itertools.pairwise(mine):
                kind = ""
                if two["offset"] <= one["offset"]:
                    kind = "nonmonotonic-poll"
                elif any(one["offset"] < offset < two["offset"] for offset in at):
                    kind = "poll-skip"
                if not kind:
                    continue
                if one["operation"] != two["operation"]:
                    counts["rebalanced-" * (process in subscribed) + kind] += 1
                elif two["operation"] not in moved:
                    counts["int-" + kind] += 1
        for process in {row["process"] for row in acknowledged}:
            mine = [row for row in acknowledged if row["process"] == process]
            for one, two in itertools.pairwise(mine):
                inside = one["operation"] == two["operation"]
                if two["offset"] <= one["offset"]:
                    counts["int-" * inside + "nonmonotonic-send"] += 1
                elif inside and two["offset"] > one["offset"] + 1:
                    counts["int-send-skip"] += 1
        for poll in polls:
            behind = [row["completed"] for row in acknowledged if row["offset"] >= poll["position"]]
            if behind:
                lag = max(lag, poll["invoked"] - min(behind))
    return +counts, lag / 1e6


@given(histories())
@settings(max_examples=400, deadline=None)
def test_it_finds_what_the_obvious_one_finds(drawn: tuple[History, set[int]]) -> None:
    history, subscribed = drawn
    report = judge(history, subscribed=subscribed)
    assert (Counter(report.counts), report.worst_lag_ms) == slow(history, subscribed)


def test_millions_of_operations_take_seconds() -> None:
    """A guard against an accidental loop over rows, with a wide margin."""
    records, partitions = 1_000_000, 8
    value = np.arange(records)
    partition = value % partitions
    offset = value // partitions
    zeros = np.zeros(records, np.int64)
    sends = Sends(zeros, partition, value, offset, zeros, value, value, value + 1)
    reads = Reads(zeros + 1, partition, offset, value, value // 500 + records)
    polls = Polls(zeros + 1, partition, offset + 1, value // 500 + records, zeros, value + 2)
    begun = time.perf_counter()
    report = judge(History(sends, reads, polls))
    assert report.counts == {}
    assert time.perf_counter() - begun < 20
