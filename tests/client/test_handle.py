"""Topic handles: append, read by offsets and moments, tail; all on a local cluster."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.handle import TopicHandle
from raykafka.client.handles.shared_clients import shared_clients
from raykafka.errors import (
    ClusterUnreachableError,
    IllegalStateError,
    InvalidConfigError,
    InvalidRecordError,
    InvalidRequestError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
    SerializationError,
    UnknownTopicOrPartitionError,
)
from raykafka.testing.local_cluster import LocalCluster
from tests.kits.topics import add_columns, create_topic

FLIGHT = pa.schema([("id", pa.int64()), ("carrier", pa.string())])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running
        shared_clients.close()


def make(cluster: LocalCluster, partitions: int = 1, **topic: Any) -> TopicHandle:
    name = create_topic(cluster.bootstrap, partitions=partitions, **topic)
    return TopicHandle(cluster.bootstrap, name)


def flights(*ids: int) -> pa.Table:
    return pa.table({"id": list(ids), "carrier": [f"C{i}" for i in ids]}, schema=FLIGHT)


# --- append -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        flights(1, 2),
        flights(1, 2).to_batches()[0],
        pd.DataFrame({"id": [1, 2], "carrier": ["C1", "C2"]}),
        pl.DataFrame({"id": [1, 2], "carrier": ["C1", "C2"]}),
        {"id": [1, 2], "carrier": ["C1", "C2"]},
        [{"id": 1, "carrier": "C1"}, {"id": 2, "carrier": "C2"}],
    ],
    ids=["table", "batch", "pandas", "polars", "dict", "rows"],
)
def test_anything_like_a_table_is_appended(cluster: LocalCluster, data: Any) -> None:
    topic = make(cluster, schema=FLIGHT)
    assert topic.append(data) == {0: (range(2),)}
    assert topic.append(data) == {0: (range(2, 4),)}
    assert topic.read().to_table().equals(pa.concat_tables([flights(1, 2)] * 2))


def test_append_by_key(cluster: LocalCluster) -> None:
    topic = make(cluster, partitions=4, schema=FLIGHT)
    offsets = topic.append(flights(*range(100)), key="id")
    assert set(offsets) == {0, 1, 2, 3}
    assert sum(len(r) for ranges in offsets.values() for r in ranges) == 100
    again = topic.append(flights(*range(100)), key="id")
    for partition, ranges in again.items():
        assert [r.start for r in ranges] == [r.stop for r in offsets[partition]]
    table = topic.read().to_table(metadata=["__partition", "__offset"])
    assert table.num_rows == topic.num_rows() == 200
    places = list(zip(*table.select(["__partition", "__offset"]).to_pydict().values(), strict=True))
    assert places == sorted(places)


def test_append_to_one_partition_at_a_time(cluster: LocalCluster) -> None:
    topic = make(cluster, partitions=2)
    at = datetime(2020, 1, 1, tzinfo=timezone.utc)
    ms = int(at.timestamp() * 1000)
    assert topic.append({"value": [b"a"]}, partition=1, timestamps=ms) == {1: (range(1),)}
    table = topic.read(start=at).to_table(metadata=["__timestamp"])
    assert table.column("__timestamp").cast(pa.int64()).to_pylist() == [ms]


def test_appending_nothing_is_nothing(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    assert topic.append(FLIGHT.empty_table()) == {}
    assert topic.num_rows() == 0


def test_tables_that_do_not_fit_change_nothing(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    with pytest.raises(InvalidRecordError, match=r"'id'.*string.*int64"):
        topic.append({"id": ["x"], "carrier": ["y"]})
    with pytest.raises(InvalidRecordError, match="nosuch"):
        topic.append(flights(1), key="nosuch")
    with pytest.raises(SerializationError):
        topic.append(42)
    with pytest.raises(UnknownTopicOrPartitionError):
        topic.append(flights(1), partition=7)
    assert topic.num_rows() == 0


def test_what_was_read_can_be_appended(cluster: LocalCluster) -> None:
    topic, copy = make(cluster, schema=FLIGHT), make(cluster, schema=FLIGHT)
    topic.append(flights(1, 2), timestamps=77)
    copy.append(topic.read().to_table(metadata=True))
    both = [t.read().to_table(metadata=["__timestamp", "__key"]) for t in (topic, copy)]
    assert both[0].equals(both[1])


# --- read -------------------------------------------------------------------------------------


def test_a_read_is_lazy_and_keeps_its_offsets(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    topic.append(flights(1))
    read = topic.read()
    topic.append(flights(2))
    assert read.to_table().num_rows == 2
    topic.append(flights(3))
    assert read.to_table().num_rows == 2
    assert read.offsets() == {0: (0, 2)}
    assert [batch.num_rows for batch in topic.read()] == [1, 1, 1]


def test_every_way_to_read_gives_the_same(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    topic.append(flights(1, 2))
    topic.append(flights(3))
    read = topic.read()
    expected = flights(1, 2, 3)
    assert read.schema == FLIGHT
    assert read.to_table().equals(expected)
    assert pa.Table.from_batches(read.to_batches()).equals(expected)
    assert read.to_pandas()["id"].tolist() == [1, 2, 3]
    assert read.to_polars()["carrier"].to_list() == ["C1", "C2", "C3"]
    assert [record.value for record in read.records()] == expected.to_pylist()
    assert [record.offset for record in read.records()] == [0, 1, 2]


def test_metadata_columns(cluster: LocalCluster) -> None:
    topic = make(cluster)
    topic.append({"value": [b"a"], "k": [b"x"]}, key="k")
    names = ["__partition", "__offset", "__timestamp", "__key", "__headers", "value"]
    assert topic.read().to_table(metadata=True).column_names == names
    assert topic.read().to_pandas(metadata=["__key"])["__key"].tolist() == [b"x"]
    (batch,) = topic.read().to_batches(metadata=["__offset"])
    assert batch.schema.names == ["__offset", "value"]
    with pytest.raises(InvalidConfigError, match="__nonsense"):
        topic.read().to_table(metadata=["__nonsense"])


def test_ranges_by_offset(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    topic.append(flights(0, 1, 2, 3))
    topic.append(flights(4, 5, 6, 7))

    def ids(*args: Any, **kwargs: Any) -> list[int]:
        return topic.read(*args, **kwargs).to_table()["id"].to_pylist()

    assert ids(2, 6) == [2, 3, 4, 5]
    assert ids(start=5) == [5, 6, 7]
    assert ids(end=1) == [0]
    assert ids(start={0: 6}) == [6, 7]
    assert ids(end=99) == list(range(8))
    assert ids(start="latest") == []
    assert ids(limit=5) == [0, 1, 2, 3, 4]
    assert [r.offset for r in topic.read(2, 6).records()] == [2, 3, 4, 5]
    assert [r.offset for r in topic.read(limit=3).records()] == [0, 1, 2]
    with pytest.raises(OffsetOutOfRangeError, match="0 to 8"):
        ids(start=9)


def test_batches_behind_the_end_of_a_range_are_left_out(cluster: LocalCluster) -> None:
    topic = make(cluster, partitions=2, schema=FLIGHT)
    for number in range(5):
        topic.append(flights(number), partition=0)
        topic.append(flights(number), partition=1)
    read = topic.read(start=1, end=2)
    assert [batch.num_rows for batch in read] == [1, 1]
    assert read.to_table()["id"].to_pylist() == [1, 1]
    assert [record.value["id"] for record in read.records()] == [1, 1]


def test_a_range_of_a_topic_that_is_being_written(cluster: LocalCluster) -> None:
    topic = make(cluster, partitions=2, schema=FLIGHT)
    for partition in (0, 1):
        topic.append(flights(1, 2), partition=partition)
    batches = topic.read().to_batches(metadata=["__partition", "__offset"])
    seen = [next(batches)]
    for number in range(20):
        topic.append(flights(number), partition=number % 2)
    seen += batches
    places = pa.Table.from_batches(seen).select(["__partition", "__offset"]).to_pydict()
    assert sorted(zip(*places.values(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_leader_that_stays_away_is_reported(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as mortal:
        topic = make(mortal, schema=FLIGHT)
        topic.append(flights(1))
        read = topic.read(timeout_ms=200)
        assert read.offsets() == {0: (0, 1)}
        mortal.crash()
        with pytest.raises((RequestTimedOutError, ClusterUnreachableError)):
            read.to_table()
        shared_clients.forget(mortal.bootstrap)


def test_ranges_by_moment(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    noon = datetime(2013, 1, 1, 12, tzinfo=timezone.utc)
    for hour in range(4):
        ms = int(noon.timestamp() * 1000) + hour * 3_600_000
        topic.append(flights(hour), timestamps=ms)
    one, three = noon.replace(hour=13), noon.replace(hour=15)
    assert topic.read(start=one, end=three).to_table()["id"].to_pylist() == [1, 2]
    assert topic.read(start=noon.replace(hour=20)).to_table().num_rows == 0
    with pytest.raises(InvalidRequestError, match="time zone"):
        topic.read(start=datetime(2013, 1, 1))  # noqa: DTZ001


def test_partitions_and_columns(cluster: LocalCluster) -> None:
    topic = make(cluster, partitions=3, schema=FLIGHT)
    for partition in range(3):
        topic.append(flights(partition), partition=partition)
    assert topic.partitions() == [0, 1, 2]
    assert topic.read(partitions=[2, 0]).to_table()["id"].to_pylist() == [0, 2]
    assert topic.read(columns=["carrier"]).to_table().column_names == ["carrier"]
    assert topic.read({1: "latest"}).to_table()["id"].to_pylist() == [0, 2]
    with pytest.raises(UnknownTopicOrPartitionError, match="not 3"):
        topic.read(partitions=[3])
    with pytest.raises(InvalidConfigError, match="'carier'"):
        topic.read(columns=["carier"])
    with pytest.raises(InvalidConfigError, match="list of names"):
        topic.read(columns="carrier")
    with pytest.raises(InvalidRequestError, match="limit"):
        topic.read(limit=0)


def test_an_empty_read_has_columns(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    table = topic.read(columns=["carrier"]).to_table(metadata=["__offset"])
    assert table.schema == pa.schema([("__offset", pa.int64()), ("carrier", pa.string())])
    assert table.num_rows == 0
    assert list(topic.read()) == []
    assert topic.schema() == FLIGHT


def test_columns_added_between_batches(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    topic.append(flights(1))
    add_columns(cluster.bootstrap, topic.topic, pa.schema([("gate", pa.string())]))
    topic.append({"id": [2], "gate": ["C9"]})
    assert topic.read().to_table().to_pylist() == [
        {"id": 1, "carrier": "C1", "gate": None},
        {"id": 2, "carrier": None, "gate": "C9"},
    ]
    assert topic.schema().names == ["id", "carrier", "gate"]


def test_unknown_topics(cluster: LocalCluster) -> None:
    topic = TopicHandle(cluster.bootstrap, "nosuch")
    for call in (topic.read, topic.tail, topic.num_rows, topic.schema, topic.partitions):
        with pytest.raises(UnknownTopicOrPartitionError, match="nosuch"):
            call()
    with pytest.raises(UnknownTopicOrPartitionError, match="nosuch"):
        topic.append({"value": [b"a"]})


# --- tail -------------------------------------------------------------------------------------


def test_the_last_records(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    topic.append(flights(*range(10)))
    assert topic.tail(3, follow=False).to_table()["id"].to_pylist() == [7, 8, 9]
    assert topic.tail(99, follow=False).to_table().num_rows == 10
    assert topic.tail(follow=False).to_table().num_rows == 0
    with pytest.raises(InvalidRequestError, match="not both"):
        topic.tail(3, start=0)
    with pytest.raises(InvalidRequestError, match="n is at least 1"):
        topic.tail(0)


def test_following(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    topic.append(flights(0, 1, 2))
    following = iter(topic.tail(2).records())
    assert [next(following).value["id"] for _ in range(2)] == [1, 2]
    appended = threading.Thread(target=lambda: topic.append(flights(3, 4)))
    appended.start()
    assert [next(following).offset for _ in range(2)] == [3, 4]
    appended.join()
    batches = topic.tail(start="earliest", columns=["id"])
    seen: list[int] = []
    for batch in batches:
        seen += batch["id"].to_pylist()
        if len(seen) == 5:
            break
    assert seen == [0, 1, 2, 3, 4]
    assert topic.tail(start=1, limit=2).to_table()["id"].to_pylist() == [1, 2]
    with pytest.raises(IllegalStateError, match="never ends"):
        batches.to_table()


# --- elsewhere --------------------------------------------------------------------------------


def _work(packed: bytes, answer: Any) -> None:
    topic = pickle.loads(packed)
    ids = topic.read(columns=["id"]).to_table()["id"].to_pylist()
    topic.append({"id": [sum(ids)], "carrier": ["sum"]})
    answer.put(ids)


def test_a_handle_works_in_another_process(cluster: LocalCluster) -> None:
    topic = make(cluster, schema=FLIGHT)
    topic.append(flights(1, 2, 3))
    packed = pickle.dumps(topic)
    assert len(packed) < 1000
    assert pickle.loads(packed) == topic
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_work, args=(packed, answer))
    process.start()
    assert answer.get(timeout=60) == [1, 2, 3]
    process.join(60)
    assert process.exitcode == 0
    assert topic.tail(1, follow=False).to_table()["id"].to_pylist() == [6]


def test_handles_share_a_producer(cluster: LocalCluster) -> None:
    one, other = make(cluster), make(cluster)
    one.append({"value": [b"a"]})
    other.append({"value": [b"b"]})
    first = shared_clients.producer(cluster.bootstrap)
    bootstrap: Bootstrap = pickle.loads(pickle.dumps(cluster.bootstrap))
    assert shared_clients.producer(bootstrap) is first
    shared_clients.forget(bootstrap)
    assert shared_clients.producer(bootstrap) is not first
    assert one.append({"value": [b"c"]}) == {0: (range(1, 2),)}


def test_another_cluster_at_the_same_address(tmp_path: Path) -> None:
    place = tmp_path / "cluster"
    with LocalCluster(place) as first:
        topic = make(first)
        topic.append({"value": [b"a"]})
    place.rename(tmp_path / "old")
    with LocalCluster(place) as second:
        create_topic(second.bootstrap, name=topic.topic)
        assert topic.append({"value": [b"b"]}) == {0: (range(1),)}
        assert topic.read().to_table()["value"].to_pylist() == [b"b"]
        shared_clients.forget(second.bootstrap)


def test_many_threads_append(cluster: LocalCluster) -> None:
    topic = make(cluster, partitions=2, schema=FLIGHT)
    offsets: list[dict[int, tuple[range, ...]]] = []

    def work(number: int) -> None:
        offsets.extend(topic.append(flights(number, number)) for _ in range(10))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = [(p, o) for each in offsets for p, rs in each.items() for r in rs for o in r]
    assert len(places) == len(set(places)) == topic.num_rows() == 80
