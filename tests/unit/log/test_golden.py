"""The committed files are what older versions wrote: they must be read for ever.

``python tests/unit/log/test_golden.py`` writes missing ones; an existing file is never changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raykafka.log.batch import BatchHeader, encode_batch, stamp, validate_batch, verify
from raykafka.log.schema import HEADERS_TYPE, UNTYPED_VALUE_SCHEMA, storage_schema
from raykafka.log.segment import SegmentIndex, build_footer, build_preamble, parse_footer
from raykafka.log.stats import column_statistics, read_statistics
from raykafka.model import Compression, PartitionId, TopicId

GOLDEN = Path(__file__).parent / "golden"
PARTITION = PartitionId(TopicId("00112233445566778899aabbccddeeff"), 7)
TYPED_SCHEMA = pa.schema(
    [
        pa.field("carrier", pa.string()),
        pa.field("delay", pa.int32(), nullable=False),
        pa.field("legs", pa.list_(pa.string())),
    ]
)


def reserved(rows: int) -> list[pa.Array]:
    return [
        pa.array(range(1_356_998_400_000, 1_356_998_400_000 + rows), pa.timestamp("ms")),
        pa.array([b"key", *[None] * (rows - 1)], pa.binary()),
        pa.array([[{"key": "h", "value": b"\x00"}], *[None] * (rows - 1)], HEADERS_TYPE),
    ]


def one_record() -> pa.RecordBatch:
    columns = [*reserved(1), pa.array([b"value"], pa.binary())]
    return pa.record_batch(columns, schema=storage_schema(UNTYPED_VALUE_SCHEMA))


def typed_records() -> pa.RecordBatch:
    rows = 16
    columns = [
        *reserved(rows),
        pa.array(["UA", None] * 8),
        pa.array(range(rows), pa.int32()),
        pa.array([["EWR", "IAH"], None] * 8),
    ]
    return pa.record_batch(columns, schema=storage_schema(TYPED_SCHEMA))


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "one_record": (one_record, {"producer_id": 4000, "producer_epoch": 1, "base_sequence": 17}),
    "typed": (typed_records, {"schema_id": 2, "transactional": True, "stats": True}),
    "typed_lz4": (typed_records, {"schema_id": 2, "compression": Compression.LZ4}),
    "typed_zstd": (typed_records, {"schema_id": 2, "compression": Compression.ZSTD}),
}


def build(name: str) -> bytes:
    make, options = CASES[name]
    batch = make()
    options = dict(options)
    if options.pop("stats", False):
        options["stats"] = column_statistics(batch)
    chunks = encode_batch(batch, PARTITION, **options).chunks
    message = bytearray(b"".join(memoryview(chunk) for chunk in chunks))
    stamp(message, base_offset=42, leader_epoch=5, append_time_ms=1_400, log_append_time=False)
    return bytes(message)


def build_segment() -> bytes:
    schema = storage_schema(TYPED_SCHEMA)
    data = build_preamble(schema)
    index = SegmentIndex()
    message = build("typed")
    index.add(verify(message, PARTITION), len(data))
    return data + message + build_footer(schema, index)


@pytest.mark.parametrize("name", CASES)
def test_golden_batches_are_read(name: str) -> None:
    data = (GOLDEN / f"{name}.batch").read_bytes()
    expected = CASES[name][0]()
    header = verify(data, PARTITION)
    noted = json.loads((GOLDEN / f"{name}.json").read_text())
    assert header._asdict() == noted["header"]
    assert {k: list(v) for k, v in read_statistics(data).items()} == noted["statistics"]
    assert validate_batch(data, expected.schema).equals(expected)


@pytest.mark.parametrize("name", ["one_record", "typed"])
def test_the_same_records_still_give_the_same_bytes(name: str) -> None:
    # compressed ones depend on the compression library's version as well
    assert build(name) == (GOLDEN / f"{name}.batch").read_bytes()


def test_the_golden_segment_is_read() -> None:
    data = (GOLDEN / "segment.arrow").read_bytes()
    schema, index = parse_footer(data)
    assert schema == storage_schema(TYPED_SCHEMA)
    entry = index[0]
    message = data[entry.position : entry.position + entry.size]
    assert message == (GOLDEN / "typed.batch").read_bytes()
    assert (entry.base_offset, entry.next_offset, entry.leader_epoch) == (42, 58, 5)
    assert pa.ipc.open_file(data).read_all().to_batches()[0].equals(typed_records())


def write_missing() -> None:
    for name in CASES:
        path = GOLDEN / f"{name}.batch"
        if path.exists():
            continue
        path.write_bytes(build(name))
        header: BatchHeader = verify(path.read_bytes(), PARTITION)
        statistics = read_statistics(path.read_bytes())
        noted = {"header": header._asdict(), "statistics": statistics}
        path.with_suffix(".json").write_text(json.dumps(noted, indent=1) + "\n")
    if not (GOLDEN / "segment.arrow").exists():
        (GOLDEN / "segment.arrow").write_bytes(build_segment())


if __name__ == "__main__":
    write_missing()
