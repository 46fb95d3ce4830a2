"""Cutting a log: what stays, and what a crash on the way leaves."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from raykafka.errors import DiskFullError, KafkaStorageError, LogDamagedError, OffsetOutOfRangeError
from raykafka.log.batch_header import read_header
from raykafka.storage.api import SegmentStore
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog
from raykafka.testing.memory_store import MemoryStore
from tests.storage.batches import NOW
from tests.storage.logs import DIRECTORY, append_values, open_log, read_values, segment_files
from tests.storage.replicated import (
    Death,
    MortalStore,
    copy_to,
    messages_of,
    producers_of,
    stamped,
)

SMALL = LogConfig(segment_bytes=3200)
SIZES = [1, 3, 2, 1, 4, 2, 3, 1, 2, 3, 1, 2]
"""Records per batch of a log of some five segments."""
ENDS = [sum(SIZES[:number]) for number in range(len(SIZES) + 1)]


def batches() -> Iterator[bytearray]:
    """Two producers in turn, a new epoch every third batch."""
    sequences = {1: 0, 2: 0}
    for number, size in enumerate(SIZES):
        producer = 1 + number % 2
        yield stamped(
            [b"%d" % number + b"x" * 500] * size,
            ENDS[number],
            leader_epoch=number // 3,
            append_time_ms=NOW + number,
            producer_id=producer,
            producer_epoch=0,
            base_sequence=sequences[producer],
        )
        sequences[producer] += size


BATCHES = [bytes(batch) for batch in batches()]


def filled(store: SegmentStore, size: int = len(BATCHES)) -> PartitionLog:
    log = open_log(store, SMALL)
    if size:
        copy_to(log, BATCHES[:size])
    return log


def kept_below(offset: int) -> int:
    """How many whole batches end by then."""
    return sum(end <= offset for end in ENDS[1:])


def assert_like_new(log: PartitionLog, store: SegmentStore, size: int) -> None:
    """The log is the one that never had more than its first ``size`` batches."""
    twin_store = MemoryStore()
    twin = filled(twin_store, size)
    assert (log.log_start_offset, log.log_end_offset) == (0, ENDS[size])
    assert log.damaged == []
    assert log.epochs.entries == twin.epochs.entries
    assert log.flushed_offset <= log.log_end_offset
    assert messages_of(log) == BATCHES[:size]
    files = segment_files(store)
    assert log.size_bytes == sum(map(store.size, files))
    assert producers_of(log, store) == producers_of(twin, twin_store)


class TestTruncateTo:
    @pytest.mark.parametrize("reopened", [False, True])
    @pytest.mark.parametrize("offset", range(ENDS[-1] + 2))
    def test_the_log_is_as_if_it_had_never_had_what_is_cut(
        self, log_store: SegmentStore, offset: int, reopened: bool
    ) -> None:
        log = filled(log_store)
        assert log.segment_count > 4
        log.truncate_to(offset)
        size = kept_below(offset)
        if reopened:
            log = open_log(log_store, SMALL, must_exist=True)
            assert log.recovered.clean
        assert log.log_end_offset == ENDS[size]
        assert_like_new(log, log_store, size)
        if size < len(BATCHES):
            copy_to(log, BATCHES[size:])
        assert messages_of(log) == BATCHES
        assert messages_of(open_log(log_store, SMALL, must_exist=True)) == BATCHES

    def test_an_old_epoch_goes_on_where_a_new_one_was_cut(self) -> None:
        log = filled(MemoryStore())
        log.truncate_to(ENDS[4])
        assert log.epochs.latest_epoch == 1
        copy_to(log, [stamped([b"new"], ENDS[4], leader_epoch=9)])
        assert log.epochs.entries == [(0, 0), (1, ENDS[3]), (9, ENDS[4])]

    def test_what_was_flushed_and_stays_is_flushed_still(self) -> None:
        store = MemoryStore()
        log = filled(store, 6)
        log.flush()
        copy_to(log, BATCHES[6:])
        log.truncate_to(ENDS[8])
        assert log.flushed_offset == ENDS[6]
        log.truncate_to(ENDS[4])
        assert log.flushed_offset == ENDS[4]
        store.drop_unsynced()
        log = open_log(store, SMALL, must_exist=True)
        assert (log.log_end_offset, log.flushed_offset) == (ENDS[4], ENDS[4])

    def test_deleted_records_stay_deleted(self) -> None:
        store = MemoryStore()
        log = filled(store)
        log.delete_records(ENDS[4])
        log.truncate_to(ENDS[6])
        assert (log.log_start_offset, log.log_end_offset) == (ENDS[4], ENDS[6])
        assert messages_of(log) == BATCHES[4:6]
        log.truncate_to(ENDS[4])
        assert (log.log_start_offset, log.log_end_offset) == (ENDS[4], ENDS[4])
        copy_to(log, BATCHES[4:])
        again = open_log(store, SMALL, must_exist=True)
        assert messages_of(again) == BATCHES[4:]
        assert again.damaged == []

    def test_behind_the_log_start_it_begins_again(self) -> None:
        store = MemoryStore()
        log = filled(store)
        log.delete_records(ENDS[9])
        log.truncate_to(ENDS[2])
        assert (log.log_start_offset, log.log_end_offset) == (ENDS[2], ENDS[2])
        again = open_log(store, SMALL, must_exist=True)
        assert (again.log_start_offset, again.log_end_offset, again.damaged) == (
            ENDS[2],
            ENDS[2],
            [],
        )

    def test_a_batch_in_which_the_log_starts_goes_whole(self) -> None:
        store = MemoryStore()
        log = filled(store)
        log.delete_records(ENDS[4] + 1)
        log.truncate_to(ENDS[4] + 2)
        assert (log.log_start_offset, log.log_end_offset) == (ENDS[4], ENDS[4])
        copy_to(log, BATCHES[4:])
        assert open_log(store, SMALL, must_exist=True).damaged == []

    def test_a_negative_offset_is_refused(self) -> None:
        log = filled(MemoryStore())
        for call in (log.truncate_to, log.restart_at):
            with pytest.raises(OffsetOutOfRangeError):
                call(-1)
        assert messages_of(log) == BATCHES

    def test_a_full_disk_changes_nothing(self) -> None:
        store = MemoryStore()
        log = filled(store)
        store.fail_next("publish", DiskFullError("full"))
        with pytest.raises(DiskFullError):
            log.truncate_to(ENDS[4])
        assert messages_of(log) == BATCHES
        log.truncate_to(ENDS[4])
        assert_like_new(log, store, 4)


class TestDamage:
    def damage(self, store: MemoryStore, log: PartitionLog, number: int) -> None:
        """Flip a bit in the body of a batch, and let a reader find it."""
        for path in segment_files(store):
            data = bytes(store.read(path, 0, store.size(path)))
            position = data.find(BATCHES[number])
            if position >= 0:
                store.corrupt(path, position + len(BATCHES[number]) - 20)

    @pytest.mark.parametrize("number", range(len(BATCHES)))
    @pytest.mark.parametrize("closed", [False, True])
    def test_a_follower_is_repaired_from_its_leader(self, number: int, closed: bool) -> None:
        store = MemoryStore()
        log = filled(store)
        if closed:
            log.close()
        self.damage(store, log, number)
        log = open_log(store, SMALL)
        with pytest.raises(LogDamagedError):
            log.read(ENDS[number], max_bytes=1, up_to=ENDS[-1])
        assert log.damaged == [(ENDS[number], ENDS[number + 1])]
        log.truncate_to(log.damaged[0][0])
        assert_like_new(log, store, number)
        copy_to(log, BATCHES[number:])
        assert messages_of(log) == BATCHES
        assert messages_of(open_log(store, SMALL, must_exist=True)) == BATCHES

    @pytest.mark.parametrize("lost", range(4))
    def test_a_segment_that_is_lost_is_copied_again(self, lost: int) -> None:
        store = MemoryStore()
        log = filled(store)
        log.close()
        store.delete(segment_files(store)[lost])
        log = open_log(store, SMALL)
        ((start, _),) = log.damaged
        log.truncate_to(start)
        assert log.log_end_offset == start
        assert log.damaged == []
        copy_to(log, BATCHES[kept_below(start) :])
        assert messages_of(open_log(store, SMALL, must_exist=True)) == BATCHES

    def test_damage_that_stays_is_known_still(self) -> None:
        store = MemoryStore()
        log = filled(store)
        log.close()
        self.damage(store, log, 1)
        log = open_log(store, SMALL)
        with pytest.raises(LogDamagedError):
            log.read(ENDS[1], max_bytes=1, up_to=ENDS[-1])
        log.truncate_to(ENDS[8])
        assert log.damaged == [(ENDS[1], ENDS[2])]
        assert log.log_end_offset == ENDS[8]


class TestRestartAt:
    @pytest.mark.parametrize("offset", [0, 2, ENDS[4], ENDS[-1], 1000])
    def test_everything_goes(self, log_store: SegmentStore, offset: int) -> None:
        log = filled(log_store)
        log.delete_records(ENDS[2])
        log.restart_at(offset)
        for _ in range(2):
            assert (log.log_start_offset, log.log_end_offset) == (offset, offset)
            assert (log.damaged, log.epochs.entries, segment_files(log_store)) == ([], [], [])
            assert log.flushed_offset == offset
            assert read_values(log) == {}
            log = open_log(log_store, SMALL, must_exist=True)
            assert log.recovered.clean
        copy_to(log, [stamped([b"a"], offset, leader_epoch=1), stamped([b"b"], offset + 1)][:1])
        assert read_values(log) == {offset: b"a"}
        assert producers_of(log, log_store) == []

    def test_a_log_that_was_empty(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        log.restart_at(7)
        log.restart_at(3)
        append_values(log, b"a")
        assert read_values(open_log(log_store, must_exist=True)) == {3: b"a"}


def cut(log: PartitionLog) -> None:
    log.truncate_to(ENDS[4] + 1)


def cut_between_segments(log: PartitionLog) -> None:
    log.truncate_to(log._segments.items[2].base_offset)


def cut_the_last(log: PartitionLog) -> None:
    log.truncate_to(ENDS[-2])


def restart_below(log: PartitionLog) -> None:
    log.restart_at(1)


def restart_above(log: PartitionLog) -> None:
    log.restart_at(500)


class TestCrashes:
    """At every change that one of them makes to the store, before it and right behind it."""

    @pytest.mark.parametrize("behind", [False, True])
    @pytest.mark.parametrize(
        ("power_cut", "flushed"), [(False, False), (False, True), (True, True)]
    )
    @pytest.mark.parametrize(
        "operation", [cut, cut_between_segments, cut_the_last, restart_below, restart_above]
    )
    def test_the_log_is_whole_and_no_shorter_than_it_was_to_become(
        self,
        operation: Callable[[PartitionLog], None],
        power_cut: bool,
        flushed: bool,
        behind: bool,
    ) -> None:
        target = self.undisturbed(operation)
        for death in count():
            memory = MemoryStore()
            store = MortalStore(memory)
            log = filled(store)  # type: ignore[arg-type]
            log.delete_records(ENDS[1])
            if flushed:
                log.flush()
            store.die_at(death, behind=behind)
            try:
                operation(log)
            except Death:
                with pytest.raises(KafkaStorageError):
                    copy_to(log, [stamped([b"lost"], log.log_end_offset, leader_epoch=9)])
            else:
                assert death > 1
                return
            store.live()
            if power_cut:
                generator = random.Random(death)
                memory.drop_unsynced(lambda _, size: generator.randint(0, size))  # noqa: B023
            again = open_log(memory, SMALL, must_exist=True)
            self.assert_whole(again, target)
            operation(again)
            assert (again.log_start_offset, again.log_end_offset) == target
            copy_to(again, [stamped([b"on"], again.log_end_offset, leader_epoch=9)])
            last = open_log(memory, SMALL, must_exist=True)
            assert last.log_end_offset == again.log_end_offset
            assert last.damaged == []

    def undisturbed(self, operation: Callable[[PartitionLog], None]) -> tuple[int, int]:
        log = filled(MemoryStore())
        log.delete_records(ENDS[1])
        operation(log)
        return log.log_start_offset, log.log_end_offset

    def assert_whole(self, log: PartitionLog, target: tuple[int, int]) -> None:
        """Either it is done, or a prefix is there that is long enough for a cut."""
        assert log.damaged == []
        if (log.log_start_offset, log.log_end_offset) == target:
            return
        found = messages_of(log)
        assert log.log_start_offset == ENDS[1]
        assert found == BATCHES[1 : 1 + len(found)]
        assert log.log_end_offset == ENDS[1 + len(found)]
        if target[0] == ENDS[1]:
            assert log.log_end_offset >= target[1]


def test_a_flush_beside_a_cut_claims_nothing_that_is_gone() -> None:
    """The flush looks at the log, then the log is cut and grows again before it is done."""
    entered, go_on = threading.Event(), threading.Event()

    class SlowFlush(MemoryStore):
        wait_in = ""

        def flush(self, path: str) -> None:
            super().flush(path)
            if threading.current_thread().name == "flushing":
                entered.set()
                assert go_on.wait(10)

    store = SlowFlush()
    log = filled(store)
    ends: list[int] = []
    thread = threading.Thread(target=lambda: ends.append(log.flush()), name="flushing")
    thread.start()
    assert entered.wait(10)
    log.truncate_to(ENDS[2])
    copy_to(log, BATCHES[2:6])
    go_on.set()
    thread.join()
    assert ends[0] <= ENDS[2]
    assert log.flushed_offset <= ENDS[2]
    assert log.flush() == ENDS[6]
    store.drop_unsynced()
    again = open_log(store, SMALL, must_exist=True)
    assert messages_of(again) == BATCHES[:6]
    assert [read_header(message).next_offset for message in messages_of(again)] == ENDS[1:7]
    assert store.list(DIRECTORY)
