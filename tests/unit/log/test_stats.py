from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from raykafka.errors import CorruptMessageError
from raykafka.log.batch import encode_batch, verify
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.log.stats import column_statistics, read_statistics
from raykafka.model import PartitionId


def table(**columns: pa.Array) -> pa.RecordBatch:
    return pa.record_batch(columns)


def test_bounds_and_nulls_of_each_kind_of_column() -> None:
    rows = 20
    batch = table(
        n=pa.array([None, *range(rows - 1)]),
        f=pa.array([0.5] * (rows - 2) + [float("nan"), -1.0]),
        s=pa.array([f"s{n:02}" for n in range(rows)]),
        flag=pa.array([True, False] * (rows // 2)),
        day=pa.array(range(100, 100 + rows), pa.date32()),
        at=pa.array(range(rows), pa.timestamp("us", "UTC")),
        none=pa.nulls(rows, pa.int8()),
        raw=pa.array([b"x"] * rows),
        many=pa.array([[1]] * rows),
        endless=pa.array([float("inf")] * rows),
        long=pa.array(["x" * 65] * rows),
        __key=pa.array([1] * rows),
    )
    assert json.loads(column_statistics(batch)) == {
        "n": [0, 18, 1],
        "f": [-1.0, 0.5, 0],
        "s": ["s00", "s19", 0],
        "flag": [False, True, 0],
        "day": [100, 119, 0],
        "at": [0, 19, 0],
        "none": [None, None, rows],
    }


def test_small_and_untyped_batches_carry_none(untyped: Any) -> None:
    assert column_statistics(table(n=pa.array(range(15)))) == b""
    assert column_statistics(table(n=pa.array(range(16)))) == b'{"n":[0,15,0]}'
    assert column_statistics(untyped([b"x"] * 100)) == b""


def test_statistics_of_too_many_columns_are_left_out() -> None:
    columns = {f"column_with_a_name_{n}" * 5: pa.array(range(16)) for n in range(1000)}
    assert column_statistics(pa.record_batch(columns)) == b""


def test_statistics_travel_with_the_batch(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    for size in range(9):
        stats = json.dumps({"größe" + "x" * size: [1, "ü", 0]}).encode("ascii")
        message = joined(encode_batch(untyped([b"x"]), partition, stats=stats).chunks)
        verify(message, partition)
        assert read_statistics(message) == {"größe" + "x" * size: (1, "ü", 0)}
    assert read_statistics(joined(encode_batch(untyped([b"x"]), partition).chunks)) == {}


@pytest.mark.parametrize(
    "stats",
    [
        b"{",
        b"[1]",
        b'{"a":[1,2]}',
        b'{"a":[1,2,"x"]}',
        b'{"a":[1,2,-1]}',
        b'{"a":[1,2,true]}',
        b'{"a":[[],2,0]}',
        b"\xff\xfe\xfd",
        b"[" * 50_000,
        b'{"a":' + b"1" * 5_000 + b"}",
    ],
)
def test_statistics_that_lie_are_refused(
    untyped: Any, partition: PartitionId, joined: Any, stats: bytes
) -> None:
    message = joined(encode_batch(untyped([b"x"]), partition, stats=stats).chunks)
    with pytest.raises(CorruptMessageError, match="statistics"):
        read_statistics(message)


def test_the_magic_of_a_batch_may_stand_in_its_statistics(
    untyped: Any, partition: PartitionId, joined: Any
) -> None:
    stats = b'{"raykafka1:":[1,2,0]}'
    message = joined(encode_batch(untyped([b"raykafka1:"]), partition, stats=stats).chunks)
    assert verify(message, partition).record_count == 1
    assert read_statistics(message)["raykafka1:"].maximum == 2
    assert UNTYPED_SCHEMA.names[-1] == "value"
