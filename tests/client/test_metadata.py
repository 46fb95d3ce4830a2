"""The metadata cache: what it asks, what it keeps, and how it finds a controller that moved."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from raykafka.client.cluster.bootstrap import BootstrapInfo, StaticBootstrap
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.errors import (
    ClientClosedError,
    ClusterUnreachableError,
    InconsistentClusterIdError,
    LeaderNotAvailableError,
    UnknownTopicOrPartitionError,
)
from raykafka.log.schema import UNTYPED_SCHEMA, UNTYPED_VALUE_SCHEMA
from raykafka.model import Endpoint
from tests.kits.scripted_cluster import SECRET, ScriptedCluster

SCHEMA = pa.schema([("a", pa.int64())])


@pytest.fixture
def cluster() -> Iterator[ScriptedCluster]:
    with ScriptedCluster(leaders=2) as running:
        yield running


@pytest.fixture
def metadata(cluster: ScriptedCluster) -> Iterator[ClusterMetadata]:
    found = ClusterMetadata(cluster.bootstrap, retry_backoff_ms=1)
    yield found
    found.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Until a condition of another thread holds, which nothing announces."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def newer(cluster: ScriptedCluster, by: int = 1) -> None:
    def change() -> None:
        cluster.metadata_offset += by

    cluster.call(change)


def test_a_topic_is_asked_for_once(cluster: ScriptedCluster, metadata: ClusterMetadata) -> None:
    cluster.create("t", partitions=3)
    found = metadata.topic("t")
    assert metadata.topic("t") is found
    assert metadata.cached("t") is found
    assert cluster.metadata_requests == 1
    assert [place.partition for place in found.partitions] == [0, 1, 2]
    assert [place.endpoint for place in found.partitions] == [
        cluster.leaders[n % 2].endpoint for n in range(3)
    ]
    assert (found.typed, found.schema_id, found.value_schema) == (False, 0, UNTYPED_VALUE_SCHEMA)
    assert found.storage_schemas == (UNTYPED_SCHEMA,)
    assert metadata.cluster_id == "c1"


def test_schemas_keep_their_identity_over_refreshes(
    cluster: ScriptedCluster, metadata: ClusterMetadata
) -> None:
    topic = cluster.create("t", schema=SCHEMA)
    first = metadata.topic("t")
    metadata.refresh(["t"])
    again = metadata.topic("t")
    assert again is not first
    assert again.storage_schemas[0] is first.storage_schemas[0]
    assert (again.typed, again.schema_id) == (True, 0)
    topic.schemas.append(SCHEMA.append(pa.field("b", pa.string())))
    newer(cluster)
    metadata.refresh()
    assert metadata.topic("t").schema_id == 1
    assert metadata.topic("t").value_schema.names == ["a", "b"]


def test_an_unknown_topic_is_asked_for_twice(
    cluster: ScriptedCluster, metadata: ClusterMetadata
) -> None:
    with pytest.raises(UnknownTopicOrPartitionError, match="'t' does not exist"):
        metadata.topic("t")
    assert cluster.metadata_requests == 2
    cluster.create("t")
    assert metadata.topic("t").name == "t"


def test_a_partition_out_of_range_is_asked_for_again(
    cluster: ScriptedCluster, metadata: ClusterMetadata
) -> None:
    cluster.create("t", partitions=2)
    assert metadata.partition("t", 1).partition == 1
    before = cluster.metadata_requests
    with pytest.raises(UnknownTopicOrPartitionError, match="0 to 1, not 2"):
        metadata.partition("t", 2)
    assert cluster.metadata_requests == before + 1
    with pytest.raises(UnknownTopicOrPartitionError):
        metadata.partition("t", -1)


def test_a_leader_is_waited_for(cluster: ScriptedCluster, metadata: ClusterMetadata) -> None:
    topic = cluster.create("t")
    cluster.move(topic.logs[0], -1)
    with pytest.raises(LeaderNotAvailableError, match="no leader for 30 ms"):
        metadata.leader("t", 0, timeout_ms=30)
    timer = threading.Timer(0.05, cluster.move, (topic.logs[0], 1))
    timer.start()
    assert metadata.leader("t", 0).endpoint == cluster.leaders[1].endpoint
    timer.join()


def test_an_older_answer_is_thrown_away(
    cluster: ScriptedCluster, metadata: ClusterMetadata
) -> None:
    topic = cluster.create("t")
    newer(cluster, 10)
    assert metadata.topic("t").partitions[0].leader_epoch == 0
    topic.logs[0].epoch = 5
    newer(cluster, -5)
    metadata.refresh(["t"])
    assert metadata.topic("t").partitions[0].leader_epoch == 0
    newer(cluster, 5)
    metadata.refresh(["t"])
    assert metadata.topic("t").partitions[0].leader_epoch == 5


def test_a_deleted_topic_is_forgotten(cluster: ScriptedCluster, metadata: ClusterMetadata) -> None:
    cluster.create("t")
    cluster.create("u")
    assert set(metadata.all_topics()) == {"t", "u"}
    cluster.call(lambda: cluster.topics.pop("t"))
    newer(cluster)
    metadata.refresh()
    assert metadata.cached("t") is None
    assert metadata.cached("u") is not None


def test_refresh_in_the_background_tells_listeners(
    cluster: ScriptedCluster, metadata: ClusterMetadata
) -> None:
    cluster.create("t")
    cluster.create("u")
    told = threading.Event()
    metadata.on_update(told.set)
    metadata.request_refresh("t")
    metadata.request_refresh("u")
    wait_until(lambda: metadata.cached("t") is not None and metadata.cached("u") is not None)
    assert told.wait(10)
    metadata.refresh_if_old("t")
    assert metadata._refresher is None or not metadata._wanted


def test_old_metadata_serve_while_nobody_answers(cluster: ScriptedCluster) -> None:
    cluster.create("t")
    here = [True]

    def bootstrap() -> BootstrapInfo:
        if not here[0]:
            raise OSError("the directory is gone")
        return cluster.bootstrap()

    metadata = ClusterMetadata(bootstrap, retry_backoff_ms=1, metadata_max_age_ms=1)
    found = metadata.topic("t")
    here[0] = False
    metadata._link._drop()
    wait_until(lambda: metadata._too_old("t"))
    assert metadata.topic("t", timeout_ms=20) is found
    with pytest.raises(ClusterUnreachableError, match="directory is gone"):
        metadata.topic("u", timeout_ms=20)
    here[0] = True
    assert metadata.topic("t", timeout_ms=1000) is not found
    metadata.close()


def test_a_controller_that_moved_is_looked_up_again(cluster: ScriptedCluster) -> None:
    cluster.create("t")
    asked: list[int] = []
    nobody = BootstrapInfo("", "scripted", Endpoint("127.0.0.1", 1), SECRET)

    def bootstrap() -> BootstrapInfo:
        asked.append(1)
        return nobody if len(asked) < 3 else cluster.bootstrap()

    metadata = ClusterMetadata(bootstrap, retry_backoff_ms=1)
    assert metadata.topic("t").name == "t"
    assert len(asked) == 3
    metadata.close()


def test_another_cluster_at_the_same_address_is_noticed(cluster: ScriptedCluster) -> None:
    info = cluster.bootstrap()
    other = StaticBootstrap(BootstrapInfo("c2", "other", info.controller, SECRET))
    metadata = ClusterMetadata(other)
    with pytest.raises(InconsistentClusterIdError, match="belongs to cluster c1"):
        metadata.refresh(["t"])
    metadata.close()


def test_close_ends_calls_under_way() -> None:
    nobody = StaticBootstrap(BootstrapInfo("", "x", Endpoint("127.0.0.1", 1), SECRET))
    metadata = ClusterMetadata(nobody, retry_backoff_ms=1)
    outcome: list[Exception] = []

    def ask() -> None:
        try:
            metadata.topic("t", timeout_ms=None)
        except ClientClosedError as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    metadata.close()
    thread.join(10)
    assert len(outcome) == 1
    assert metadata.closed
    metadata.request_refresh("t")
    assert metadata._refresher is None
