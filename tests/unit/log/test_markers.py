from __future__ import annotations

import pyarrow as pa
import pytest

from raykafka.errors import CorruptMessageError
from raykafka.log.batch import decode_batch, encode_batch, read_header, verify
from raykafka.log.batch_header import CONTROL, TRANSACTIONAL, special_flags
from raykafka.log.markers import _row, encode_marker
from raykafka.log.schema import UNTYPED_SCHEMA, storage_schema
from raykafka.model import Compression, PartitionId, TopicId

PARTITION = PartitionId(TopicId("0123456789abcdef0123456789abcdef"), 0)

STRICT_TYPES = [
    pa.bool_(),
    pa.int8(),
    pa.uint64(),
    pa.float16(),
    pa.float64(),
    pa.decimal128(12, 3),
    pa.decimal256(50, 3),
    pa.date32(),
    pa.date64(),
    pa.time32("s"),
    pa.time64("us"),
    pa.timestamp("us", "UTC"),
    pa.duration("ns"),
    pa.month_day_nano_interval(),
    pa.binary(),
    pa.binary(5),
    pa.string(),
    pa.large_binary(),
    pa.large_string(),
    pa.list_(pa.field("item", pa.int32(), nullable=False)),
    pa.large_list(pa.string()),
    pa.list_(pa.float32(), 4),
    pa.list_(pa.field("item", pa.float32(), nullable=False), 4),
    pa.map_(pa.string(), pa.int64()),
    pa.struct([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.string())]),
    pa.struct([pa.field("c", pa.list_(pa.field("item", pa.int8(), nullable=False), 2), False)]),
]


def strict(data_type: pa.DataType) -> pa.Schema:
    """A topic with one column that accepts no nulls."""
    return storage_schema(pa.schema([pa.field("v", data_type, nullable=False)]))


def marker(schema: pa.Schema, *, commit: bool = True) -> memoryview:
    encoded = encode_marker(
        schema,
        0,
        PARTITION,
        producer_id=7,
        producer_epoch=3,
        commit=commit,
        now_ms=1_700_000_000_000,
    )
    return memoryview(b"".join(bytes(memoryview(chunk)) for chunk in encoded.chunks))


@pytest.mark.parametrize("commit", [True, False])
def test_the_header_says_how_the_transaction_ended(commit: bool) -> None:
    header = verify(marker(UNTYPED_SCHEMA, commit=commit), PARTITION)
    assert (header.producer_id, header.producer_epoch, header.record_count) == (7, 3, 1)
    assert header.is_control
    assert header.is_transactional
    assert header.is_commit is commit
    assert header.compression is Compression.NONE
    assert header.max_timestamp == 1_700_000_000_000


def test_the_row_of_an_untyped_topic_is_null() -> None:
    row = decode_batch(marker(UNTYPED_SCHEMA), UNTYPED_SCHEMA).to_pylist()[0]
    assert [row["__key"], row["__headers"], row["value"]] == [None, None, None]


@pytest.mark.parametrize("data_type", STRICT_TYPES, ids=str)
def test_columns_that_may_not_be_null_hold_something(data_type: pa.DataType) -> None:
    schema = storage_schema(
        pa.schema([pa.field("strict", data_type, nullable=False), pa.field("lax", data_type)])
    )
    batch = decode_batch(marker(schema), schema)
    batch.validate(full=True)
    assert batch.column("strict").null_count == 0
    assert batch.column("lax").null_count == 1
    assert batch.schema.equals(schema)
    batch.to_pylist()


@pytest.mark.parametrize("control", [True, False])
@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("epoch", [0, 63, 64, 255, 32_767])
def test_flags_are_read_without_the_rest_of_the_header(
    control: bool, transactional: bool, compression: Compression, epoch: int
) -> None:
    row = decode_batch(marker(UNTYPED_SCHEMA), UNTYPED_SCHEMA)
    encoded = encode_batch(
        row,
        PARTITION,
        control=control,
        transactional=transactional,
        compression=compression,
        producer_epoch=epoch,
    )
    message = b"behind " + b"".join(bytes(memoryview(chunk)) for chunk in encoded.chunks)
    expected = (CONTROL if control else 0) | (TRANSACTIONAL if transactional else 0)
    assert special_flags(message, 7) == expected


def test_a_commit_flag_alone_is_no_batch() -> None:
    row = decode_batch(marker(UNTYPED_SCHEMA), UNTYPED_SCHEMA)
    encoded = encode_batch(row, PARTITION, commit=True)
    with pytest.raises(CorruptMessageError):
        read_header(b"".join(bytes(memoryview(chunk)) for chunk in encoded.chunks))


@pytest.mark.parametrize("schema", [UNTYPED_SCHEMA, *map(strict, STRICT_TYPES)], ids=str)
def test_a_marker_from_its_template_is_what_the_encoder_makes(schema: pa.Schema) -> None:
    made = encode_batch(
        _row(schema, 1_700_000_000_000),
        PARTITION,
        producer_id=7,
        producer_epoch=3,
        control=True,
        transactional=True,
        commit=True,
    )
    assert marker(schema) == b"".join(bytes(memoryview(chunk)) for chunk in made.chunks)
