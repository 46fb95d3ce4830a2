"""Any records round-trip; any mutation of real bytes gives a typed error or a valid result."""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import lru_cache

import crc32c
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raykafka.errors import (
    CorruptMessageError,
    InvalidConfigError,
    InvalidRecordError,
    InvalidRequestError,
)
from raykafka.log.batch import (
    decode_batch,
    encode_batch,
    project_batch,
    read_header,
    stamp,
    validate_batch,
    verify,
)
from raykafka.log.batch_header import leader_part, partition_seed
from raykafka.log.schema import (
    HEADERS_TYPE,
    UNTYPED_SCHEMA,
    deserialize_schema,
    serialize_schema,
    storage_schema,
)
from raykafka.log.segment import SegmentIndex, build_footer, parse_footer
from raykafka.log.stats import column_statistics, read_statistics
from raykafka.model import Compression, PartitionId, TopicId

PARTITION = PartitionId(TopicId("0123456789abcdef" * 2), 3)
VALUE_SCHEMA = pa.schema(
    [
        pa.field("n", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("pair", pa.struct([("a", pa.int64()), ("b", pa.large_binary())])),
        pa.field("vector", pa.list_(pa.float32(), 2)),
        pa.field("map", pa.map_(pa.string(), pa.int8())),
        pa.field("flag", pa.bool_(), nullable=False),
    ]
)
SCHEMA = storage_schema(VALUE_SCHEMA)
COLUMNS = ["__timestamp", "tags", "flag", "pair"]

maybe_bytes = st.none() | st.binary(max_size=20)
records = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        maybe_bytes,
        st.none()
        | st.lists(
            st.fixed_dictionaries({"key": st.text(max_size=4), "value": maybe_bytes}), max_size=3
        ),
        maybe_bytes,
    ),
    min_size=1,
    max_size=30,
)


def join(chunks: list[object]) -> bytearray:
    return bytearray(b"".join(memoryview(chunk) for chunk in chunks))  # type: ignore[arg-type]


@given(records, st.sampled_from(Compression), st.data())
def test_any_records_round_trip(
    rows: list[tuple[object, ...]], compression: Compression, data: st.DataObject
) -> None:
    columns = zip(*rows, strict=True)
    types = UNTYPED_SCHEMA.types
    batch = pa.record_batch(
        [pa.array(c, t) for c, t in zip(columns, types, strict=True)], schema=UNTYPED_SCHEMA
    )
    start = data.draw(st.integers(0, len(rows) - 1))
    batch = batch.slice(start, data.draw(st.integers(1, len(rows) - start)))
    encoded = encode_batch(batch, PARTITION, compression=compression)
    message = join(encoded.chunks)
    offset = data.draw(st.integers(0, 2**62))
    stamp(message, base_offset=offset, leader_epoch=0, append_time_ms=1, log_append_time=False)
    header = verify(message, PARTITION)
    assert (header.base_offset, header.record_count) == (offset, batch.num_rows)
    stamps = [row[0] for row in rows[start : start + batch.num_rows]]
    assert (header.base_timestamp, header.max_timestamp) == (min(stamps), max(stamps))
    assert validate_batch(message, UNTYPED_SCHEMA).equals(batch)
    names = data.draw(st.permutations(UNTYPED_SCHEMA.names))[: data.draw(st.integers(1, 4))]
    projected = join(project_batch(message, UNTYPED_SCHEMA, names, PARTITION))
    verify(projected, PARTITION)
    schema = pa.schema([UNTYPED_SCHEMA.field(name) for name in names])
    assert decode_batch(projected, schema).equals(batch.select(names))


