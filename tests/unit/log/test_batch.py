from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import crc32c
import pyarrow as pa
import pytest

from raykafka.errors import CorruptMessageError, InvalidRecordError
from raykafka.log.batch import (
    decode_batch,
    encode_batch,
    project_batch,
    read_header,
    stamp,
    validate_batch,
    verify,
)
from raykafka.log.batch_header import leader_part, partition_seed, producer_part
from raykafka.log.ipc_message import read_layout
from raykafka.log.schema import HEADERS_TYPE, UNTYPED_SCHEMA, storage_schema
from raykafka.log.stats import column_statistics, read_statistics
from raykafka.model import Compression, PartitionId, TopicId

CODECS = list(Compression)


@pytest.mark.parametrize("compression", CODECS)
def test_what_is_encoded_is_decoded(
    every_type: pa.RecordBatch, partition: PartitionId, joined: Any, compression: Compression
) -> None:
    encoded = encode_batch(every_type, partition, compression=compression)
    message = joined(encoded.chunks)
    assert len(message) == encoded.header.size
    assert len(message) % 8 == 0
    assert verify(message, partition) == encoded.header
    assert encoded.header.compression is compression
    assert validate_batch(message, every_type.schema).equals(every_type)
    assert decode_batch(message, every_type.schema).equals(every_type)


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("rows", [1, 7, 40_000])
def test_batches_of_any_size(
    untyped: Any, partition: PartitionId, joined: Any, compression: Compression, rows: int
) -> None:
    batch = untyped([b"%d" % row for row in range(rows)], keys=[b"k", *[None] * (rows - 1)])
    message = joined(encode_batch(batch, partition, compression=compression).chunks)
    assert validate_batch(message, UNTYPED_SCHEMA).equals(batch)


def test_the_header_says_what_the_producer_said(untyped: Any, partition: PartitionId) -> None:
    batch = untyped([b"a", b"b", b"c"], timestamps=[30, 10, 20])
    header = encode_batch(
        batch,
        partition,
        schema_id=4,
        producer_id=1 << 40,
        producer_epoch=9,
        base_sequence=2**31 - 2,
        compression=Compression.ZSTD,
        control=True,
        transactional=True,
    ).header
    assert (header.base_offset, header.leader_epoch, header.append_time_ms) == (-1, -1, -1)
    assert (header.producer_id, header.producer_epoch) == (1 << 40, 9)
    assert (header.base_sequence, header.last_sequence) == (2**31 - 2, 0)
    assert (header.record_count, header.schema_id) == (3, 4)
    assert (header.base_timestamp, header.max_timestamp) == (10, 30)
    assert header.is_control
    assert header.is_transactional
    assert header.compression is Compression.ZSTD


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("start", [0, 4_999, 9_998])
def test_a_slice_does_not_carry_its_parent(
    every_type: pa.RecordBatch,
    untyped: Any,
    partition: PartitionId,
    joined: Any,
    compression: Compression,
    start: int,
) -> None:
    values = [b"x" * 100] * 10_000
    header = {"key": "h" * 9, "value": b"v"}
    parents = [
        untyped(values),
        untyped(values, headers=[[]] * 10_000),
        untyped(values, headers=[None, [header, header], [header]] * 3_333 + [None]),
        pa.concat_tables([pa.table(every_type)] * 500).combine_chunks().to_batches()[0],
        pa.record_batch(
            [
                pa.array(range(10_000), pa.timestamp("ms")),
                pa.nulls(10_000, pa.binary()),
                pa.nulls(10_000, HEADERS_TYPE),
                pa.nulls(10_000, pa.list_(pa.list_(pa.string()))),
            ],
            schema=storage_schema(pa.schema([("deep", pa.list_(pa.list_(pa.string())))])),
        ),
    ]
    for parent in parents:
        part = parent.slice(start, 1)
        message = joined(encode_batch(part, partition, compression=compression).chunks)
        alone = pa.record_batch(
            [pa.array(column.to_pylist(), column.type) for column in part], schema=part.schema
        )
        other = joined(encode_batch(alone, partition, compression=compression).chunks)
        padding = 64 * len(read_layout(message, read_header(message).metadata_size).buffers) // 16
        assert len(message) <= len(other) + padding
        assert validate_batch(message, part.schema).equals(part)


def test_records_without_headers_cost_no_child_offsets(
    untyped: Any, partition: PartitionId
) -> None:
    rows = 10_000
    batch = untyped([b"x" * 100] * rows)
    batch = batch.set_column(2, batch.schema.field(2), pa.nulls(rows, HEADERS_TYPE))
    # timestamp, two offset buffers for key and headers, one for values, values, three bitmaps
    assert encode_batch(batch, partition).header.size < rows * (8 + 3 * 4 + 100 + 1)


