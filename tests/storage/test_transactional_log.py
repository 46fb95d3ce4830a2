"""A log with transactions: what it knows of them whatever happens, and who sees what."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pytest
from crc32c import crc32c

from raykafka.errors import InvalidProducerEpochError, LogDamagedError
from raykafka.log.batch_header import read_header
from raykafka.log.schema import storage_schema
from raykafka.log.transactions import AbortedTransaction
from raykafka.storage.api import SegmentStore
from raykafka.storage.checkpoints import ProducerSnapshot, decode, snapshot_name
from raykafka.storage.local_store import LocalStore
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog
from raykafka.testing.memory_store import MemoryStore
from tests.storage.batches import NOW, make_batch, make_marker
from tests.storage.logs import ALL, DIRECTORY, append, open_log, segment_files, values_of
from tests.storage.replicated import copy_to, messages_of

SMALL = LogConfig(segment_bytes=4000)


class Writer:
    """One producer that writes transactions."""

    def __init__(self, log: PartitionLog, producer_id: int) -> None:
        self.log = log
        self.producer_id = producer_id
        self.epoch = 0
        self.sequence = 0

    def write(self, *values: bytes, transactional: bool = True) -> int:
        message = make_batch(
            values,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=self.sequence,
            transactional=transactional,
        )
        self.sequence += len(values)
        return append(self.log, message).base_offset

    def end(self, *, commit: bool) -> int:
        self.epoch += 1
        self.sequence = 0
        marker = make_marker(self.producer_id, self.epoch, commit=commit)
        return append(self.log, marker).base_offset


class Seen(NamedTuple):
    values: dict[int, bytes]
    end: int
    complete: bool


def visible(
    log: PartitionLog,
    *,
    committed: bool,
    start: int | None = None,
    max_bytes: int = 1 << 20,
    up_to: int | None = None,
) -> Seen:
    """Everything that readers see, read by read."""
    end = log.log_end_offset if up_to is None else up_to
    if committed:
        end = log.last_stable_offset(end)
    offset = log.log_start_offset if start is None else start
    found: dict[int, bytes] = {}
    complete = True
    while offset < end:
        seen = log.read_visible(offset, max_bytes=max_bytes, up_to=end, committed=committed)
        assert seen.next_offset > offset
        for message in seen.batches:
            values = values_of(message)
            assert offset <= max(values)
            assert max(values) < seen.next_offset
            found.update(values)
        offset, complete = seen.next_offset, complete and seen.complete
    return Seen(found, offset, complete)


def located(log: PartitionLog, *, committed: bool, max_batches: int = 4096) -> dict[int, bytes]:
    """The same as co-located readers do it."""
    end = log.log_end_offset
    if committed:
        end = log.last_stable_offset(end)
    offset, found = log.log_start_offset, dict[int, bytes]()
    while offset < end:
        places = log.locate_visible(offset, max_batches=max_batches, up_to=end, committed=committed)
        assert places is not None
        assert places.next_offset > offset
        assert places.count * 16 == len(places.positions_and_sizes)
        with open(places.file.path, "rb") as file:
            data = file.read()
        for position, size in struct.iter_unpack("<QQ", places.positions_and_sizes):
            found.update(values_of(memoryview(data)[position : position + size]))
        offset = places.next_offset
    return found


def filled(store: SegmentStore, config: LogConfig = SMALL) -> PartitionLog:
    """Two producers and plain batches; offset 13 begins a transaction that is still open."""
    log = open_log(store, config)
    one, two = Writer(log, 1), Writer(log, 2)
    append(log, make_batch([b"plain 0"]))
    one.write(b"abort 1", b"abort 2")
    two.write(b"commit 3")
    append(log, make_batch([b"plain 4"]))
    one.write(b"abort 5")
    one.end(commit=False)  # 6
    one.write(b"commit 7")
    two.write(b"commit 8")
    two.end(commit=True)  # 9
    append(log, make_batch([b"plain 10"]))
    one.end(commit=True)  # 11
    append(log, make_batch([b"plain 12"]))
    two.write(b"open 13", b"open 14")
    append(log, make_batch([b"plain 15"]))
    return log


COMMITTED = {0: b"plain 0", 3: b"commit 3", 4: b"plain 4", 7: b"commit 7", 8: b"commit 8"}
COMMITTED |= {10: b"plain 10", 12: b"plain 12"}
UNCOMMITTED = COMMITTED | {1: b"abort 1", 2: b"abort 2", 5: b"abort 5", 13: b"open 13"}
UNCOMMITTED |= {14: b"open 14", 15: b"plain 15"}


def check_filled(log: PartitionLog) -> None:
    assert log.has_transactions
    assert log.last_stable_offset(log.log_end_offset) == 13
    assert log.aborted_transactions(0, 100) == [AbortedTransaction(1, 1, 6)]
    assert visible(log, committed=True) == Seen(COMMITTED, 13, False)
    assert visible(log, committed=False) == Seen(UNCOMMITTED, 16, False)
    assert log.in_transaction(2)
    assert not log.in_transaction(1)
    with pytest.raises(InvalidProducerEpochError):
        append(log, make_batch([b"late"], producer_id=1, producer_epoch=1, base_sequence=1))


@pytest.mark.parametrize("max_bytes", [1, 2000, 1 << 20])
@pytest.mark.parametrize("segment_bytes", [1000, 4000, 1 << 30])
def test_readers_see_what_is_theirs(
    log_store: SegmentStore, max_bytes: int, segment_bytes: int
) -> None:
    log = filled(log_store, LogConfig(segment_bytes=segment_bytes))
    check_filled(log)
    assert visible(log, committed=True, max_bytes=max_bytes).values == COMMITTED
    assert visible(log, committed=False, max_bytes=max_bytes).values == UNCOMMITTED
    for start in range(14):
        found = visible(log, committed=True, start=start, max_bytes=max_bytes).values
        wanted = {offset: value for offset, value in COMMITTED.items() if offset >= start}
        assert {offset: value for offset, value in found.items() if offset >= start} == wanted
        assert not set(found) - set(COMMITTED)


@pytest.mark.parametrize("max_batches", [1, 3, 4096])
def test_mapped_readers_see_the_same(local_store: LocalStore, max_batches: int) -> None:
    log = filled(local_store)
    assert located(log, committed=True, max_batches=max_batches) == COMMITTED
    assert located(log, committed=False, max_batches=max_batches) == UNCOMMITTED


def test_what_a_reader_skips_ends_with_its_read(log_store: SegmentStore) -> None:
    log = open_log(log_store, LogConfig(segment_bytes=1000))  # a segment for each batch
    writer = Writer(log, 1)
    writer.write(b"0")
    writer.end(commit=True)
    writer.write(b"2")
    writer.end(commit=False)
    seen = log.read_visible(0, max_bytes=1, up_to=4, committed=True)
    assert ([read_header(each).base_offset for each in seen.batches], *seen[1:]) == ([0], 4, False)


def test_a_log_of_plain_batches_has_none(log_store: SegmentStore) -> None:
    log = open_log(log_store)
    append(log, make_batch([b"a"], producer_id=1, producer_epoch=0, base_sequence=0))
    assert not log.has_transactions
    assert log.last_stable_offset(1) == 1
    assert visible(log, committed=True) == Seen({0: b"a"}, 1, True)


# --- what happens to logs -------------------------------------------------------------------------


def test_a_restart_forgets_nothing(log_store: SegmentStore) -> None:
    filled(log_store).close()
    log = open_log(log_store, SMALL)
    check_filled(log)
    writer = Writer(log, 2)
    writer.epoch = 1
    writer.end(commit=True)
    assert log.last_stable_offset(log.log_end_offset) == 17


def test_a_crash_forgets_nothing(log_store: SegmentStore) -> None:
    filled(log_store).flush()
    check_filled(open_log(log_store, SMALL))


def test_without_snapshots_the_batches_tell(log_store: SegmentStore) -> None:
    filled(log_store).close()
    for path in log_store.list(DIRECTORY + "/"):
        if path.endswith(".producers.json"):
            log_store.delete(path)
    check_filled(open_log(log_store, SMALL))


def test_a_torn_marker_was_never_written(log_store: SegmentStore) -> None:
    log = open_log(log_store)
    writer = Writer(log, 1)
    writer.write(b"0")
    log.flush()
    writer.end(commit=True)
    path = segment_files(log_store)[-1]
    log_store.truncate(path, log_store.size(path) - 8)
    log = open_log(log_store)
    assert log.log_end_offset == 1
    assert log.in_transaction(1)
    assert log.last_stable_offset(1) == 0
    writer = Writer(log, 1)
    writer.end(commit=False)
    assert visible(log, committed=True) == Seen({}, 2, False)


@pytest.mark.parametrize("end", range(17))
def test_a_log_that_is_cut_knows_what_it_knew_then(log_store: SegmentStore, end: int) -> None:
    log = filled(log_store)
    log.truncate_to(end)
    again = open_log(log_store_copy(log), SMALL)
    for offset in range(log.log_end_offset + 1):
        assert log.last_stable_offset(offset) == again.last_stable_offset(offset)
    assert log.aborted_transactions(0, ALL) == again.aborted_transactions(0, ALL)
    assert visible(log, committed=True) == visible(again, committed=True)


def log_store_copy(log: PartitionLog) -> SegmentStore:
    """A log with the same batches that was never cut."""
    store = MemoryStore()
    copy = open_log(store, SMALL)
    for message in messages_of(log):
        copy_to(copy, [message])
    copy.flush()
    return store


def test_a_copy_knows_the_same(log_store: SegmentStore) -> None:
    source = filled(MemoryStore())
    log = open_log(log_store, SMALL)
    copy_to(log, messages_of(source))
    check_filled(log)


def test_an_older_raykafka_wrote_the_snapshot(log_store: SegmentStore) -> None:
    log = open_log(log_store)
    append(log, make_batch([b"a"], producer_id=1, producer_epoch=0, base_sequence=0))
    log.roll(NOW)
    log.close()
    path = f"{DIRECTORY}/{snapshot_name(1)}"
    envelope = json.loads(bytes(log_store.read(path, 0, log_store.size(path))))
    envelope["body"].pop("transactions", None)
    body = msgspec.json.encode(envelope["body"])
    envelope["crc32c"] = crc32c(body, 1)
    file = b'{"format_version":1,"crc32c":%d,"body":%b}' % (envelope["crc32c"], body)
    log_store.publish(path, file, durable=False)
    assert decode(file, ProducerSnapshot, path).transactions is None
    log = open_log(log_store)
    assert log.recovered.clean
    assert not log.has_transactions
    again = make_batch([b"a"], producer_id=1, producer_epoch=0, base_sequence=0)
    assert append(log, again).duplicate


def test_an_open_transaction_outlives_idle_producers_and_its_records(
    log_store: SegmentStore,
) -> None:
    log = filled(log_store, LogConfig(segment_bytes=1000, producer_id_expiration_ms=1))
    log.delete_records(15)
    log.tick(NOW + 100_000)
    assert log.in_transaction(2)
    assert log.last_stable_offset(16) == 15
    assert log.aborted_transactions(0, 100) == []
    log.close()
    log = open_log(log_store, now_ms=NOW + 200_000)
    assert log.in_transaction(2)
    writer = Writer(log, 2)
    writer.epoch = 1
    writer.end(commit=False)
    assert log.last_stable_offset(17) == 17
    assert visible(log, committed=True).values == {15: b"plain 15"}


def test_times_are_those_of_records(log_store: SegmentStore) -> None:
    log = open_log(log_store)
    writer = Writer(log, 1)
    writer.write(b"0")
    append(log, make_marker(1, 1, commit=True, now_ms=NOW + 50_000))
    found = log.max_timestamp()
    assert found is not None
    assert (found.offset, found.timestamp) == (0, NOW)
    assert log.offset_for_timestamp(NOW + 1) is None


def test_damage_behind_what_was_read_is_met_by_the_next_read(local_store: LocalStore) -> None:
    log = open_log(local_store, LogConfig(segment_bytes=1000))
    writer = Writer(log, 1)
    writer.write(b"0")
    writer.write(b"1")
    writer.end(commit=True)
    log.roll(NOW)
    path = segment_files(local_store)[1]
    local_store.truncate(path, 100)
    log.close()
    log = open_log(local_store)
    assert visible_once(log, 0) == ([0], 1)
    with pytest.raises(LogDamagedError):
        visible_once(log, 1)


def visible_once(log: PartitionLog, offset: int) -> tuple[list[int], int]:
    seen = log.read_visible(offset, max_bytes=1, up_to=log.log_end_offset, committed=False)
    return [read_header(each).base_offset for each in seen.batches], seen.next_offset


# --- typed topics ---------------------------------------------------------------------------------

STRICT = storage_schema(
    pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("point", pa.list_(pa.float32(), 3), nullable=False),
            pa.field("note", pa.string()),
        ]
    )
)


def test_arrow_opens_a_typed_segment_with_markers(local_store: LocalStore) -> None:
    log = open_log(local_store, schemas=[STRICT])
    columns = [
        pa.array(["a", "b"]),
        pa.FixedSizeListArray.from_arrays(pa.array([0.0] * 6, pa.float32()), 3),
        pa.nulls(2, pa.string()),
    ]
    for epoch, commit in enumerate((True, False)):
        append(
            log,
            make_batch(
                [b""] * 2,
                schema=STRICT,
                columns=columns,
                producer_id=1,
                producer_epoch=epoch,
                base_sequence=0,
                transactional=True,
            ),
        )
        append(log, make_marker(1, epoch + 1, commit=commit, schema=STRICT))
    log.roll(NOW)
    log.close()
    (path,) = [f"{local_store.root}/{each}" for each in segment_files(local_store)]
    with pa.memory_map(path) as file:
        table = pa.ipc.open_file(file).read_all()
    table.validate(full=True)
    assert table.column("name").to_pylist() == ["a", "b", "", "a", "b", ""]
    assert table.schema.equals(STRICT)


# --- at random ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_random_histories(local_store: LocalStore, seed: int) -> None:
    rng = random.Random(seed)
    log = open_log(local_store, LogConfig(segment_bytes=rng.choice([1000, 6000, 1 << 30])))
    writers = [Writer(log, number) for number in range(1, 5)]
    written: dict[int, dict[int, bytes]] = {writer.producer_id: {} for writer in writers}
    committed: dict[int, bytes] = {}
    everything: dict[int, bytes] = {}
    for _ in range(80):
        writer = rng.choice(writers)
        own = written[writer.producer_id]
        if own and rng.random() < 0.3:
            commit = rng.random() < 0.5
            writer.end(commit=commit)
            if commit:
                committed.update(own)
            own.clear()
        elif rng.random() < 0.2:
            offset = append(log, make_batch([b"plain"])).base_offset
            everything[offset] = committed[offset] = b"plain"
        else:
            values = [b"%d" % rng.randrange(100)] * rng.randrange(1, 4)
            offset = writer.write(*values)
            own.update(enumerate(values, offset))
            everything.update(enumerate(values, offset))
        if rng.random() < 0.1:
            log.flush()
            log = open_log(local_store, log._config)
            for each in writers:
                each.log = log
    for size in sizes(rng):
        stable = log.last_stable_offset(log.log_end_offset)
        below = {offset: value for offset, value in committed.items() if offset < stable}
        assert visible(log, committed=True, max_bytes=size).values == below
        assert visible(log, committed=False, max_bytes=size).values == everything
        assert located(log, committed=True, max_batches=size) == below
        assert located(log, committed=False, max_batches=size) == everything


def sizes(rng: random.Random) -> Iterator[int]:
    yield from (1, rng.randrange(2, 5000), 1 << 20)
