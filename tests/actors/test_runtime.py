"""Starting, finding and stopping clusters on a real Ray."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray_cluster import actor_names, read_all

import raykafka
from raykafka import TopicPartition, ray_runtime
from raykafka.actors.endpoint_file import endpoint_file, read_endpoint_file
from raykafka.actors.handles import NAMESPACE, Identity
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    ClusterUnreachableError,
    InvalidConfigError,
    InvalidRequestError,
    LogDirLockedError,
)
from raykafka.places import cluster_home
from raykafka.runtime import Cluster

CONFIGS = {"partition.actors": "1", "partition.actor.spares": "0"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with raykafka.start(
        "main", data_dir=tmp_path_factory.mktemp("main"), configs=CONFIGS
    ) as started:
        started.topic("numbers", create=True, num_partitions=2)
        yield started


def test_records_go_in_and_come_out(cluster: Cluster) -> None:
    with cluster.producer() as producer:
        futures = [producer.send("numbers", b"%d" % n, partition=n % 2) for n in range(100)]
        offsets = [future.get(30).offset for future in futures]
    assert offsets == [n // 2 for n in range(100)]
    values = read_all(cluster, "numbers", 2)
    assert values[0] == [b"%d" % n for n in range(0, 100, 2)]
    assert values[1] == [b"%d" % n for n in range(1, 100, 2)]


def test_every_actor_is_detached_named_and_on_uvloop(cluster: Cluster) -> None:
    names = actor_names("main")
    assert "main/controller" in names
    assert "main/broker-0-i1" in names
    for name in names:
        handle = ray.get_actor(name, namespace=NAMESPACE)
        identity: Identity = ray.get(handle.identity.remote())
        assert identity.event_loop == "uvloop"
    roles = [actor.role for actor in cluster.status().actors]
    assert sorted(roles) == ["broker", "controller", "partition"]
    assert cluster.status().offline_partitions == 0


def test_starting_again_finds_the_running_cluster(cluster: Cluster, tmp_path: Path) -> None:
    again = raykafka.start("main")
    assert again.status().cluster_id == cluster.status().cluster_id
    with pytest.raises(InvalidConfigError, match="runs already"):
        raykafka.start("main", data_dir=tmp_path)
    with pytest.raises(InvalidConfigError, match=r"partition\.actorz"):
        raykafka.start("other", data_dir=tmp_path, configs={"partition.actorz": "1"})
    with pytest.raises(InvalidRequestError):
        raykafka.start("../evil")


def test_a_directory_belongs_to_one_cluster(cluster: Cluster) -> None:
    data_dir = Path(read_endpoint_path(cluster)).parent
    with pytest.raises(LogDirLockedError):
        raykafka.start("thief", data_dir=data_dir, configs=CONFIGS)
    assert not actor_names("thief")
    assert cluster.status().offline_partitions == 0


def read_endpoint_path(cluster: Cluster) -> str:
    """The endpoint file in the cluster's data directory."""
    from raykafka import ray_runtime

    return endpoint_file(ray_runtime.find_spec(cluster.name).data_dir)


def test_two_clusters_do_not_meet(cluster: Cluster, tmp_path: Path) -> None:
    with raykafka.start("second", data_dir=tmp_path, configs=CONFIGS) as second:
        second.topic("numbers", create=True)
        with second.producer() as producer:
            producer.send("numbers", b"second").get(30)
        assert read_all(second, "numbers", 1) == {0: [b"second"]}
        assert b"second" not in read_all(cluster, "numbers", 2)[0]
        assert second.status().cluster_id != cluster.status().cluster_id
        secrets = {c.bootstrap().secret for c in (cluster, second)}
        assert len(secrets) == 2
    assert not actor_names("second")
    assert not os.path.exists(endpoint_file(cluster_home("second")))
    with pytest.raises(ClusterUnreachableError):
        raykafka.connect("second")


def test_stop_and_start_keep_everything(tmp_path: Path) -> None:
    first = raykafka.start("kept", data_dir=tmp_path, configs=CONFIGS)
    handle = first.topic("t", create=True, configs={"retention.ms": "-1"})
    with first.producer() as producer:
        producer.send("t", b"one").get(30)
        producer.send("t", b"two")
    second = first.restart()
    assert read_all(second, "t", 1) == {0: [b"one", b"two"]}
    with second.producer() as producer:
        assert producer.send("t", b"three").get(30).offset == 2
    with second.admin() as admin:
        entries = admin.describe_topics(["t"])[0]
        assert entries.partitions[0].leader_epoch > 0
    assert handle.read().to_table().num_rows == 3
    second.stop()
    with pytest.raises(ClusterUnreachableError):
        second.stop(timeout_s=5)


def test_connecting_by_name_directory_and_address(cluster: Cluster) -> None:
    cluster_id = cluster.status().cluster_id
    path = read_endpoint_path(cluster)
    for target in ("main", os.path.dirname(path)):
        found = raykafka.connect(target)
        assert (found.name, found.status().cluster_id) == ("main", cluster_id)
    info = cluster.bootstrap()
    address = str(info.controller)
    assert raykafka.connect(address, secret=info.secret).status().cluster_id == cluster_id
    with pytest.raises(InvalidRequestError, match="secret"):
        raykafka.connect(address)
    with pytest.raises(ClusterAuthorizationFailedError):
        raykafka.connect(address, secret=b"wrong" * 8)
    with pytest.raises(ClusterUnreachableError):
        raykafka.connect("no-such-cluster")
    with pytest.raises(ClusterUnreachableError):
        raykafka.connect("/no/such/directory")


def test_the_endpoint_file_is_for_its_owner_only(cluster: Cluster) -> None:
    for path in (read_endpoint_path(cluster), endpoint_file(cluster_home("main"))):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        access = read_endpoint_file(path)
        assert access.controller == cluster.bootstrap().controller
        assert access.secret.hex() not in repr(access)


PROGRAM = """
import sys, raykafka
cluster = raykafka.connect("main")
with cluster.producer() as producer:
    print(producer.send("numbers", b"from outside", partition=1).get(30).partition)
print("ray" in sys.modules)
"""


def test_a_program_of_this_machine_needs_no_ray(cluster: Cluster) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["1", "False"], done.stderr


@ray.remote(num_cpus=0)
def _append(handle: raykafka.TopicHandle, value: bytes) -> int:
    import pyarrow as pa

    handle.append(pa.table({"value": pa.array([value], pa.binary())}))
    return handle.read().to_table().num_rows


def test_handles_work_in_ray_tasks(cluster: Cluster) -> None:
    handle = cluster.topic("from-tasks", create=True)
    assert pickle.loads(pickle.dumps(handle)) == handle
    counts = ray.get([_append.remote(handle, b"%d" % n) for n in range(2)], timeout=60)
    assert max(counts) == 2
    assert sorted(read_all(cluster, "from-tasks", 1)[0]) == [b"0", b"1"]


def test_consumers_see_what_is_written_later(cluster: Cluster) -> None:
    cluster.topic("live", create=True)
    with cluster.consumer() as consumer, cluster.producer() as producer:
        consumer.assign([TopicPartition("live", 0)])
        consumer.seek_to_beginning()
        producer.send("live", b"now")
        records = consumer.poll(timeout_ms=30_000)
        assert [record.value for batch in records.values() for record in batch] == [b"now"]


def test_a_ray_that_was_named_and_refuses_is_not_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("Unauthenticated")

    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ClusterUnreachableError, match="RAY_AUTH_MODE"):
        raykafka.start("nowhere")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(ray_runtime, "_ray_answers", lambda: True)
    assert not ray_runtime.join_ray()