def test_large_buffers_are_not_copied(untyped: Any, partition: PartitionId) -> None:
    batch = untyped([b"x" * 1000] * 4_000)
    values = batch.column(3).buffers()[2]
    encode_batch(batch, partition)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    encoded = encode_batch(batch, partition)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert any(
        isinstance(chunk, pa.Buffer) and chunk.address == values.address for chunk in encoded.chunks
    )
    assert peak < 100_000
    assert pa.total_allocated_bytes() - before < 100_000


def test_decoded_columns_are_views_of_the_message(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(untyped([b"x" * 1000] * 100), partition).chunks)
    values = decode_batch(message, UNTYPED_SCHEMA).column(3).buffers()[2]
    start = pa.py_buffer(message).address
    assert start <= values.address < start + len(message)


@pytest.mark.parametrize("compression", CODECS)
def test_decoding_some_columns(
    every_type: pa.RecordBatch, partition: PartitionId, joined: Any, compression: Compression
) -> None:
    message = joined(encode_batch(every_type, partition, compression=compression).chunks)
    columns = ["map", "__timestamp", "struct"]
    decoded = decode_batch(message, every_type.schema, columns=columns)
    assert decoded.equals(every_type.select(columns))
    with pytest.raises(InvalidRecordError, match="'absent' is not in the topic"):
        decode_batch(message, every_type.schema, columns=["absent"])


@pytest.mark.parametrize("compression", CODECS)
def test_projection_keeps_the_header_and_passes_verification(
    every_type: pa.RecordBatch, partition: PartitionId, joined: Any, compression: Compression
) -> None:
    encoded = encode_batch(
        every_type,
        partition,
        compression=compression,
        producer_id=5,
        producer_epoch=1,
        base_sequence=8,
        stats=column_statistics(every_type),
    )
    message = joined(encoded.chunks)
    stamp(message, base_offset=77, leader_epoch=6, append_time_ms=5, log_append_time=True)
    columns = ["__timestamp", "list", "text", "struct"]
    projected = joined(project_batch(memoryview(message), every_type.schema, columns, partition))
    schema = pa.schema([every_type.schema.field(name) for name in columns])
    header = verify(projected, partition)
    kept = header._replace(crc=0, size=0, metadata_size=0)
    assert kept == read_header(message)._replace(crc=0, size=0, metadata_size=0)
    assert header.size < len(message)
    assert validate_batch(projected, schema).equals(every_type.select(columns))
    assert read_statistics(projected) == {}


def test_projection_copies_no_column(untyped: Any, partition: PartitionId, joined: Any) -> None:
    message = joined(encode_batch(untyped([b"x" * 1000] * 1000), partition).chunks)
    chunks = project_batch(message, UNTYPED_SCHEMA, ["value"], partition)
    assert [type(chunk) for chunk in chunks[1:]] == [memoryview] * (len(chunks) - 1)
    assert sum(map(len, chunks[1:])) > 1_000_000


def test_projection_of_a_damaged_batch_is_refused(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(untyped([b"value"]), partition).chunks)
    message[-8] ^= 1
    with pytest.raises(CorruptMessageError, match="fails its CRC"):
        project_batch(message, UNTYPED_SCHEMA, ["value"], partition)


@pytest.mark.parametrize("columns", [[], ["value", "value"]])
def test_projection_needs_distinct_columns(
    untyped: Any, partition: PartitionId, joined: Any, columns: list[str]
) -> None:
    message = joined(encode_batch(untyped([b"value"]), partition).chunks)
    with pytest.raises(InvalidRecordError, match="at least one column"):
        project_batch(message, UNTYPED_SCHEMA, columns, partition)


def test_a_batch_without_records_is_refused(untyped: Any, partition: PartitionId) -> None:
    with pytest.raises(InvalidRecordError, match="1 to"):
        encode_batch(untyped([b"a"]).slice(0, 0), partition)


@pytest.mark.parametrize(
    "first", [pa.array([1, 2]), pa.array([1, None], pa.timestamp("ms")), pa.array(["a", "b"])]
)
def test_a_batch_without_timestamps_is_refused(partition: PartitionId, first: pa.Array) -> None:
    with pytest.raises(InvalidRecordError, match="__timestamp"):
        encode_batch(pa.record_batch([first], names=["__timestamp"]), partition)


def reseal(message: bytearray, partition: PartitionId) -> bytearray:
    """Gives changed bytes a CRC that holds: what a hostile producer does."""
    header = read_header(message)
    crc = crc32c.crc32c(bytes(message[:110]), partition_seed(partition))
    crc = crc32c.crc32c(bytes(message[150:]), crc)
    message[110:150] = leader_part((*header[:4], crc))
    return message


