"""A log that nothing goes wrong with: append, read, roll, retain, look up, open again."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest

from raykafka.errors import (
    DiskFullError,
    FencedLeaderEpochError,
    InvalidRecordError,
    KafkaStorageError,
    OffsetOutOfRangeError,
    OutOfOrderSequenceNumberError,
    UnknownSchemaVersionError,
)
from raykafka.log.batch_header import read_header, verify
from raykafka.log.schema import UNTYPED_SCHEMA, storage_schema
from raykafka.model import Compression, OffsetAndTimestamp, TimestampType
from raykafka.storage import log_segment
from raykafka.storage.api import SegmentStore
from raykafka.storage.local_store import LocalStore
from raykafka.storage.log_types import AppendResult, LogConfig
from raykafka.storage.partition_log import PartitionLog
from raykafka.testing.memory_store import MemoryStore
from tests.storage.batches import NOW, PARTITION, make_batch
from tests.storage.logs import (
    ALL,
    DIRECTORY,
    append,
    append_values,
    open_log,
    read_values,
    segment_files,
)

SMALL = LogConfig(segment_bytes=3000)


class TestAppendAndRead:
    def test_offsets_ascend_and_everything_is_read_back(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        assert append_values(log, b"a", b"b") == 0
        assert append_values(log, b"c") == 2
        assert (log.log_start_offset, log.log_end_offset) == (0, 3)
        assert read_values(log) == {0: b"a", 1: b"b", 2: b"c"}

    def test_the_leader_part_is_filled_in(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        append_values(log, b"a")
        result = append(log, make_batch([b"b"]), leader_epoch=7, now_ms=NOW + 5)
        assert (result.base_offset, result.append_time_ms, result.duplicate) == (1, NOW + 5, False)
        (message,) = log.read(1, max_bytes=1, up_to=ALL)
        header = verify(message, PARTITION)
        assert (header.base_offset, header.leader_epoch, header.append_time_ms) == (1, 7, NOW + 5)
        assert header.timestamp_type is TimestampType.CREATE_TIME

    def test_who_waits_for_the_write_need_not_wait_for_more(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        message = make_batch([b"a"], producer_id=5, producer_epoch=0, base_sequence=0)
        answered: list[tuple[AppendResult, int]] = []

        def answer(result: AppendResult) -> None:
            (path,) = segment_files(log_store)
            answered.append((result, log_store.size(path)))
            raise ConnectionError

        header = read_header(message)
        for _ in range(2):
            try:
                result = log.append(message, header, leader_epoch=4, now_ms=NOW, written=answer)
            except ConnectionError:
                continue
        assert answered == [(AppendResult(0, NOW), log.size_bytes)]
        assert result == AppendResult(0, NOW, True), "what was written is known, answered or not"
        assert read_values(log) == {0: b"a"}
        assert (log.log_end_offset, log.epochs.latest_epoch) == (1, 4)

    def test_reads_are_whole_batches_within_bounds(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        for number in range(10):
            append_values(log, b"%d" % number, b"x")
        size = len(log.read(0, max_bytes=1, up_to=ALL)[0])

        def bases(found: list[memoryview]) -> list[int]:
            return [read_header(each).base_offset for each in found]

        assert bases(log.read(5, max_bytes=1, up_to=ALL)) == [4]
        assert bases(log.read(5, max_bytes=3 * size, up_to=ALL)) == [4, 6, 8]
        assert bases(log.read(5, max_bytes=3 * size - 1, up_to=ALL)) == [4, 6]
        assert bases(log.read(0, max_bytes=1 << 20, up_to=6)) == [0, 2, 4]
        assert bases(log.read(18, max_bytes=1 << 20, up_to=ALL)) == [18]
        assert log.read(5, max_bytes=1 << 20, up_to=5) == []
        assert log.read(5, max_bytes=1 << 20, up_to=0) == []
        assert log.read(20, max_bytes=1 << 20, up_to=ALL) == []

    @pytest.mark.parametrize("offset", [-1, 4, 1 << 40])
    def test_offsets_outside(self, log_store: SegmentStore, offset: int) -> None:
        log = open_log(log_store)
        append_values(log, b"a", b"b", b"c")
        with pytest.raises(OffsetOutOfRangeError, match="t-0, which holds 0 up to 3"):
            log.read(offset, max_bytes=1, up_to=ALL)

    def test_slices_outlive_growth_retention_and_close(self, local_store: LocalStore) -> None:
        log = open_log(local_store, LogConfig(segment_bytes=100_000))
        append_values(log, b"first" * 100)
        (held,) = log.read(0, max_bytes=1, up_to=ALL)
        copy = bytes(held)
        for _ in range(300):
            append_values(log, b"x" * 5000)
        log.delete_records(log.log_end_offset)
        log.close()
        local_store.close()
        assert bytes(held) == copy

    def test_compressed_batches_are_stored_as_they_came(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        for codec in Compression:
            append(log, make_batch([b"x" * 1000] * 50, compression=codec))
        assert set(read_values(log).values()) == {b"x" * 1000}
        assert len(read_values(log)) == 150

    def test_refusals_change_nothing(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        append(log, make_batch([b"a"]), leader_epoch=3)
        size = log.size_bytes
        message = make_batch([b"b"])
        with pytest.raises(FencedLeaderEpochError, match="epoch 2 is over"):
            append(log, message, leader_epoch=2)
        with pytest.raises(UnknownSchemaVersionError, match="schema 1"):
            append(log, make_batch([b"b"], schema_id=1), leader_epoch=3)
        with pytest.raises(InvalidRecordError):
            log.append(message + b"12345678", read_header(message), leader_epoch=3, now_ms=NOW)
        assert (log.log_end_offset, log.size_bytes) == (1, size)

    def test_log_append_time(self, log_store: SegmentStore) -> None:
        config = LogConfig(message_timestamp_type=TimestampType.LOG_APPEND_TIME)
        log = open_log(log_store, config)
        append(log, make_batch([b"a", b"b"], timestamp=5), now_ms=NOW)
        append(log, make_batch([b"c"], timestamp=5), now_ms=NOW + 9)
        (message, _) = log.read(0, max_bytes=1 << 20, up_to=ALL)
        assert verify(message, PARTITION).timestamp_type is TimestampType.LOG_APPEND_TIME
        assert log.offset_for_timestamp(NOW + 1) == OffsetAndTimestamp(2, NOW + 9, 0)
        assert log.max_timestamp() == OffsetAndTimestamp(2, NOW + 9, 0)


class TestSegments:
    def test_roll_by_size(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, SMALL)
        for number in range(20):
            append_values(log, b"%d" % number)
        assert log.segment_count > 4
        assert all(log_store.size(path) < 3000 + 3000 for path in segment_files(log_store))
        assert read_values(log) == {number: b"%d" % number for number in range(20)}
        assert log.size_bytes == sum(log_store.size(path) for path in segment_files(log_store))

    def test_a_batch_larger_than_a_segment_has_one_of_its_own(
        self, log_store: SegmentStore
    ) -> None:
        log = open_log(log_store, SMALL)
        append_values(log, b"a")
        append_values(log, b"x" * 10_000)
        append_values(log, b"b")
        assert log.segment_count == 3
        assert len(read_values(log)) == 3

    def test_roll_by_the_age_of_the_first_append(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, LogConfig(segment_ms=1000))
        append(log, make_batch([b"a"], timestamp=1), now_ms=NOW)
        append(log, make_batch([b"b"], timestamp=1), now_ms=NOW + 900)
        log.tick(NOW + 1000)
        assert log.segment_count == 1
        log.tick(NOW + 1001)
        assert log.segment_count == 2
        log.tick(NOW + 9999)
        assert log.segment_count == 2, "an empty segment does not roll"
        append_values(log, b"c", now_ms=NOW + 10_000)
        append_values(log, b"d", now_ms=NOW + 11_001)
        assert log.segment_count == 3
        log = open_log(log_store, LogConfig(segment_ms=1000))
        log.tick(NOW + 12_002)
        assert log.segment_count == 4, "the age is known after opening again"
        assert sorted(read_values(log).values()) == [b"a", b"b", b"c", b"d"]

    def test_a_new_schema_begins_a_new_segment(self, log_store: SegmentStore) -> None:
        first = storage_schema(pa.schema([("n", pa.int32())]))
        second = storage_schema(pa.schema([("n", pa.int32()), ("s", pa.string())]))
        log = open_log(log_store, schemas=[first])
        column = pa.array([1], pa.int32())
        append(log, make_batch([b""], schema=first, columns=[column]))
        log.reconfigure(LogConfig(), [first, second])
        assert log.segment_count == 1
        columns = [column, pa.array(["x"])]
        with pytest.raises(UnknownSchemaVersionError):
            append(log, make_batch([b""], schema=first, columns=[column]))
        append(log, make_batch([b""], schema=second, columns=columns, schema_id=1))
        append(log, make_batch([b""], schema=second, columns=columns, schema_id=1))
        assert log.segment_count == 2
        assert log.offset_for_timestamp(NOW) == OffsetAndTimestamp(0, NOW, 0)
        log.roll(NOW)
        schemas = []
        for path in segment_files(log_store):
            data = pa.py_buffer(bytes(log_store.read(path, 0, log_store.size(path))))
            schemas.append(pa.ipc.open_file(data).schema)
        assert schemas == [first, second]

    def test_a_new_schema_after_the_disk_was_full(self) -> None:
        first = storage_schema(pa.schema([("n", pa.int32())]))
        second = storage_schema(pa.schema([("n", pa.int32()), ("s", pa.string())]))
        store = MemoryStore()
        log = open_log(store, schemas=[first])
        column = pa.array([1] * 500, pa.int32())
        store.capacity_bytes = 2000
        with pytest.raises(DiskFullError):
            append(log, make_batch([b""] * 500, schema=first, columns=[column]))
        store.capacity_bytes = None
        log.reconfigure(LogConfig(), [first, second])
        columns = [column, pa.array(["x"] * 500)]
        append(log, make_batch([b""] * 500, schema=second, columns=columns, schema_id=1))
        (path,) = segment_files(store)
        content = bytes(store.read(path, 0, store.size(path)))
        assert pa.ipc.open_stream(content[8:]).schema == second

    def test_a_segment_of_many_tiny_batches_rolls(
        self, log_store: SegmentStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_segment, "MAX_SEGMENT_BATCHES", 10)
        log = open_log(log_store)
        for _ in range(35):
            append_values(log, b"x")
        assert log.segment_count == 4

    def test_nothing_is_written_before_the_first_append(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        log.flush()
        log.roll(NOW)
        assert segment_files(log_store) == []
        assert (log.size_bytes, log.segment_count, log.log_end_offset) == (0, 1, 0)


class TestTimestamps:
    def test_the_first_record_not_older(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, SMALL)
        times = [[10, 30, 20], [15], [50, 40], [40], [60]]
        for batch in times:
            append(log, make_batch([b"x" * 700] * len(batch), timestamps=batch))
        assert log.segment_count > 2
        flat = [time for batch in times for time in batch]
        for wanted in range(65):
            expected = next((i for i, time in enumerate(flat) if time >= wanted), None)
            found = log.offset_for_timestamp(wanted)
            if expected is None:
                assert found is None
            else:
                assert found == OffsetAndTimestamp(expected, flat[expected], 0)
        assert log.max_timestamp() == OffsetAndTimestamp(7, 60, 0)

    def test_records_below_the_log_start_are_not_found(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        append(log, make_batch([b"a", b"b", b"c"], timestamps=[90, 20, 30]))
        append(log, make_batch([b"d"], timestamps=[80]))
        log.delete_records(1)
        assert log.offset_for_timestamp(0) == OffsetAndTimestamp(1, 20, 0)
        assert log.offset_for_timestamp(25) == OffsetAndTimestamp(2, 30, 0)
        log.delete_records(3)
        assert log.max_timestamp() == OffsetAndTimestamp(3, 80, 0)

    def test_an_empty_log_has_none(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        assert log.max_timestamp() is None
        assert log.offset_for_timestamp(0) is None


class TestDeletion:
    def test_delete_records_inside_a_segment(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        append_values(log, b"a", b"b", b"c")
        append_values(log, b"d")
        assert log.delete_records(2) == 2
        assert log.delete_records(1) == 2
        with pytest.raises(OffsetOutOfRangeError):
            log.read(1, max_bytes=1, up_to=ALL)
        with pytest.raises(OffsetOutOfRangeError):
            log.delete_records(5)
        (message,) = log.read(2, max_bytes=1, up_to=ALL)
        assert read_header(message).base_offset == 0, "a batch is never cut"
        log = open_log(log_store)
        assert (log.log_start_offset, log.damaged) == (2, [])

    def test_delete_records_deletes_whole_segments(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, SMALL)
        for number in range(20):
            append_values(log, b"%d" % number)
        before = log.segment_count
        second = int(segment_files(log_store)[1].split("/")[1][:20])
        log.delete_records(second - 1)
        assert log.segment_count == before
        log.delete_records(second)
        assert log.segment_count == len(segment_files(log_store)) == before - 1
        assert log.delete_records(20) == 20
        assert read_values(log) == {}
        assert append_values(log, b"new") == 20
        log = open_log(log_store, SMALL)
        assert read_values(log) == {20: b"new"}
        assert (log.log_start_offset, log.damaged, log.recovered.notes) == (20, [], [])

    def test_a_crash_between_checkpoint_and_deletion(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, SMALL)
        for number in range(20):
            append_values(log, b"%d" % number)
        first = segment_files(log_store)[0]
        content = bytes(log_store.read(first, 0, log_store.size(first)))
        log.delete_records(10)
        log_store.publish(first, content)
        log = open_log(log_store, SMALL)
        assert (log.log_start_offset, log.damaged) == (10, [])
        assert first not in segment_files(log_store)
        assert list(read_values(log)) == list(range(min(read_values(log)), 20))

    def test_retention_by_time(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, LogConfig(segment_bytes=1000, retention_ms=1000))
        for number in range(5):
            append(log, make_batch([b"x"], timestamp=NOW + number * 100), now_ms=NOW)
        assert log.segment_count == 5
        assert log.apply_retention(NOW + 1000, log.log_end_offset) == 0
        assert log.apply_retention(NOW + 1101, 1) == 1, "only below the high watermark"
        assert log.apply_retention(NOW + 1101, log.log_end_offset) == 1
        assert log.log_start_offset == 2
        assert log.apply_retention(NOW + 9999, log.log_end_offset) == 3
        assert (log.log_start_offset, log.log_end_offset, log.segment_count) == (5, 5, 1)
        assert append_values(log, b"y") == 5
        assert open_log(log_store).damaged == []

    def test_retention_by_size(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, LogConfig(segment_bytes=1000, retention_bytes=20_000))
        for _ in range(50):
            append_values(log, b"x" * 100)
        log.apply_retention(NOW, log.log_end_offset)
        largest = max(log_store.size(path) for path in segment_files(log_store))
        assert 20_000 <= log.size_bytes < 20_000 + largest
        assert list(read_values(log)) == list(range(log.log_start_offset, 50))

    def test_delete_leaves_nothing(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, SMALL)
        for number in range(20):
            append_values(log, b"%d" % number)
        log.delete()
        assert log_store.list("") == []
        with pytest.raises(KafkaStorageError, match="deleted"):
            append_values(log, b"x")
        log.close()


class TestOpenAgain:
    @pytest.mark.parametrize("clean", [True, False])
    def test_everything_is_there(self, log_store: SegmentStore, clean: bool) -> None:
        log = open_log(log_store, SMALL)
        for number in range(20):
            append_values(log, b"%d" % number, b"y")
        expected = read_values(log)
        sizes = log.size_bytes
        if clean:
            log.close()
        for _ in range(3):
            log = open_log(log_store, SMALL, must_exist=True)
            assert log.recovered.clean
            assert (log.recovered.scanned_bytes == 0) == clean
            assert read_values(log) == expected
            assert (log.log_end_offset, log.size_bytes) == (40, sizes)
        assert append_values(log, b"z") == 40

    def test_a_closed_log_refuses(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        append_values(log, b"a")
        log.close()
        log.close()
        with pytest.raises(KafkaStorageError, match="closed"):
            append_values(log, b"b")
        with pytest.raises(KafkaStorageError, match="closed"):
            log.flush()

    def test_a_log_whose_last_segment_is_sealed(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        append_values(log, b"a")
        log.roll(NOW)
        log.close()
        log = open_log(log_store)
        assert (log.log_end_offset, log.segment_count, log.recovered.clean) == (1, 2, True)
        assert append_values(log, b"b") == 1
        assert read_values(log) == {0: b"a", 1: b"b"}

    def test_leader_epochs(self, log_store: SegmentStore) -> None:
        log = open_log(log_store, SMALL)
        for number in range(12):
            append(log, make_batch([b"x"]), leader_epoch=number // 4)
        entries = log.epochs.entries
        assert entries == [(0, 0), (1, 4), (2, 8)]
        log = open_log(log_store, SMALL)
        assert log.epochs.entries == entries
        assert log.epochs.end_offset_for(1, log.log_end_offset) == (1, 8)
        with pytest.raises(FencedLeaderEpochError):
            append(log, make_batch([b"x"]), leader_epoch=1)


class TestProducers:
    def test_a_batch_sent_again_is_a_duplicate(self, log_store: SegmentStore) -> None:
        log = open_log(log_store)
        message = make_batch([b"a", b"b"], producer_id=9, producer_epoch=0, base_sequence=0)
        assert append(log, bytearray(message)).base_offset == 0
        append_values(log, b"other")
        again = append(log, bytearray(message), now_ms=NOW + 50)
        assert (again.base_offset, again.append_time_ms, again.duplicate) == (0, NOW, True)
        assert log.log_end_offset == 3

    @pytest.mark.parametrize("lost", ["nothing", "newest snapshot", "all snapshots", "checkpoint"])
    def test_the_state_survives(self, log_store: SegmentStore, lost: str) -> None:
        log = open_log(log_store, SMALL)
        sent = []
        for sequence in range(30):
            producer = 7 + sequence % 3
            sent.append(
                make_batch(
                    [b"x"], producer_id=producer, producer_epoch=1, base_sequence=sequence // 3
                )
            )
            append(log, bytearray(sent[-1]))
        assert log.segment_count > 4
        log.close()
        snapshots = [path for path in log_store.list("") if "producers" in path]
        assert len(snapshots) == 2
        gone = {
            "nothing": [],
            "newest snapshot": snapshots[1:],
            "all snapshots": snapshots,
            "checkpoint": [f"{DIRECTORY}/checkpoint.json"],
        }[lost]
        for path in gone:
            log_store.delete(path)
        log = open_log(log_store, SMALL)
        for number, message in enumerate(sent[-15:], len(sent) - 15):
            result = append(log, bytearray(message))
            assert (result.duplicate, result.base_offset) == (True, number)
        with pytest.raises(OutOfOrderSequenceNumberError):
            append(log, make_batch(producer_id=7, producer_epoch=1, base_sequence=11))
        append(log, make_batch(producer_id=7, producer_epoch=1, base_sequence=10))

    def test_idle_producers_are_forgotten(self, log_store: SegmentStore) -> None:
        config = LogConfig(producer_id_expiration_ms=1000)
        log = open_log(log_store, config)
        message = make_batch(producer_id=9, producer_epoch=0, base_sequence=5)
        append(log, bytearray(message))
        log.tick(NOW + 60_000)
        assert not append(log, bytearray(message), now_ms=NOW + 60_000).duplicate


class TestFlush:
    def test_what_is_durable(self) -> None:
        store = MemoryStore()
        log = open_log(store, SMALL)
        for number in range(10):
            append_values(log, b"%d" % number)
        seen = [(log.flushed_offset, log.needs_flush)]
        assert log.flush() == 10
        seen.append((log.flushed_offset, log.needs_flush))
        assert seen == [(0, True), (10, False)]
        append_values(log, b"late")
        store.drop_unsynced()
        log = open_log(store, SMALL)
        assert read_values(log) == {number: b"%d" % number for number in range(10)}

    def test_sealed_segments_of_an_earlier_life_are_flushed(self) -> None:
        store = MemoryStore()
        log = open_log(store, SMALL)
        for number in range(10):
            append_values(log, b"%d" % number)
        log = open_log(store, SMALL)
        assert log.flush() == 10
        store.drop_unsynced()
        assert len(read_values(open_log(store, SMALL))) == 10

    @pytest.mark.parametrize("through_close", [True, False])
    def test_after_a_failed_fsync_the_log_is_offline(self, through_close: bool) -> None:
        store = MemoryStore()
        log = open_log(store)
        append_values(log, b"a")
        store.fail_next("flush", KafkaStorageError("input/output error"))
        with pytest.raises(KafkaStorageError, match="input/output"):
            log.close() if through_close else log.flush()
        for _ in range(2):
            with pytest.raises(KafkaStorageError, match="offline since: input/output error"):
                append_values(log, b"b")
            with pytest.raises(KafkaStorageError, match="offline"):
                log.flush()
        with pytest.raises(KafkaStorageError, match="offline"):
            log.close()
        assert log.flushed_offset == 0
        log.tick(NOW + 1_000_000)
        assert log.apply_retention(NOW + 10**12, 1) == 0
        assert read_values(log) == {0: b"a"}

    def test_beside_appends_rolls_and_deletions(self, local_store: LocalStore) -> None:
        log = open_log(local_store, SMALL)
        failures: list[KafkaStorageError] = []
        stop = threading.Event()

        def flush() -> None:
            try:
                last = 0
                while not stop.is_set():
                    end = log.flush()
                    assert last <= end <= log.log_end_offset
                    last = end
            except KafkaStorageError as error:
                failures.append(error)

        thread = threading.Thread(target=flush)
        thread.start()
        for number in range(300):
            append_values(log, b"%d" % number)
            if number % 30 == 0:
                log.delete_records(max(number - 20, 0))
        stop.set()
        thread.join()
        assert failures == []
        assert log.flush() == 300
        kept = read_values(log)
        assert list(kept) == list(range(log.log_start_offset, 300))

    def test_what_an_unlucky_flush_may_claim(self) -> None:
        """A flush that runs while more is appended claims no more than it covered."""
        store = MemoryStore()
        log = open_log(store)
        append_values(log, b"a")
        real = store.flush

        def flush(path: str) -> None:
            append_values(log, b"b")
            real(path)

        store.flush = flush  # type: ignore[method-assign]
        assert log.flush() == 1
        assert log.flushed_offset == 1


class TestLocate:
    def test_places_of_batches(self, local_store: LocalStore) -> None:
        log = open_log(local_store, SMALL)
        for number in range(10):
            append_values(log, b"%d" % number)
        offset, seen = 0, []
        while offset < 8:
            found = log.locate(offset, max_batches=2, up_to=8)
            assert found is not None
            assert found.count <= 2
            data = Path(found.file.path).read_bytes()
            pairs = memoryview(found.positions_and_sizes).cast("Q").tolist()
            assert len(pairs) == 2 * found.count
            for position, size in zip(pairs[::2], pairs[1::2], strict=True):
                header = verify(data[position : position + size], PARTITION)
                seen.append(header.base_offset)
            assert found.size_bytes == sum(pairs[1::2])
            assert found.next_offset == seen[-1] + 1
            offset = found.next_offset
        assert seen == list(range(8))
        assert log.locate(8, max_batches=2, up_to=8) is None
        with pytest.raises(OffsetOutOfRangeError):
            log.locate(11, max_batches=2, up_to=ALL)

    def test_memory_cannot_be_mapped(self) -> None:
        log = open_log(MemoryStore())
        append_values(log, b"a")
        assert log.locate(0, max_batches=1, up_to=ALL) is None


def test_a_log_of_several_gigabytes_costs_no_memory_per_segment(tmp_path: Path) -> None:
    """Indexes of sealed segments are loaded when they are read, and not all are kept."""
    log = open_log(LocalStore(str(tmp_path)), LogConfig(segment_bytes=1000))
    for number in range(200):
        append_values(log, b"%d" % number)
    log.close()
    log = open_log(LocalStore(str(tmp_path)), LogConfig(segment_bytes=1000))
    loaded = [segment for segment in log._segments.items if segment.index is not None]
    assert len(loaded) == 1
    assert len(read_values(log)) == 200


def test_untyped_is_the_default() -> None:
    log = open_log(MemoryStore(), schemas=[UNTYPED_SCHEMA])
    append_values(log, b"a")
    assert isinstance(log, PartitionLog)
    assert read_values(log) == {0: b"a"}
