from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset
import pytest

from raykafka.errors import CorruptMessageError
from raykafka.log.batch import encode_batch, read_header, stamp
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.log.segment import (
    SegmentIndex,
    build_footer,
    build_preamble,
    footer_size,
    parse_footer,
    parse_segment_name,
    read_preamble,
    segment_name,
    should_roll,
)
from raykafka.log.stats import column_statistics
from raykafka.model import Compression, PartitionId


class Sealed(NamedTuple):
    data: bytes
    index: SegmentIndex


@pytest.fixture
def seal(partition: PartitionId, joined: Any) -> Any:
    """Writes a segment; a gap is bytes that the footer does not list."""

    def write(
        batches: Sequence[pa.RecordBatch],
        schema: pa.Schema,
        *,
        compression: Compression = Compression.NONE,
        gap: bytes = b"",
    ) -> Sealed:
        data = bytearray(build_preamble(schema))
        index = SegmentIndex()
        offset = 1_000
        for batch in batches:
            stats = column_statistics(batch)
            message = joined(
                encode_batch(batch, partition, compression=compression, stats=stats).chunks
            )
            stamp(
                message,
                base_offset=offset,
                leader_epoch=3,
                append_time_ms=99,
                log_append_time=False,
            )
            header = read_header(message)
            index.add(header, len(data))
            data += message + gap
            offset = header.next_offset
        return Sealed(bytes(data + build_footer(schema, index)), index)

    return write


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("gap", [b"", b"\0" * 64, b"\xff" * 8, b"damaged " * 9], ids=len)
def test_arrow_tools_open_a_sealed_segment(
    seal: Any, untyped: Any, tmp_path: Path, compression: Compression, gap: bytes
) -> None:
    batches = [untyped([b"%d" % n] * rows) for n, rows in enumerate([1, 300, 20])]
    # a slice of empty lists behind full ones: its child is empty, its parent's offsets are not
    headers = [[{"key": "k" * (n % 7), "value": b"v"}] * (n % 5) for n in range(3_000)]
    batches[2] = untyped([b"2"] * 3_020, headers=[*headers, *([None] * 20)]).slice(3_000)
    expected = pa.Table.from_batches(batches)
    sealed = seal(batches, UNTYPED_SCHEMA, compression=compression, gap=gap)
    path = tmp_path / "s.arrow"
    path.write_bytes(sealed.data)

    with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as reader:
        assert reader.num_record_batches == 3
        assert reader.read_all().equals(expected)
        batch, metadata = reader.get_batch_with_custom_metadata(1)
        assert batch.equals(batches[1])
        assert metadata[b"rk"].startswith(b"raykafka1:")

    frame = polars.read_ipc(path)
    assert frame["value"].to_list() == expected["value"].to_pylist()
    assert polars.scan_ipc(path).select("value").collect().height == 321

    segments = pyarrow.dataset.dataset(str(path), format="ipc")
    found = duckdb.from_arrow(segments).query(
        "segment", "select count(*), min(value), max(value) from segment"
    )
    assert found.fetchall() == [(321, b"0", b"2")]


@pytest.mark.parametrize("compression", list(Compression))
def test_typed_segments_open_everywhere(
    seal: Any, every_type: pa.RecordBatch, tmp_path: Path, compression: Compression
) -> None:
    batches = [every_type, every_type.slice(3, 5)]
    path = tmp_path / "s.arrow"
    path.write_bytes(seal(batches, every_type.schema, compression=compression).data)
    assert pa.ipc.open_file(path).read_all().equals(pa.Table.from_batches(batches))
    frame = polars.read_ipc(path)
    for name in ("boolean", "int32", "text", "list", "struct", "decimal"):
        assert frame[name].null_count() == pa.Table.from_batches(batches)[name].null_count
    assert frame["text"].to_list()[0] == "grün"
    segments = pyarrow.dataset.dataset(str(path), format="ipc")
    counted = duckdb.from_arrow(segments).query("s", "select sum(int32), count(list) from s")
    values = pa.Table.from_batches(batches)["int32"]
    expected = sum(value for value in values.to_pylist() if value is not None)
    assert counted.fetchall() == [(expected, len(values) - values.null_count)]


def test_a_segment_without_batches_is_a_valid_file(seal: Any) -> None:
    sealed = seal([], UNTYPED_SCHEMA)
    assert pa.ipc.open_file(sealed.data).read_all().num_rows == 0
    assert parse_footer(sealed.data) == (UNTYPED_SCHEMA, SegmentIndex())


