"""Administration of a real cluster in this process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pytest

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.cluster.bootstrap import BootstrapInfo, StaticBootstrap
from raykafka.client.producer import Producer
from raykafka.errors import (
    ClientClosedError,
    ClusterUnreachableError,
    InvalidConfigError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidRequestError,
    InvalidTopicError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    UnsupportedSchemaChangeError,
)
from raykafka.model import Endpoint, TopicPartition
from raykafka.protocol.messages import ConfigChange, ConfigResource
from raykafka.testing.local_cluster import LocalCluster

FLIGHTS = pa.schema([("carrier", pa.string()), ("delay", pa.int32())])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[Admin]:
    with Admin(cluster.bootstrap) as running:
        existing = running.list_topics()
        if existing:
            running.delete_topics(existing)
        yield running


def write(cluster: LocalCluster, topic: str, count: int, partition: int = 0) -> None:
    with Producer(cluster.bootstrap) as producer:
        for i in range(count):
            producer.send(topic, b"%d" % i, partition=partition, timestamp_ms=1000 * (i + 1))


def test_topics_are_created_listed_described_and_deleted(admin: Admin) -> None:
    created = admin.create_topics(
        [NewTopic("b", 3, 1, {"retention.ms": "60000"}), NewTopic("a", schema=FLIGHTS)]
    )
    assert [(topic.name, topic.num_partitions) for topic in created] == [("b", 3), ("a", 1)]
    assert admin.list_topics() == ["a", "b"]
    a, b = admin.describe_topics()
    assert (a.name, a.schemas, a.typed) == ("a", (FLIGHTS,), True)
    assert b.topic_id == created[0].topic_id
    assert [partition.partition for partition in b.partitions] == [0, 1, 2]
    assert not b.typed
    assert [topic.name for topic in admin.describe_topics(["b"])] == ["b"]
    admin.delete_topics(["a"])
    assert admin.list_topics() == ["b"]
    with pytest.raises(UnknownTopicOrPartitionError, match="'a'"):
        admin.describe_topics(["b", "a"])


@pytest.mark.parametrize(
    ("topic", "error"),
    [
        (NewTopic("../etc"), InvalidTopicError),
        (NewTopic("a\0b"), InvalidTopicError),
        (NewTopic("n" * 250), InvalidTopicError),
        (NewTopic(""), InvalidTopicError),
        (NewTopic("t", 0), InvalidPartitionsError),
        (NewTopic("t", replication_factor=3), InvalidReplicationFactorError),
        (NewTopic("t", topic_configs={"retention.sm": "1"}), InvalidConfigError),
        (NewTopic("t", topic_configs={"retention.ms": "soon"}), InvalidConfigError),
        (NewTopic("t", topic_configs={"compression.type": "snappy"}), InvalidConfigError),
        (NewTopic("t", topic_configs={"key.column": "no"}, schema=FLIGHTS), InvalidConfigError),
        (NewTopic("t", schema=pa.schema([("__key", pa.int8())])), InvalidConfigError),
        (NewTopic("taken"), TopicAlreadyExistsError),
    ],
    ids=lambda value: value.name[:10] if isinstance(value, NewTopic) else value.__name__,
)
def test_bad_topics_are_refused(admin: Admin, topic: NewTopic, error: type[Exception]) -> None:
    admin.create_topics([NewTopic("taken")])
    with pytest.raises(error):
        admin.create_topics([topic])
    assert admin.list_topics() == ["taken"]


def test_one_bad_topic_leaves_the_others(admin: Admin) -> None:
    with pytest.raises(InvalidTopicError, match="also failed: 'x', 'y'"):
        admin.create_topics([NewTopic("good"), NewTopic("b/d"), NewTopic("x", 0), NewTopic("y", 0)])
    assert admin.list_topics() == ["good"]


def test_validation_changes_nothing(admin: Admin) -> None:
    admin.create_topics([NewTopic("t")], validate_only=True)
    assert admin.list_topics() == []
    admin.create_topics([NewTopic("t")])
    admin.create_partitions({"t": 4}, validate_only=True)
    assert len(admin.describe_topics(["t"])[0].partitions) == 1
    with pytest.raises(InvalidRequestError, match="list of names"):
        admin.delete_topics("t")


def test_partitions_are_added_and_written(cluster: LocalCluster, admin: Admin) -> None:
    admin.create_topics([NewTopic("t", 2)])
    write(cluster, "t", 1, partition=1)
    admin.create_partitions({"t": 5})
    write(cluster, "t", 1, partition=4)
    assert len(admin.describe_topics(["t"])[0].partitions) == 5
    with pytest.raises(InvalidPartitionsError):
        admin.create_partitions({"t": 3})
    with pytest.raises(UnknownTopicOrPartitionError):
        admin.create_partitions({"no": 3})


def test_settings_are_described_and_altered(admin: Admin) -> None:
    admin.create_topics([NewTopic("t", topic_configs={"retention.ms": "60000"})])
    resource = ConfigResource("topic", "t")

    def value(name: str) -> tuple[str, str]:
        entries = {entry.name: entry for entry in admin.describe_configs([resource])[resource]}
        return entries[name].value, entries[name].source

    assert value("retention.ms") == ("60000", "topic")
    admin.incremental_alter_configs({resource: {"retention.ms": None, "segment.bytes": "1048576"}})
    assert value("retention.ms")[1] == "default"
    assert value("segment.bytes") == ("1048576", "topic")
    admin.incremental_alter_configs({resource: [ConfigChange("segment.bytes", op="delete")]})
    assert value("segment.bytes")[1] == "default"
    with pytest.raises(InvalidConfigError, match="retention"):
        admin.incremental_alter_configs({resource: {"retention.mss": "1"}})
    with pytest.raises(UnknownTopicOrPartitionError):
        admin.describe_configs([ConfigResource("topic", "no")])


def test_offsets_are_listed(cluster: LocalCluster, admin: Admin) -> None:
    admin.create_topics([NewTopic("t", 2)])
    write(cluster, "t", 10)

    def offset(at: object) -> int:
        return admin.list_offsets({("t", 0): at})[TopicPartition("t", 0)].offset  # type: ignore[dict-item]

    assert (offset("earliest"), offset("latest"), offset("max_timestamp")) == (0, 10, 9)
    assert offset(2500) == 2
    assert offset(datetime.fromtimestamp(3, timezone.utc)) == 2
    assert offset(999_999) == -1
    both = admin.list_offsets({("t", 0): "latest", TopicPartition("t", 1): "latest"})
    assert [found.offset for found in both.values()] == [10, 0]
    with pytest.raises(InvalidRequestError, match="'newest'"):
        offset("newest")
    with pytest.raises(UnknownTopicOrPartitionError, match="0 to 1, not 7"):
        admin.list_offsets({("t", 7): "latest"})


def test_records_are_deleted(cluster: LocalCluster, admin: Admin) -> None:
    admin.create_topics([NewTopic("t", 2)])
    write(cluster, "t", 10)
    write(cluster, "t", 5, partition=1)
    left = admin.delete_records({("t", 0): 4, ("t", 1): -1})
    assert left == {TopicPartition("t", 0): 4, TopicPartition("t", 1): 5}
    assert admin.list_offsets({("t", 0): "earliest"})["t", 0].offset == 4  # type: ignore[index]
    with pytest.raises(OffsetOutOfRangeError):
        admin.delete_records({("t", 0): 11})


def test_columns_are_added(cluster: LocalCluster, admin: Admin) -> None:
    admin.create_topics([NewTopic("f", schema=FLIGHTS), NewTopic("u")])
    with Producer(cluster.bootstrap) as producer:
        producer.send("f", {"carrier": "AA", "delay": 1}).get(10)
        assert admin.add_columns("f", pa.schema([("origin", pa.string())])) == 1
        # Knows only the old schema, and is told by the leader.
        producer.send("f", {"carrier": "BB", "delay": 2}).get(10)
        producer.send("f", {"carrier": "CC", "origin": "JFK"}).get(10)
        producer.send_table("f", {"carrier": ["DD"], "origin": ["LGA"]}).get(10)
    assert admin.describe_topics(["f"])[0].value_schema.names == ["carrier", "delay", "origin"]
    with pytest.raises(UnsupportedSchemaChangeError, match="origin"):
        admin.add_columns("f", pa.schema([("origin", pa.string())]))
    with pytest.raises(UnsupportedSchemaChangeError):
        admin.add_columns("f", pa.schema([pa.field("n", pa.int8(), nullable=False)]))


def test_the_cluster_and_its_disks_are_described(cluster: LocalCluster, admin: Admin) -> None:
    admin.create_topics([NewTopic("t", 4)])
    for partition in range(4):
        write(cluster, "t", 3, partition)
    found = admin.describe_cluster()
    assert found.cluster_name == "local"
    assert found.cluster_id
    assert {actor.role for actor in found.actors} >= {"partition", "broker"}
    directories = admin.describe_log_dirs()
    partitions = [p for directory in directories for p in directory.partitions if p.topic == "t"]
    assert sorted(p.partition for p in partitions) == [0, 1, 2, 3]
    assert {p.log_end_offset for p in partitions} == {3}
    assert all(p.size_bytes > 0 and directories[0].total_bytes > 0 for p in partitions)


def test_killed_actors_are_asked_again(cluster: LocalCluster, admin: Admin) -> None:
    admin.create_topics([NewTopic("t", 2)])
    for partition in range(2):
        write(cluster, "t", 3, partition)
    for slot in cluster.partition_actor_slots():
        cluster.kill_partition_actor(slot)
    offsets = admin.list_offsets({("t", 0): "latest", ("t", 1): "latest"})
    assert [found.offset for found in offsets.values()] == [3, 3]
    cluster.kill_partition_actor(cluster.partition_actor_slots()[0])
    assert sum(len(directory.partitions) for directory in admin.describe_log_dirs()) >= 1
    cluster.kill_controller()
    assert admin.list_topics() == ["t"]


def test_an_unreachable_cluster_and_a_closed_client(cluster: LocalCluster) -> None:
    nobody = StaticBootstrap(BootstrapInfo("", "x", Endpoint("127.0.0.1", 1), b"s" * 32))
    with (
        Admin(nobody, request_timeout_ms=20) as admin,
        pytest.raises(ClusterUnreachableError, match="40 ms"),
    ):
        admin.list_topics()
    admin = Admin(cluster.bootstrap)
    admin.close()
    admin.close()
    with pytest.raises(ClientClosedError):
        admin.list_topics()
    with pytest.raises(ClientClosedError):
        admin.list_offsets({("t", 0): "latest"})


def test_directory_is_where_the_test_said(cluster: LocalCluster, admin: Admin) -> None:
    path = admin.describe_log_dirs()[0].path
    assert Path(path).is_relative_to(cluster.data_dir)
