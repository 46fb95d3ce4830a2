from __future__ import annotations

import pickle

import pytest

from raykafka.model import (
    Acks,
    Compression,
    Endpoint,
    FsyncPolicy,
    IsolationLevel,
    OffsetAndTimestamp,
    PartitionId,
    RecordMetadata,
    TimestampType,
    TopicId,
    TopicPartition,
)


def test_numbers_on_the_wire_are_kafkas() -> None:
    assert [int(acks) for acks in (Acks.ALL, Acks.NONE, Acks.LEADER)] == [-1, 0, 1]
    assert [int(kind) for kind in TimestampType] == [0, 1]
    assert [int(level) for level in IsolationLevel] == [0, 1]


def test_words_are_those_of_the_configuration() -> None:
    assert [policy.value for policy in FsyncPolicy] == ["batch", "interval", "none"]
    assert [codec.value for codec in Compression] == ["none", "lz4", "zstd"]


def test_values_name_themselves() -> None:
    assert str(TopicPartition("clicks", 3)) == "clicks-3"
    assert str(Endpoint("127.0.0.1", 9092)) == "127.0.0.1:9092"


@pytest.mark.parametrize(
    "value",
    [
        TopicPartition("clicks", 3),
        PartitionId(TopicId("a" * 32), 0),
        RecordMetadata("clicks", 3, 12, 1_600_000_000_000),
        OffsetAndTimestamp(12, 1_600_000_000_000, 4),
        Endpoint("127.0.0.1", 9092),
    ],
)
def test_values_travel_compare_and_hash(value: object) -> None:
    twin = pickle.loads(pickle.dumps(value))
    assert twin == value
    assert hash(twin) == hash(value)
    assert type(twin) is type(value)


def test_an_endpoint_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Endpoint("a", 1).port = 2  # type: ignore[misc]