def test_schema_and_index_come_back_from_the_footer(seal: Any, every_type: pa.RecordBatch) -> None:
    sealed = seal([every_type, every_type], every_type.schema)
    size = footer_size(sealed.data[-10:])
    for tail in (sealed.data[-size:], sealed.data, memoryview(sealed.data)[-size - 8 :]):
        schema, index = parse_footer(tail)
        assert schema == every_type.schema
        assert index == sealed.index
    with pytest.raises(CorruptMessageError, match="are here"):
        parse_footer(sealed.data[-size + 1 :])
    preamble = read_preamble(sealed.data)
    assert preamble.schema == every_type.schema
    assert preamble.size == sealed.index.position[0]


def test_damaged_footers_are_refused(seal: Any, untyped: Any) -> None:
    sealed = seal([untyped([b"a"]), untyped([b"b", b"c"])], UNTYPED_SCHEMA)
    size = footer_size(sealed.data)
    tail = sealed.data[-size:]
    unnoticed = set()
    for position in range(size):
        for bit in (0, 4, 7):
            damaged = bytearray(tail)
            damaged[position] ^= 1 << bit
            try:
                found = parse_footer(damaged)
            except CorruptMessageError:
                continue
            # spare bits of the last base64 character, and the zeros behind it, mean nothing
            assert found == (UNTYPED_SCHEMA, sealed.index)
            unnoticed.add(position)
    value = bytes(tail).index(b"rk.index") + 16
    encoded = struct.unpack_from("<I", tail, value - 4)[0]
    assert unnoticed <= set(range(value + encoded - 3, (value + encoded + 8) & ~7))
    for shorter in range(0, size, 7):
        with pytest.raises(CorruptMessageError):
            parse_footer(tail[:shorter])


def test_a_footer_of_someone_else_is_refused() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, UNTYPED_SCHEMA):
        pass
    with pytest.raises(CorruptMessageError, match="not one that raykafka wrote"):
        parse_footer(bytes(sink.getvalue()))
    with pytest.raises(CorruptMessageError, match="no footer"):
        footer_size(b"ARROW2")
    with pytest.raises(CorruptMessageError, match="cannot have"):
        footer_size(struct.pack("<i", 2**31 - 1) + b"ARROW1")


def test_damaged_preambles_are_refused() -> None:
    good = build_preamble(UNTYPED_SCHEMA)
    assert len(good) % 8 == 0
    assert read_preamble(good + b"more").size == len(good)
    for bad in (b"", b"PARQUET1", good[:20], good[:12] + b"\xff\xff\xff\x7f" + good[16:]):
        with pytest.raises(CorruptMessageError):
            read_preamble(bad)
    extension = pa.schema([pa.field("c", pa.int8(), metadata={"ARROW:extension:name": "x"})])
    with pytest.raises(CorruptMessageError, match="extension types"):
        read_preamble(build_preamble(extension))


def test_names() -> None:
    assert segment_name(0) == "00000000000000000000.arrow"
    assert segment_name(2**63 - 1) == "09223372036854775807.arrow"
    assert parse_segment_name(segment_name(12_345)) == 12_345
    for other in (
        "12345.arrow",
        "00000000000000000000.arrow.torn-5",
        "00000000000000000000.arrow\n",
        "0000000000000000000x.arrow",
        "\u06600000000000000000000.arrow",
        "99999999999999999999.arrow",
        "checkpoint.json",
    ):
        assert parse_segment_name(other) is None
    with pytest.raises(ValueError, match="cannot begin"):
        segment_name(-1)


@pytest.mark.parametrize(
    ("size", "incoming", "age_ms", "rolls"),
    [
        (0, 10_000, 10_000, False),
        (1, 99, 100, False),
        (1, 100, 0, True),
        (1, 1, 101, True),
    ],
)
def test_rolling(size: int, incoming: int, age_ms: int, rolls: bool) -> None:
    decision = should_roll(
        size=size, incoming=incoming, age_ms=age_ms, segment_bytes=100, segment_ms=100
    )
    assert decision is rolls


def test_the_index_refuses_rows_that_do_not_follow(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    message = joined(encode_batch(untyped([b"a"]), partition).chunks)
    stamp(message, base_offset=5, leader_epoch=0, append_time_ms=0, log_append_time=False)
    header = read_header(message)
    index = SegmentIndex()
    index.add(header, 100)
    with pytest.raises(ValueError, match="does not follow"):
        index.add(header, 100 + header.size)
    with pytest.raises(ValueError, match="does not follow"):
        index.add(header._replace(base_offset=6), 100)
    index.add(header._replace(base_offset=9), 100 + header.size)
    assert len(index) == 2
    assert index.end_position() == 100 + 2 * header.size
