"""A follower's log: batches come as their leader stamped them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raykafka.errors import (
    DiskFullError,
    FencedLeaderEpochError,
    InvalidRecordError,
    KafkaStorageError,
    OffsetOutOfRangeError,
    RaykafkaError,
    UnknownSchemaVersionError,
)
from raykafka.log.batch_header import read_header
from raykafka.log.schema import storage_schema
from raykafka.storage import log_segment, replicated_append
from raykafka.storage.api import SegmentStore
from raykafka.storage.log_types import LogConfig
from raykafka.testing.memory_store import MemoryStore
from tests.storage.batches import NOW, make_batch
from tests.storage.logs import append, open_log, read_values, segment_files
from tests.storage.replicated import copy_to, messages_of, producers_of, stamped

FIRST = storage_schema(pa.schema([("n", pa.int32())]))
SECOND = storage_schema(pa.schema([("n", pa.int32()), ("s", pa.string())]))
NUMBER = pa.array([1], pa.int32())
TEXT = pa.array(["x"], pa.string())


def test_batches_are_appended_byte_for_byte_with_one_write(log_store: SegmentStore) -> None:
    log = open_log(log_store)
    messages = [
        stamped([b"a", b"b"], 0, leader_epoch=3, append_time_ms=NOW - 5),
        stamped([b"c"], 2, leader_epoch=3),
        stamped([b"d"], 3, leader_epoch=7),
    ]
    if isinstance(log_store, MemoryStore):
        copy_to(log, [stamped([b"first"], 0, leader_epoch=1)])
        log.restart_at(0)
        log_store.calls.clear()
    copy_to(log, messages)
    if isinstance(log_store, MemoryStore):
        assert log_store.calls["append"] == 2, "the beginning of the file, and the batches"
    assert messages_of(log) == [bytes(message) for message in messages]
    assert log.log_end_offset == 4
    assert log.epochs.entries == [(3, 0), (7, 3)]
    assert read_values(log) == {0: b"a", 1: b"b", 2: b"c", 3: b"d"}
    again = open_log(log_store, must_exist=True)
    assert messages_of(again) == [bytes(message) for message in messages]
    assert again.recovered.clean


def test_a_copy_of_a_log_is_its_twin() -> None:
    """Same segments, same producers, same epochs, from one call or from many."""
    config = LogConfig(segment_bytes=3000)
    source_store = MemoryStore()
    source = open_log(source_store, config)
    for number in range(12):
        message = make_batch(
            [b"x" * 400] * (1 + number % 3),
            producer_id=number % 2,
            producer_epoch=0,
            base_sequence=sum(1 + each % 3 for each in range(number % 2, number, 2)),
        )
        append(source, message, leader_epoch=number // 4, now_ms=NOW + number)
    messages = messages_of(source)
    for step in (1, 5, 12):
        store = MemoryStore()
        log = open_log(store, config)
        for start in range(0, 12, step):
            copy_to(log, messages[start : start + step], NOW + 100)
        assert producers_of(log, store) == producers_of(source, source_store)
        assert segment_files(store) == segment_files(source_store)
        for path in segment_files(store):
            assert store.read(path, 0, store.size(path)) == source_store.read(
                path, 0, source_store.size(path)
            )
        assert log.epochs.entries == source.epochs.entries


def test_a_producer_s_duplicate_is_known_after_the_follower_has_come_to_lead() -> None:
    log = open_log(MemoryStore())
    producer = {"producer_id": 5, "producer_epoch": 0, "base_sequence": 0}
    copy_to(log, [stamped([b"a"], 0, append_time_ms=NOW - 9, **producer)])
    result = append(log, make_batch([b"a"], **producer), leader_epoch=1)
    assert (result.base_offset, result.append_time_ms, result.duplicate) == (0, NOW - 9, True)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([stamped([b"x"], 4, leader_epoch=2)], OffsetOutOfRangeError),
        ([stamped([b"x"], 2, leader_epoch=2)], OffsetOutOfRangeError),
        (
            [stamped([b"x"], 3, leader_epoch=2), stamped([b"x"], 5, leader_epoch=2)],
            OffsetOutOfRangeError,
        ),
        (
            [stamped([b"x"], 3, leader_epoch=2), stamped([b"x"], 3, leader_epoch=2)],
            OffsetOutOfRangeError,
        ),
        ([make_batch([b"x"])], OffsetOutOfRangeError),
        ([stamped([b"x"], 3, leader_epoch=1)], FencedLeaderEpochError),
        (
            [stamped([b"x"], 3, leader_epoch=4), stamped([b"x"], 4, leader_epoch=3)],
            FencedLeaderEpochError,
        ),
        ([stamped([b"x"], 3, leader_epoch=2, schema_id=1)], UnknownSchemaVersionError),
        ([], InvalidRecordError),
    ],
)
def test_what_does_not_fit_changes_nothing(
    messages: list[bytearray], error: type[RaykafkaError]
) -> None:
    store = MemoryStore()
    log = open_log(store)
    copy_to(log, [stamped([b"a", b"b", b"c"], 0, leader_epoch=2)])
    sizes = {path: store.size(path) for path in store.list("")}
    with pytest.raises(error):
        copy_to(log, messages)
    assert {path: store.size(path) for path in store.list("")} == sizes
    assert (log.log_end_offset, log.epochs.entries) == (3, [(2, 0)])
    copy_to(log, [stamped([b"x"], 3, leader_epoch=2)])


def test_headers_must_be_those_of_the_bytes() -> None:
    log = open_log(MemoryStore())
    message = stamped([b"a"], 0)
    for data in (message[:-8], message + b"\0" * 8):
        with pytest.raises(InvalidRecordError, match="differ by"):
            log.append_replicated(memoryview(data), [read_header(message)], NOW)
    assert log.log_end_offset == 0


class TestSegments:
    def test_an_older_schema_begins_a_segment_of_its_own(self, log_store: SegmentStore) -> None:
        """The follower has heard of the second schema before the batches of the first arrive."""
        log = open_log(log_store, schemas=[FIRST, SECOND])
        one = {"schema": FIRST, "columns": [NUMBER], "schema_id": 0}
        two = {"schema": SECOND, "columns": [NUMBER, TEXT], "schema_id": 1}
        copy_to(
            log,
            [
                stamped([b""], 0, **one),
                stamped([b""], 1, **one),
                stamped([b""], 2, **two),
                stamped([b""], 3, **two),
            ],
        )
        log.roll(NOW)
        schemas = []
        for path in segment_files(log_store):
            data = pa.py_buffer(log_store.read(path, 0, log_store.size(path)))
            schemas.append((pa.ipc.open_file(data).schema, pa.ipc.open_file(data).read_all()))
        assert [schema for schema, _ in schemas] == [FIRST, SECOND]
        assert [table.num_rows for _, table in schemas] == [2, 2]
        assert open_log(log_store, schemas=[FIRST, SECOND], must_exist=True).log_end_offset == 4

    @pytest.mark.parametrize("reopened", [False, True])
    def test_a_preamble_of_another_schema_is_not_kept(self, reopened: bool) -> None:
        store = MemoryStore()
        log = open_log(store, schemas=[FIRST, SECOND])
        store.fail_next("append", DiskFullError("full"))
        one = {"schema": FIRST, "columns": [NUMBER], "schema_id": 0}
        with pytest.raises(DiskFullError):
            copy_to(log, [stamped([b""], 0, **one)])
        store.capacity_bytes = sum(map(store.size, store.list(""))) + 1200
        with pytest.raises(DiskFullError):
            copy_to(log, [stamped([b"", b""] * 900, 0, schema=FIRST, schema_id=0,
                                  columns=[pa.array([1] * 1800, pa.int32())])])  # fmt: skip
        store.capacity_bytes = None
        if reopened:
            log = open_log(store, schemas=[FIRST, SECOND])
        columns = [NUMBER, TEXT]
        append(log, make_batch([b""], schema=SECOND, columns=columns, schema_id=1))
        log.roll(NOW)
        (path,) = segment_files(store)
        data = pa.py_buffer(store.read(path, 0, store.size(path)))
        assert pa.ipc.open_file(data).schema == SECOND
        assert pa.ipc.open_file(data).read_all().num_rows == 1

    def test_age_is_told_by_the_leader_s_append_times(self) -> None:
        """What is older than ``segment.ms`` does not get a segment for each batch."""
        store = MemoryStore()
        log = open_log(store, LogConfig(segment_ms=1000))
        for number in range(6):
            time = NOW - 1_000_000 + 400 * number
            copy_to(log, [stamped([b"x"], number, append_time_ms=time)], NOW)
        assert segment_files(store) == ["t-0/00000000000000000000.arrow",
                                        "t-0/00000000000000000003.arrow"]  # fmt: skip

    def test_a_segment_does_not_take_more_batches_than_its_index_may(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_segment, "MAX_SEGMENT_BATCHES", 4)
        monkeypatch.setattr(replicated_append, "MAX_SEGMENT_BATCHES", 4)
        log = open_log(MemoryStore())
        copy_to(log, [stamped([b"x"], number) for number in range(10)])
        assert log.segment_count == 3


class TestFailures:
    def test_a_full_disk_leaves_whole_batches(self) -> None:
        store = MemoryStore()
        log = open_log(store, LogConfig(segment_bytes=2000))
        messages = [stamped([b"x" * 900], number) for number in range(6)]
        copy_to(log, messages[:1])
        store.capacity_bytes = sum(map(store.size, store.list(""))) + 5000
        with pytest.raises(DiskFullError):
            copy_to(log, messages[1:])
        end = log.log_end_offset
        assert 1 <= end < 6
        assert messages_of(log) == [bytes(message) for message in messages[:end]]
        store.capacity_bytes = None
        copy_to(log, messages[end:])
        assert messages_of(log) == [bytes(message) for message in messages]
        assert messages_of(open_log(store)) == [bytes(message) for message in messages]

    def test_another_failure_takes_the_log_offline(self) -> None:
        store = MemoryStore()
        log = open_log(store)
        copy_to(log, [stamped([b"a"], 0)])
        store.fail_next("append", KafkaStorageError("input/output error"))
        for _ in range(2):
            with pytest.raises(KafkaStorageError):
                copy_to(log, [stamped([b"b"], 1)])
        assert open_log(store).log_end_offset == 1


class TestLogStart:
    def test_a_log_that_begins_inside_the_first_batch_begins_with_it(self) -> None:
        """A leader's log start may lie inside a batch; it sends that batch as a whole."""
        store = MemoryStore()
        log = open_log(store)
        log.restart_at(12)
        copy_to(log, [stamped([b"x"] * 5, 10, leader_epoch=4), stamped([b"y"], 15, leader_epoch=4)])
        assert (log.log_start_offset, log.log_end_offset) == (12, 16)
        again = open_log(store, must_exist=True)
        assert (again.log_start_offset, again.log_end_offset, again.damaged) == (12, 16, [])
        assert [header.base_offset for header in map(read_header, messages_of(again))] == [10, 15]

    def test_the_leader_s_log_start_is_taken_over(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, LogConfig(segment_bytes=2000))
        copy_to(log, [stamped([b"x" * 900] * 2, 2 * number) for number in range(6)])
        log.advance_log_start(5)
        assert (log.log_start_offset, len(segment_files(log_store))) == (5, 4)
        log.advance_log_start(3)
        assert log.log_start_offset == 5
        with pytest.raises(OffsetOutOfRangeError, match="restart it there"):
            log.advance_log_start(13)
        again = open_log(log_store, must_exist=True)
        assert (again.log_start_offset, again.log_end_offset, again.damaged) == (5, 12, [])
        again.advance_log_start(12)
        assert (again.log_start_offset, again.segment_count) == (12, 1)