def buffer_entry(message: bytearray, number: int) -> int:
    """Position of the given (offset, length) pair in the metadata."""
    packed = read_layout(message, read_header(message).metadata_size).buffers
    return bytes(message).index(packed, 208) + 16 * number


@pytest.mark.parametrize("compression", [Compression.LZ4, Compression.ZSTD])
def test_a_decompression_bomb_is_refused_before_memory_is_taken(
    untyped: Any, partition: PartitionId, joined: Any, compression: Compression
) -> None:
    message = joined(
        encode_batch(untyped([b"x" * 100] * 10), partition, compression=compression).chunks
    )
    offset, _ = struct.unpack_from("<qq", message, buffer_entry(message, 16))
    place = read_header(message).metadata_size + offset
    struct.pack_into("<q", message, place, 1 << 40)
    reseal(message, partition)
    before = pa.total_allocated_bytes()
    for columns in (None, ["value"]):
        with pytest.raises(CorruptMessageError, match="claims more than 268435456 bytes"):
            decode_batch(message, UNTYPED_SCHEMA, columns=columns)
    with pytest.raises(InvalidRecordError, match="send smaller batches"):
        validate_batch(message, UNTYPED_SCHEMA)
    assert pa.total_allocated_bytes() - before < 1 << 20
    struct.pack_into("<q", message, place, -2)
    with pytest.raises(CorruptMessageError, match="negative length"):
        decode_batch(message, UNTYPED_SCHEMA)


def test_a_real_bomb_is_bounded_by_what_the_caller_allows(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    batch = untyped([b"\0" * 5_000_000])
    message = joined(encode_batch(batch, partition, compression=Compression.ZSTD).chunks)
    assert len(message) < 5_000
    with pytest.raises(CorruptMessageError, match="claims more than 1000000"):
        decode_batch(message, UNTYPED_SCHEMA, max_uncompressed=1_000_000)
    assert decode_batch(message, UNTYPED_SCHEMA).equals(batch)


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.LZ4])
@pytest.mark.parametrize(
    "change", [(1 << 40, 8), (-8, 8), (4, 8), (0, 1 << 40), (0, -1), (8, 2**63 - 8)]
)
def test_buffers_outside_of_the_body_are_refused(
    untyped: Any,
    partition: PartitionId,
    joined: Any,
    compression: Compression,
    change: tuple[int, int],
) -> None:
    message = joined(
        encode_batch(untyped([b"x" * 100] * 10), partition, compression=compression).chunks
    )
    struct.pack_into("<qq", message, buffer_entry(message, 16), *change)
    reseal(message, partition)
    with pytest.raises(InvalidRecordError):
        validate_batch(message, UNTYPED_SCHEMA)
    with pytest.raises(CorruptMessageError, match="outside of its body"):
        project_batch(message, UNTYPED_SCHEMA, ["value"], partition)


def test_overlapping_buffers_do_not_multiply(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(untyped([b"x" * 100] * 10), partition).chunks)
    body = len(message) - read_header(message).metadata_size
    for number in (14, 15, 16):
        struct.pack_into("<qq", message, buffer_entry(message, number), 0, body)
    reseal(message, partition)
    with pytest.raises(CorruptMessageError, match="overlap"):
        project_batch(message, UNTYPED_SCHEMA, ["value"], partition)


def test_a_batch_read_with_another_schema_is_refused(
    every_type: pa.RecordBatch, untyped: Any, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(untyped([b"a", b"b"]), partition).chunks)
    with pytest.raises(InvalidRecordError):
        validate_batch(message, every_type.schema)
    with pytest.raises(CorruptMessageError, match="other columns than its schema"):
        project_batch(message, every_type.schema, ["text"], partition)


def test_nulls_in_a_column_that_accepts_none_are_refused(
    partition: PartitionId, joined: Any
) -> None:
    lax = storage_schema(pa.schema([pa.field("n", pa.int32())]))
    strict = storage_schema(pa.schema([pa.field("n", pa.int32(), nullable=False)]))
    batch = pa.record_batch(
        [
            pa.array([1, 2], pa.timestamp("ms")),
            pa.nulls(2, pa.binary()),
            pa.nulls(2, HEADERS_TYPE),
            pa.array([1, None], pa.int32()),
        ],
        schema=lax,
    )
    message = joined(encode_batch(batch, partition).chunks)
    with pytest.raises(InvalidRecordError, match="'n' holds 1 nulls"):
        validate_batch(message, strict)


