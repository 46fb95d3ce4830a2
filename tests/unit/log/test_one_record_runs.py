from __future__ import annotations

import random
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.errors import CorruptMessageError
from raykafka.log.batch import decode_batch, encode_batch, verify
from raykafka.log.batch_header import stamp
from raykafka.log.one_record_runs import MAX_BATCH, SHORTEST_RUN, WINDOW, OneRecordRuns
from raykafka.log.schema import HEADERS_TYPE, UNTYPED_SCHEMA
from raykafka.log.small_batch import SmallRecords, encode_records
from raykafka.model import PartitionId, TopicId

PARTITION = PartitionId(TopicId("0123456789abcdef" * 2), 3)
BYTES = st.one_of(st.none(), st.binary(max_size=40))
Record = tuple[bytes | None, bytes | None]


def batch(offset: int, *records: Record, late: bool = False, transactional: bool = False) -> bytes:
    keys, values = [r[0] for r in records], [r[1] for r in records]
    plain = SmallRecords([1_000 + offset] * len(records), keys, values)
    if len(records) == 1 and keys == [None]:
        plain = plain._replace(keys=None)
    encoded = encode_records(
        plain,
        PARTITION,
        producer_id=7,
        producer_epoch=1,
        base_sequence=2,
        transactional=transactional,
    )
    return stamped(offset, b"".join(map(bytes, encoded.chunks)), late)


def stamped(offset: int, message: bytes, late: bool = False) -> bytes:
    copied = bytearray(message)
    stamp(copied, base_offset=offset, leader_epoch=4, append_time_ms=9, log_append_time=late)
    return bytes(copied)


def runs_of(messages: Sequence[bytes], partition: PartitionId | None = PARTITION) -> OneRecordRuns:
    # Not at the beginning of the buffer, nor aligned.
    data = memoryview(b"abc" + b"".join(messages))
    positions = [3]
    for message in messages:
        positions.append(positions[-1] + len(message))
    return OneRecordRuns(data, positions[:-1], [len(each) for each in messages], partition)


def found(messages: Sequence[bytes], partition: PartitionId | None = PARTITION) -> list[int]:
    """How many batches each run has; 1 stands for a batch that is in none. Compares them, too."""
    runs = runs_of(messages, partition)
    counts: list[int] = []
    index = 0
    while index < len(messages):
        run = runs.read(index)
        count = 1
        if run is not None:
            count = run.columns.num_rows
            part = messages[index : index + count]
            expected = [decode_batch(each, UNTYPED_SCHEMA) for each in part]
            run.columns.validate(full=True)
            assert pa.Table.from_batches([run.columns]).equals(pa.Table.from_batches(expected))
            assert run.size == sum(map(len, part))
            headers = [verify(each, PARTITION) for each in part]
            assert [h.base_offset for h in headers] == [run.base_offset + n for n in range(count)]
        counts.append(count)
        index += count
    return counts


@given(st.lists(st.tuples(BYTES, BYTES), min_size=SHORTEST_RUN, max_size=40))
def test_a_run_is_what_its_batches_are(records: list[Record]) -> None:
    messages = [batch(5 + n, record) for n, record in enumerate(records)]
    assert found(messages) == [len(messages)]
    assert found(messages, None) == [len(messages)]


@pytest.mark.parametrize("record", [(None, b"v" * 9), (b"k", None), (None, None), (b"", b"")])
def test_equal_records(record: Record) -> None:
    assert found([batch(n, record) for n in range(50)]) == [50]


def test_transactions_do_not_end_a_run() -> None:
    messages = [batch(n, (b"k", b"v"), transactional=bool(n % 3)) for n in range(30)]
    assert found(messages) == [30]


def test_few_batches_are_not_worth_it() -> None:
    messages = [batch(n, (None, b"v")) for n in range(SHORTEST_RUN)]
    assert found(messages) == [SHORTEST_RUN]
    assert found(messages[1:]) == [1] * (SHORTEST_RUN - 1)