@lru_cache
def real_message(compression: Compression) -> bytes:
    rows = 16
    values = {
        "n": [1, None],
        "text": ["grün", "rot"],
        "tags": [["a", "b"], []],
        "pair": [{"a": 1, "b": b"x"}, None],
        "vector": [[1.0, 2.0], None],
        "map": [[("k", 1)], None],
        "flag": [True, False],
    }
    batch = pa.record_batch(
        [
            pa.array(range(rows), pa.timestamp("ms")),
            pa.array([b"k", None] * (rows // 2), pa.binary()),
            pa.array([[{"key": "h", "value": b"v"}], None] * (rows // 2), HEADERS_TYPE),
            *(pa.array(values[f.name] * (rows // 2), f.type) for f in VALUE_SCHEMA),
        ],
        schema=SCHEMA,
    )
    stats = column_statistics(batch)
    return bytes(join(encode_batch(batch, PARTITION, compression=compression, stats=stats).chunks))


interesting = st.sampled_from([0, 1, 8, 16, 64, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 8])
mutations = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 7)),
        st.tuples(st.just("byte"), st.integers(0, 255)),
        st.tuples(st.just("word"), interesting),
        st.tuples(st.just("long"), interesting),
        st.tuples(st.just("negative"), interesting),
    ),
    min_size=1,
    max_size=4,
)


def mutate(message: bytearray, places: list[int], changes: list[tuple[str, int]]) -> None:
    for place, (kind, value) in zip(places, changes, strict=False):
        place %= len(message) - 8
        if kind == "flip":
            message[place] ^= 1 << value
        elif kind == "byte":
            message[place] = value
        elif kind == "word":
            struct.pack_into("<I", message, place & ~3, value & 0xFFFFFFFF)
        else:
            signed = value if kind == "long" else -value
            struct.pack_into("<q", message, place & ~7, signed)


def reseal(message: bytearray) -> None:
    """Makes the CRC hold again, as a hostile producer would."""
    try:
        header = read_header(message)
    except CorruptMessageError:
        return
    crc = crc32c.crc32c(bytes(message[:110]), partition_seed(PARTITION))
    crc = crc32c.crc32c(bytes(message[150 : header.size]), crc)
    message[110:150] = leader_part((*header[:4], crc))


@settings(max_examples=500)
@given(
    st.sampled_from(Compression),
    st.lists(st.integers(0, 1 << 16), min_size=4, max_size=4),
    st.sampled_from([0, 208, 600]),
    mutations,
)
def test_mutated_batches(
    compression: Compression, places: list[int], after: int, changes: list[tuple[str, int]]
) -> None:
    message = bytearray(real_message(compression))
    span = len(message) - after - 8
    mutate(message, [after + place % span for place in places], changes)
    before = pa.total_allocated_bytes()
    try:
        verify(message, PARTITION)
    except CorruptMessageError:
        pass
    else:
        assert message[150:] == real_message(compression)[150:]
    reseal(message)
    try:
        batch = validate_batch(message, SCHEMA)
        batch.validate(full=True)
        assert batch.column("flag").null_count == 0
        again = decode_batch(message, SCHEMA).drop_columns(["vector"])
        assert again.equals(batch.drop_columns(["vector"]))  # which may hold NaN by now
        del batch, again
    except InvalidRecordError:
        pass
    for attempt in (
        lambda: decode_batch(message, SCHEMA, columns=COLUMNS),
        lambda: project_batch(message, SCHEMA, COLUMNS, PARTITION),
        lambda: read_statistics(message),
    ):
        with suppress(CorruptMessageError):
            attempt()
    assert pa.total_allocated_bytes() - before < 64 << 20


@given(st.sampled_from(Compression), st.integers(0, 1 << 16))
def test_truncated_batches(compression: Compression, size: int) -> None:
    message = real_message(compression)
    message = message[: size % len(message)]
    for attempt in (
        lambda: read_header(message),
        lambda: verify(message, PARTITION),
        lambda: decode_batch(message, SCHEMA),
        lambda: project_batch(message, SCHEMA, COLUMNS, PARTITION),
    ):
        try:
            attempt()
        except CorruptMessageError:
            continue
        raise AssertionError("a truncated batch was accepted")


@given(st.binary(max_size=400))
@example(real_message(Compression.NONE)[:400])
def test_arbitrary_bytes(data: bytes) -> None:
    for attempt in (
        lambda: read_header(data),
        lambda: parse_footer(data),
        lambda: SegmentIndex.from_bytes(data),
        lambda: deserialize_schema(data),
    ):
        try:
            attempt()
        except (CorruptMessageError, InvalidRequestError, InvalidConfigError):
            continue
        raise AssertionError("arbitrary bytes were accepted")


@lru_cache
def real_footer() -> tuple[bytes, SegmentIndex]:
    index = SegmentIndex()
    message = bytearray(real_message(Compression.NONE))
    stamp(message, base_offset=3, leader_epoch=0, append_time_ms=1, log_append_time=False)
    index.add(read_header(message), 1_000)
    return build_footer(SCHEMA, index), index


@settings(max_examples=300)
@given(st.lists(st.integers(0, 1 << 16), min_size=4, max_size=4), mutations)
def test_mutated_footers(places: list[int], changes: list[tuple[str, int]]) -> None:
    good, index = real_footer()
    footer = bytearray(good)
    mutate(footer, places, changes)
    try:
        found = parse_footer(footer)
    except CorruptMessageError:
        return
    assert found == (SCHEMA, index)


@example([30_953, 0, 0, 0], [("flip", 0)])  # says that its data would be big-endian
@settings(max_examples=300)
@given(st.lists(st.integers(0, 1 << 16), min_size=4, max_size=4), mutations)
def test_mutated_schemas(places: list[int], changes: list[tuple[str, int]]) -> None:
    raw = bytearray(serialize_schema(VALUE_SCHEMA))
    mutate(raw, places, changes)
    try:
        schema = deserialize_schema(raw)
    except (InvalidRequestError, InvalidConfigError):
        return
    assert deserialize_schema(serialize_schema(schema)) == schema
    str(schema)
