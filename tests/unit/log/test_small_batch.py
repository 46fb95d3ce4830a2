from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykafka.errors import CorruptMessageError
from raykafka.log.batch import decode_batch, encode_batch, validate_batch, verify
from raykafka.log.batch_header import read_header
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.log.small_batch import (
    MAX_ROWS,
    SmallRecords,
    encode_records,
    is_one_record,
    read_one_record,
)
from raykafka.model import PartitionId, TopicId

PARTITION = PartitionId(TopicId("0123456789abcdef" * 2), 3)
BYTES = st.one_of(st.none(), st.binary(max_size=40))


@given(
    st.lists(st.tuples(st.integers(0, 1 << 45), BYTES, BYTES), min_size=1, max_size=MAX_ROWS),
    st.booleans(),
)
def test_reads_back_like_the_batch_that_arrow_writes(
    rows: list[tuple[int, bytes | None, bytes | None]], keyed: bool
) -> None:
    timestamps = [row[0] for row in rows]
    keys = [row[1] for row in rows] if keyed else None
    values = [row[2] for row in rows]
    records = SmallRecords(timestamps, keys, values)
    numbers = {"producer_id": 7, "producer_epoch": 2, "base_sequence": 11}
    encoded = encode_records(records, PARTITION, **numbers)
    message = b"".join(encoded.chunks)
    expected = records.to_arrow()
    assert len(message) == encoded.header.size
    assert len(message) % 8 == 0
    assert verify(message, PARTITION) == encoded.header
    assert validate_batch(message, UNTYPED_SCHEMA).equals(expected)
    same = encode_batch(expected, PARTITION, **numbers).header
    differing = {"crc": 0, "size": 0, "metadata_size": 0}
    assert encoded.header._replace(**differing) == same._replace(**differing)


@pytest.mark.parametrize("rows", [1, 2, 9, MAX_ROWS])
def test_pyarrow_opens_it_as_a_stream(rows: int) -> None:
    encoded = encode_records(SmallRecords([5] * rows, None, [b"value"] * rows), PARTITION)
    message = b"".join(encoded.chunks)
    stream = bytes(UNTYPED_SCHEMA.serialize()) + message
    with pa.ipc.open_stream(stream) as reader:
        table = reader.read_all()
    assert table["value"].to_pylist() == [b"value"] * rows
    assert decode_batch(message, UNTYPED_SCHEMA, columns=["value"]).num_rows == rows


SIZES = [None, 0, 1, 7, 8, 9, 100]


@pytest.mark.parametrize("key_size", SIZES)
@pytest.mark.parametrize("value_size", SIZES)
def test_one_encoded_record_is_recognised(key_size: int | None, value_size: int | None) -> None:
    message = one_record(key_size, value_size)
    header = verify(message, PARTITION)
    assert is_one_record(message, header)
    batch = validate_batch(message, UNTYPED_SCHEMA)
    record = read_one_record(memoryview(message), header)
    assert record is not None
    assert record.to_arrow().equals(batch)
    assert [record.key] == batch.column("__key").to_pylist()
    assert [record.value] == batch.column("value").to_pylist()
    assert record.timestamp == batch.column("__timestamp")[0].value


def one_record(key_size: int | None, value_size: int | None) -> bytearray:
    key, value = (None if size is None else b"x" * size for size in (key_size, value_size))
    records = SmallRecords([1_600_000_000_000], None if key is None else [key], [value])
    return bytearray(b"".join(bytes(chunk) for chunk in encode_records(records, PARTITION).chunks))


@pytest.mark.parametrize(("key_size", "value_size"), [(None, 9), (5, 3), (None, None), (8, None)])
def test_what_is_recognised_is_valid_whatever_byte_is_changed(
    key_size: int | None, value_size: int | None
) -> None:
    original = one_record(key_size, value_size)
    recognised = 0
    for position in range(len(original)):
        for change in (0x01, 0x80, 0xFF):
            message = bytearray(original)
            message[position] ^= change
            try:
                header = read_header(message)
            except CorruptMessageError:
                continue
            if is_one_record(message, header):
                recognised += 1
                validate_batch(message, UNTYPED_SCHEMA, header=header)
    assert (recognised > 0) == bool(key_size or value_size), "data and padding may be any bytes"


def test_other_batches_are_left_to_arrow() -> None:
    two = SmallRecords([1, 2], None, [b"a", b"b"])
    typed = encode_batch(SmallRecords([1], None, [b"a"]).to_arrow(), PARTITION, schema_id=3)
    for encoded in (encode_records(two, PARTITION), typed):
        message = bytearray(b"".join(bytes(chunk) for chunk in encoded.chunks))
        header = verify(message, PARTITION)
        assert not is_one_record(message, header)
        assert read_one_record(message, header) is None


def test_a_transactional_record_is_read_without_arrow() -> None:
    records = SmallRecords([5], [b"k"], [b"v"])
    encoded = encode_records(
        records, PARTITION, producer_id=7, producer_epoch=2, base_sequence=0, transactional=True
    )
    message = b"".join(encoded.chunks)
    header = read_header(message)
    assert header.is_transactional
    assert is_one_record(message, header)
    record = read_one_record(message, header)
    assert record is not None
    assert (record.timestamp, record.key, record.value) == (5, b"k", b"v")
