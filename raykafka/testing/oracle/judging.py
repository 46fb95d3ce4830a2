"""The checks: pure functions of a history, partition by partition, on columns.

Source of the rules: the Kafka workload of Jepsen (``jepsen.tests.kafka``). The version order of a
partition is what acknowledgements and reads say of its offsets. A send of unknown outcome that was
read counts as acknowledged; one that was not read counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from raykafka.testing.oracle.history import FAIL, OK, UNKNOWN, History, Ints
from raykafka.testing.oracle.report import MAX_EXAMPLES, Report

_NS_PER_MS: Final = 1_000_000
_FOREVER: Final = np.iinfo(np.int64).max

Flags = npt.NDArray[np.bool_]


class _Partition(NamedTuple):
    """Rows of one partition; the order of the tables is kept."""

    number: int
    sends: Ints
    reads: Ints
    polls: Ints


class _Versions(NamedTuple):
    """Which values stand at which offsets; every pair once, by offset."""

    offsets: Ints
    values: Ints


def judge(
    history: History,
    *,
    subscribed: Collection[int] = (),
    idempotent: bool = True,
    is_complete: bool = True,
) -> Report:
    """Look for anomalies.

    ``subscribed`` are processes whose partitions are assigned by a group: between two polls they
    may go back or skip. Without ``idempotent`` duplicates are not looked for. ``is_complete`` says
    that somebody has read every partition to its end, after everything had healed; without it
    nothing is unseen.
    """
    report = Report(
        sends=history.sends.rows,
        acknowledged=int((history.sends.status == OK).sum()),
        reads=history.reads.rows,
    )
    rebalancing = np.array(sorted(subscribed), np.int64)
    for partition in _partitions(history):
        versions = _versions(history, partition)
        _check_versions(report, partition, versions, idempotent)
        _check_writes(report, history, partition, is_complete)
        _check_polls(report, history, partition, versions, rebalancing)
        _check_sends(report, history, partition)
        _measure_lag(report, history, partition)
    return report


def _partitions(history: History) -> list[_Partition]:
    tables = (history.sends.partition, history.reads.partition, history.polls.partition)
    numbers = np.unique(np.concatenate(tables))
    rows = []
    for column in tables:
        order = np.argsort(column, kind="stable")
        cuts = np.searchsorted(column[order], numbers)
        rows.append(np.split(order, cuts[1:]) if len(numbers) else [])
    return [_Partition(int(number), *parts) for number, *parts in zip(numbers, *rows, strict=False)]


def _versions(history: History, partition: _Partition) -> _Versions:
    sends, reads = history.sends, history.reads
    placed = partition.sends[
        (sends.status[partition.sends] == OK) & (sends.offset[partition.sends] != UNKNOWN)
    ]
    offsets = np.concatenate((sends.offset[placed], reads.offset[partition.reads]))
    values = np.concatenate((sends.value[placed], reads.value[partition.reads]))
    order = np.lexsort((values, offsets))
    offsets, values = offsets[order], values[order]
    first = np.ones(len(offsets), np.bool_)
    first[1:] = (offsets[1:] != offsets[:-1]) | (values[1:] != values[:-1])
    return _Versions(offsets[first], values[first])


def _check_versions(
    report: Report, partition: _Partition, versions: _Versions, idempotent: bool
) -> None:
    offsets, values = versions
    clash = offsets[1:] == offsets[:-1]
    report.found(
        "inconsistent-offsets",
        int(clash.sum()),
        _examples(
            partition,
            clash,
            lambda i: f"offset {offsets[i]} holds {values[i]} and {values[i + 1]}",
        ),
    )
    if not idempotent:
        return
    order = np.lexsort((offsets, values))
    again = values[order][1:] == values[order][:-1]
    report.found(
        "duplicate",
        int(again.sum()),
        _examples(
            partition,
            again,
            lambda i: (
                f"value {values[order[i]]} is at {offsets[order[i]]} and {offsets[order[i + 1]]}"
            ),
        ),
    )


def _check_writes(
    report: Report, history: History, partition: _Partition, is_complete: bool
) -> None:
    sends, reads = history.sends, history.reads
    mine, read = partition.sends, partition.reads
    status, value, offset = sends.status[mine], sends.value[mine], sends.offset[mine]
    seen_values = reads.value[read]
    unread = (status == OK) & ~np.isin(value, seen_values)
    highest = int(reads.offset[read].max()) if len(read) else UNKNOWN
    lost = unread & (offset <= highest)
    described = [f"value {v} acknowledged at {o}" for v, o in _some(lost, value, offset)]
    report.found("lost-write", int(lost.sum()), _where(partition, described))
    if is_complete:
        unseen = unread & (offset > highest)
        described = [f"value {v} acknowledged at {o}" for v, o in _some(unseen, value, offset)]
        report.found("unseen", int(unseen.sum()), _where(partition, described))

    failed = np.isin(seen_values, value[status == FAIL])
    described = [f"value {v} was refused" for (v,) in _some(failed, seen_values)]
    report.found("aborted-read", int(failed.sum()), _where(partition, described))
    unknown = ~np.isin(seen_values, value)
    described = [f"value {v} was never sent" for (v,) in _some(unknown, seen_values)]
    report.found("phantom-read", int(unknown.sum()), _where(partition, described))

    own = _pairs_in(reads.operation[read], seen_values, sends.operation[mine], value)
    described = [f"value {v} by its own transaction" for (v,) in _some(own, seen_values)]
    report.found("precommitted-read", int(own.sum()), _where(partition, described))


def _check_polls(
    report: Report,
    history: History,
    partition: _Partition,
    versions: _Versions,
    rebalancing: Ints,
) -> None:
    """Two records that one process read one after the other."""
    reads = history.reads
    mine = partition.reads[np.argsort(reads.process[partition.reads], kind="stable")]
    process, offset, operation = reads.process[mine], reads.offset[mine], reads.operation[mine]
    same = process[1:] == process[:-1]
    inside = operation[1:] == operation[:-1]
    back = same & (offset[1:] <= offset[:-1])
    known = np.unique(versions.offsets)
    between = np.searchsorted(known, offset[1:], "left") - np.searchsorted(
        known, offset[:-1], "right"
    )
    skip = same & (offset[1:] > offset[:-1]) & (between > 0)
    may_jump = np.isin(process[1:], rebalancing)
    moved = _reassigned(history, partition, operation[1:])

    def told(flags: Flags, name: str) -> None:
        examples = _examples(
            partition,
            flags,
            lambda i: f"process {process[i]} reads {offset[i]}, then {offset[i + 1]}",
        )
        report.found(name, int(flags.sum()), examples)

    for name, flags in (("poll-skip", skip), ("nonmonotonic-poll", back)):
        told(flags & ~inside & ~may_jump, name)
        told(flags & ~inside & may_jump, f"rebalanced-{name}")
        told(flags & inside & ~moved, f"int-{name}")


def _reassigned(history: History, partition: _Partition, operations: Ints) -> Flags:
    polls = history.polls
    moved = polls.operation[partition.polls][polls.reassigned[partition.polls] == 1]
    return np.isin(operations, moved)


def _check_sends(report: Report, history: History, partition: _Partition) -> None:
    """Two records that one process sent one after the other."""
    sends = history.sends
    placed = partition.sends[
        (sends.status[partition.sends] == OK) & (sends.offset[partition.sends] != UNKNOWN)
    ]
    mine = placed[np.argsort(sends.process[placed], kind="stable")]
    process, offset, operation = sends.process[mine], sends.offset[mine], sends.operation[mine]
    same = process[1:] == process[:-1]
    inside = operation[1:] == operation[:-1]
    back = same & (offset[1:] <= offset[:-1])

    def told(flags: Flags, name: str) -> None:
        examples = _examples(
            partition,
            flags,
            lambda i: f"process {process[i]} wrote to {offset[i]}, then to {offset[i + 1]}",
        )
        report.found(name, int(flags.sum()), examples)

    told(back & ~inside, "nonmonotonic-send")
    told(back & inside, "int-nonmonotonic-send")
    told(same & inside & (offset[1:] > offset[:-1] + 1), "int-send-skip")


def _measure_lag(report: Report, history: History, partition: _Partition) -> None:
    """For every poll: the oldest acknowledgement from before it, behind the poll's position."""
    sends, polls = history.sends, history.polls
    placed = partition.sends[
        (sends.status[partition.sends] == OK) & (sends.offset[partition.sends] != UNKNOWN)
    ]
    if not len(placed) or not len(partition.polls):
        return
    order = np.argsort(sends.offset[placed], kind="stable")
    offset, completed = sends.offset[placed][order], sends.completed[placed][order]
    oldest_behind = np.append(np.minimum.accumulate(completed[::-1])[::-1], _FOREVER)
    position = polls.position[partition.polls]
    oldest = oldest_behind[np.searchsorted(offset, position, "left")]
    invoked = polls.invoked[partition.polls]
    late = oldest < invoked
    if late.any():
        worst = int((invoked - oldest)[late].max())
        report.worst_lag_ms = max(report.worst_lag_ms, worst / _NS_PER_MS)


# --- small parts ----------------------------------------------------------------------------------


def _pairs_in(first: Ints, second: Ints, of_first: Ints, of_second: Ints) -> Flags:
    """Whether each pair (first, second) is among the pairs (of_first, of_second)."""
    candidates = np.isin(first, of_first)
    if not candidates.any():
        return candidates
    known = set(zip(of_first.tolist(), of_second.tolist(), strict=False))
    rows = np.flatnonzero(candidates)
    pairs = zip(first[rows].tolist(), second[rows].tolist(), strict=False)
    candidates[rows] = [pair in known for pair in pairs]
    return candidates


def _some(flags: Flags, *columns: Ints) -> list[tuple[int, ...]]:
    rows = np.flatnonzero(flags)[:MAX_EXAMPLES]
    return [tuple(int(column[row]) for column in columns) for row in rows]


def _examples(partition: _Partition, flags: Flags, describe: Callable[[int], str]) -> list[str]:
    rows = np.flatnonzero(flags)[:MAX_EXAMPLES]
    return _where(partition, [describe(int(row)) for row in rows])


def _where(partition: _Partition, described: list[str]) -> list[str]:
    return [f"partition {partition.number}: {text}" for text in described]