def test_a_run_ends_with_its_window() -> None:
    messages = [batch(n, (None, b"v")) for n in range(2 * WINDOW + 10)]
    assert found(messages) == [WINDOW, WINDOW, 10]


def test_other_batches_end_a_run() -> None:
    with_headers = pa.record_batch(
        [
            pa.array([1], pa.timestamp("ms")),
            pa.array([None], pa.binary()),
            pa.array([[{"key": "h", "value": b"v"}]], HEADERS_TYPE),
            pa.array([b"v"], pa.binary()),
        ],
        schema=UNTYPED_SCHEMA,
    )
    others = [
        batch(20, (None, b"a"), (None, b"b")),
        batch(20, (None, b"v" * MAX_BATCH)),
        batch(20, (None, b"v"), late=True),
        *(
            stamped(20, b"".join(map(bytes, encode_batch(rows, PARTITION, **options).chunks)))
            for rows, options in (
                (with_headers, {}),
                (with_headers.slice(0, 1), {"control": True}),
            )
        ),
        b"x" * 80,
        b"x" * 800,
    ]
    before = [batch(n, (None, b"v")) for n in range(20)]
    behind = [batch(n, (b"key", b"v")) for n in range(22, 32)]
    for other in others:
        assert found([*before, other, *behind]) == [20, 1, 10]
    # The slots of a window are decoded together: what is none spoils it, and all is read singly.
    assert found([*before, b"." * 800, *behind]) == [1] * 31


def test_a_gap_begins_another_run() -> None:
    messages = [batch(n, (None, b"v")) for n in [*range(10), *range(11, 31)]]
    assert found(messages) == [10, 20]


def test_batches_of_another_partition_do_not_pass() -> None:
    messages = [batch(n, (None, b"v")) for n in range(10)]
    assert found(messages, PARTITION._replace(partition=4)) == [1] * 10


def test_what_lies_outside_of_the_buffer_is_not_read() -> None:
    data = memoryview(b"".join(batch(n, (None, b"v")) for n in range(10)))
    size = len(data) // 10
    positions = [number * size for number in range(10)]
    for places in ([*positions[:-1], 9 * size + 8], [-8, *positions[1:]]):
        runs = OneRecordRuns(data, places, [size] * 10, None)
        runs.read(0)
        sizes = [None if (run := runs.read(n)) is None else run.columns.num_rows for n in range(10)]
        assert max(filter(None, sizes)) == 9


@pytest.mark.parametrize("record", [(None, b"value"), (b"key", b"v"), (None, None), (b"key", None)])
def test_whatever_byte_is_changed(record: Record) -> None:
    messages = [batch(n, record) for n in range(2 * SHORTEST_RUN + 1)]
    original = messages[SHORTEST_RUN]
    whole = 0
    for position in range(len(original)):
        changed = bytearray(original)
        changed[position] ^= random.Random(position).choice([0x01, 0x80, 0xFF])
        messages[SHORTEST_RUN] = bytes(changed)
        counts = found(messages)
        assert counts in ([SHORTEST_RUN, 1, SHORTEST_RUN], [1] * len(messages))
        with pytest.raises(CorruptMessageError):
            verify(bytes(changed), PARTITION)
        # Without CRCs what is accepted reads as it does otherwise.
        whole += found_alike(messages)
    assert (whole > 0) == any(record), "data and padding may be any bytes"


def found_alike(messages: Sequence[bytes]) -> bool:
    run = runs_of(messages, None).read(0)
    if run is None or run.columns.num_rows <= SHORTEST_RUN:
        return False
    expected = [decode_batch(each, UNTYPED_SCHEMA) for each in messages]
    assert pa.Table.from_batches([run.columns]).equals(pa.Table.from_batches(expected))
    return True


@settings(max_examples=50)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=60), st.data())
def test_mixed_logs(sizes: list[int], data: st.DataObject) -> None:
    messages = []
    offset = 0
    for size in sizes:
        messages.append(batch(offset, *[(None, data.draw(BYTES)) for _ in range(size)]))
        offset += size
    assert sum(found(messages)) == len(messages)
