from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.client.partitioner import (
    STICKY_BYTES,
    StickyPartition,
    murmur2,
    murmur2_array,
    partition_for_key,
    partitions_for_keys,
    render_keys,
)
from raykafka.errors import InvalidRecordError

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), KAFKA_VECTORS.items())
def test_murmur2_equals_kafkas_vectors(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF
    assert partition_for_key(key, 7) == (signed & 0x7FFFFFFF) % 7


def test_the_vectorised_hash_equals_kafkas_vectors() -> None:
    hashes = murmur2_array(pa.array(list(KAFKA_VECTORS), pa.binary()))
    assert hashes.astype(np.int32).tolist() == list(KAFKA_VECTORS.values())


@given(st.lists(st.one_of(st.none(), st.binary(max_size=70)), max_size=80), st.integers(0, 5))
def test_vectorised_and_plain_hash_agree(keys: list[bytes | None], skipped: int) -> None:
    array = pa.array(keys, pa.binary())[skipped:]
    assert murmur2_array(array).tolist() == [murmur2(key or b"") for key in keys[skipped:]]


@settings(max_examples=20)
@given(st.lists(st.binary(min_size=500, max_size=700), max_size=5), st.integers(0, 60))
def test_a_few_long_keys_among_short_ones(long: list[bytes], short: int) -> None:
    keys = [b"x" * (i % 9) for i in range(short)] + long
    assert murmur2_array(pa.array(keys, pa.binary())).tolist() == [murmur2(key) for key in keys]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "bc", None, "ü"]),
        pa.array(["a", "bc", None, "ü"], pa.large_string()),
        pa.array([b"a", b"bc", None, "ü".encode()], pa.large_binary()),
        pa.array(["a", "bc", None, "ü"]).dictionary_encode(),
        pa.chunked_array([["a", "bc"], [None, "ü"]]),
    ],
    ids=lambda column: str(column.type),
)
def test_every_kind_of_text_column_hashes_like_its_bytes(column: pa.Array) -> None:
    expected = [partition_for_key(b"a", 5), partition_for_key(b"bc", 5), -1]
    assert partitions_for_keys(column, 5).tolist() == [
        *expected,
        partition_for_key("ü".encode(), 5),
    ]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint32()], ids=str)
def test_integers_hash_as_decimal_text(kind: pa.DataType) -> None:
    column = pa.array([7, 120, None], kind)
    expected = [partition_for_key(b"7", 9), partition_for_key(b"120", 9), -1]
    assert partitions_for_keys(column, 9).tolist() == expected


def test_fixed_size_and_empty_columns() -> None:
    assert render_keys(pa.array([b"ab", None], pa.binary(2))).to_pylist() == [b"ab", None]
    assert partitions_for_keys(pa.array([], pa.binary()), 3).tolist() == []
    assert partitions_for_keys(pa.chunked_array([], pa.string()), 3).tolist() == []
    assert partitions_for_keys(pa.nulls(2), 3).tolist() == [-1, -1]


def test_a_key_column_of_another_type_is_refused_by_name() -> None:
    with pytest.raises(InvalidRecordError, match="double"):
        partitions_for_keys(pa.array([1.5]), 3)


def test_keyless_records_stick_until_enough_bytes_went_there() -> None:
    sticky = StickyPartition(seed=1)
    first = sticky.choose([0, 1, 2], 100)
    assert all(sticky.choose([0, 1, 2], 100) == first for _ in range(20))
    sticky.choose([0, 1, 2], STICKY_BYTES)
    assert sticky.choose([0, 1, 2], 100) != first


def test_keyless_records_avoid_partitions_without_a_leader() -> None:
    sticky = StickyPartition(seed=1)
    first = sticky.choose([0, 1, 2], 100)
    left = [partition for partition in (0, 1, 2) if partition != first]
    assert sticky.choose(left, 100) in left
    assert sticky.choose([first], 100) == first


def test_large_chunks_reach_every_partition() -> None:
    sticky = StickyPartition(seed=1)
    assert {sticky.choose(range(8), STICKY_BYTES) for _ in range(200)} == set(range(8))