def test_text_that_is_not_utf8_is_refused(partition: PartitionId, joined: Any) -> None:
    schema = storage_schema(pa.schema([pa.field("t", pa.string())]))
    offsets, data = pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe")
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])
    batch = pa.record_batch(
        [
            pa.array([1], pa.timestamp("ms")),
            pa.nulls(1, pa.binary()),
            pa.nulls(1, HEADERS_TYPE),
            text,
        ],
        schema=schema,
    )
    with pytest.raises(InvalidRecordError, match="UTF8"):
        validate_batch(joined(encode_batch(batch, partition).chunks), schema)


def test_a_header_that_lies_about_the_records_is_refused(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    for change, message_part in [
        ({"record_count": 3}, "says it has 3 records and holds 2"),
        ({"max_timestamp": 10**15}, "__timestamp column disagree"),
    ]:
        message = joined(encode_batch(untyped([b"a", b"b"]), partition).chunks)
        header = read_header(message)._replace(**change)
        message[150:206] = producer_part(header[5:14])
        reseal(message, partition)
        verify(message, partition)
        with pytest.raises(InvalidRecordError, match=message_part):
            validate_batch(message, UNTYPED_SCHEMA)


@pytest.mark.parametrize("place", [36, 48, 64, 206, 207])
def test_metadata_that_are_laid_out_otherwise_are_refused(
    untyped: Any, partition: PartitionId, joined: Any, place: int
) -> None:
    # Arrow might follow such metadata elsewhere than we do, so they are refused CRC or not
    message = joined(encode_batch(untyped([b"a", b"b"]), partition).chunks)
    message[place] ^= 8
    with pytest.raises((InvalidRecordError, CorruptMessageError)):
        validate_batch(reseal(message, partition), UNTYPED_SCHEMA)


def test_a_body_that_is_not_padded_is_refused(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(untyped([b"a"]), partition).chunks) + bytes(4)
    header = read_header(message)
    struct.pack_into("<q", message, 40, header.size - header.metadata_size + 4)
    message[150:206] = producer_part(header._replace(size=header.size + 4)[5:14])
    with pytest.raises(CorruptMessageError, match="do not begin with"):
        read_header(message)


def test_bytes_behind_the_batch_are_refused_from_outside(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(untyped([b"a"]), partition).chunks)
    with pytest.raises(InvalidRecordError, match="8 bytes follow the batch"):
        validate_batch(message + bytes(8), UNTYPED_SCHEMA)
    assert decode_batch(message + bytes(8), UNTYPED_SCHEMA).num_rows == 1


def test_a_topic_id_and_a_partition_are_part_of_the_crc(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(untyped([b"a"]), partition).chunks)
    verify(message, partition)
    for other in (
        partition._replace(partition=4),
        partition._replace(topic_id=TopicId("f" * 32)),
    ):
        with pytest.raises(CorruptMessageError, match="meant for another partition"):
            verify(message, other)


def test_arrow_reads_the_message_without_raykafka(
    every_type: pa.RecordBatch, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(every_type, partition, stats=b'{"int32":[7,7,10]}').chunks)
    stream = bytes(every_type.schema.serialize()) + bytes(message)
    batch, metadata = pa.ipc.open_stream(stream).read_next_batch_with_custom_metadata()
    assert batch.equals(every_type)
    assert metadata[b"rk"][:10] == b"raykafka1:"
    assert metadata[b"rk.stats"] == b'{"int32":[7,7,10]}'


def test_a_schema_with_fewer_columns_is_not_mistaken_for_the_right_one(
    every_type: pa.RecordBatch, partition: PartitionId, joined: Any
) -> None:
    # Arrow itself reads the first buffers and overlooks the rest
    message = joined(encode_batch(every_type, partition).chunks)
    narrower = pa.schema(list(every_type.schema)[:-1])
    assert pa.ipc.read_record_batch(pa.py_buffer(message), narrower).num_rows == 20
    with pytest.raises(CorruptMessageError, match="other columns than its schema"):
        decode_batch(message, narrower)
    with pytest.raises(InvalidRecordError, match="other columns than its schema"):
        validate_batch(message, narrower)


def test_a_verified_header_need_not_be_read_again(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    batch = untyped([b"a", b"b"])
    message = joined(encode_batch(batch, partition).chunks)
    header = verify(message, partition)
    assert validate_batch(message, UNTYPED_SCHEMA, header=header).equals(batch)
    assert decode_batch(message, UNTYPED_SCHEMA, header=header).equals(batch)
    with pytest.raises(InvalidRecordError, match="8 bytes follow"):
        validate_batch(message + bytes(8), UNTYPED_SCHEMA, header=header)
