from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raykafka.log.batch import decode_batch, encode_batch, validate_batch, verify
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.log.small_batch import MAX_ROWS, SmallRecords, encode_records
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
