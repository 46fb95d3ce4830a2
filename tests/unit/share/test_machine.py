"""The share coordinator's machine: what is written is known after a replay, old leaders are not
listened to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykafka.errors import (
    FencedLeaderEpochError,
    FencedStateEpochError,
    GroupIdNotFoundError,
    InvalidRequestError,
    UnsupportedVersionError,
)
from raykafka.share import records
from raykafka.share.commands import (
    AlterOffsets,
    Command,
    ConfigureGroup,
    DeleteState,
    DescribeOffsets,
    GroupAnswer,
    Initialize,
    PartitionWrite,
    Place,
    ReadState,
    WriteState,
)
from raykafka.share.machine import ShareCoordinator
from raykafka.share.state import StateBatch

HERE, THERE = Place("t-1", 0), Place("t-1", 1)


class Log:
    """A machine, and the log that another one is made of."""

    def __init__(self) -> None:
        self.machine = ShareCoordinator()
        self.entries: list[tuple[bytes, bytes | None]] = []

    def do(self, command: Command) -> GroupAnswer:
        outcome = self.machine.handle(command, now_ms=0, monotonic_ms=0)
        self.entries += [self.machine.encode(record) for record in outcome.records]
        self.machine.replay(outcome.records)
        answer: GroupAnswer = outcome.answer
        return answer

    def replayed(self) -> ShareCoordinator:
        other = ShareCoordinator()
        other.replay([other.decode(key, value) for key, value in self.entries])
        return other


def all_of(machine: ShareCoordinator) -> list[Any]:
    return list(machine.snapshot())


def write(start: int, *batches: StateBatch, epoch: int = 1, state_epoch: int = 0) -> Any:
    return PartitionWrite(state_epoch, epoch, start, batches)


def test_a_share_partition_is_made_once_and_read_by_the_next_leader() -> None:
    log = Log()
    assert log.do(ReadState("g", {HERE: 1})).partitions[0].start_offset == -1
    assert log.do(Initialize("g", {HERE: 7})).partitions[0].start_offset == 7
    assert log.do(Initialize("g", {HERE: 99})).partitions[0].start_offset == 7
    log.do(WriteState("g", {HERE: write(9, StateBatch(10, 12, 2, 1), StateBatch(13, 14, 0, 1))}))
    found = log.do(ReadState("g", {HERE: 2})).partitions[0]
    assert (found.start_offset, found.in_flight) == (9, 2)
    assert list(found.batches) == [StateBatch(10, 12, 2, 1), StateBatch(13, 14, 0, 1)]
    assert all_of(log.replayed()) == all_of(log.machine)


def test_a_leader_that_was_deposed_is_refused_and_so_is_one_that_missed_a_reset() -> None:
    log = Log()
    log.do(Initialize("g", {HERE: 0, THERE: 0}))
    log.do(ReadState("g", {HERE: 3}))
    results = log.do(WriteState("g", {HERE: write(5, epoch=2), THERE: write(5, epoch=2)}))
    assert isinstance(results.partitions[0].error, FencedLeaderEpochError)
    assert results.partitions[1].error is None
    assert isinstance(log.do(ReadState("g", {HERE: 2})).partitions[0].error, FencedLeaderEpochError)
    log.do(AlterOffsets("g", {HERE: 1}))
    late = log.do(WriteState("g", {HERE: write(6, epoch=3)})).partitions[0]
    assert isinstance(late.error, FencedStateEpochError)
    found = log.do(ReadState("g", {HERE: 3})).partitions[0]
    assert (found.state_epoch, found.start_offset, list(found.batches)) == (1, 1, [])
    assert all_of(log.replayed()) == all_of(log.machine)


def test_a_group_is_deleted_with_its_settings() -> None:
    log = Log()
    log.do(Initialize("g", {HERE: 0, THERE: 0}))
    log.do(ConfigureGroup("g", {"share.auto.offset.reset": "earliest"}))
    log.do(DeleteState("g", [THERE]))
    assert [state.place for state in log.do(DescribeOffsets("g")).partitions] == [HERE]
    log.do(DeleteState("g"))
    assert all_of(log.machine) == all_of(log.replayed()) == []
    with pytest.raises(GroupIdNotFoundError):
        log.do(DeleteState("g"))
    gone = log.do(WriteState("g", {HERE: write(1)})).partitions[0]
    assert isinstance(gone.error, FencedStateEpochError)


def test_writers_hear_of_new_settings_once() -> None:
    log = Log()
    log.do(Initialize("g", {HERE: 0}))
    log.do(ConfigureGroup("g", {"a": "1", "b": "2"}))
    log.do(ConfigureGroup("g", {"a": None}))
    heard = log.do(WriteState("g", {HERE: write(1)}, config_epoch=0))
    assert (heard.config_epoch, heard.configs) == (2, {"b": "2"})
    assert log.do(WriteState("g", {HERE: write(1)}, config_epoch=2)).configs == {}
    log.do(ConfigureGroup("g", {"b": None}))
    assert log.do(DescribeOffsets("g")).config_epoch == 3
    assert all_of(log.replayed()) == all_of(log.machine)


def test_an_offset_below_zero_is_refused() -> None:
    log = Log()
    answer = log.do(AlterOffsets("g", {HERE: -1, THERE: 4}))
    assert isinstance(answer.partitions[0].error, InvalidRequestError)
    assert answer.partitions[1].start_offset == 4


def test_what_cannot_be_read_stops_the_replay() -> None:
    for key, value in ((b"\xc1", b""), (b"x", None), (records.encode(
        records.ShareStateDeleted("g", "t", 0))[0], b"\xc1")):  # fmt: skip
        with pytest.raises(UnsupportedVersionError):
            records.decode(key, value)


BATCHES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 6), st.sampled_from([0, 2, 3, 4])), max_size=4
)


@given(writes=st.lists(st.tuples(st.integers(0, 20), BATCHES), max_size=8), cut=st.integers(0, 8))
def test_a_snapshot_anywhere_and_the_rest_of_the_log_say_the_same(
    writes: Sequence[tuple[int, Sequence[tuple[int, int, int]]]], cut: int
) -> None:
    log = Log()
    log.do(Initialize("g", {HERE: 0}))
    later = ShareCoordinator()
    later.replay(all_of(log.machine))
    for number, (start, batches) in enumerate(writes):
        if number == cut:
            later = ShareCoordinator()
            later.replay(all_of(log.machine))
        made = [StateBatch(first, first + more, state, 1) for first, more, state in batches]
        before = len(log.entries)
        log.do(WriteState("g", {HERE: write(start, *made)}))
        later.replay([later.decode(*entry) for entry in log.entries[before:]])
    assert all_of(later) == all_of(log.machine) == all_of(log.replayed())
