"""Scale: a thousand idle connections, a thousand partitions, memory over time."""

from __future__ import annotations

import itertools
import resource
import statistics
import time

import pyarrow as pa

from bench.floor.cluster import actor_pids, bench_cluster, new_topic, resident_bytes
from bench.floor.consume import RECORD
from bench.floor.measure import Row, microseconds
from bench.measuring.statistics import percentile
from raykafka.client.admin import NewTopic
from raykafka.network.client import Connection
from raykafka.protocol.messages import ApiKey, FetchPartition, FetchRequest
from raykafka.runtime import Cluster

IDLE = 1000


def idle_connections(runs: int) -> list[Row]:
    """One-record produce before and while 1,000 connections hold a parked fetch each."""
    _allow_files(4 * IDLE)
    with bench_cluster(**{"partition.actors": "1"}) as cluster, cluster.producer() as producer:
        topic, idle_topic = new_topic(cluster), new_topic(cluster)
        pid = actor_pids(cluster, "partition")[0]

        def p50() -> float:
            samples = [
                percentile(microseconds(lambda: producer.send(topic, RECORD).get(10), 2000), 0.5)
                for _ in range(runs)
            ]
            return statistics.median(samples)

        p50()
        before, memory_before = p50(), resident_bytes(pid)
        connections = _park(cluster, idle_topic, IDLE)
        after, memory_after = p50(), resident_bytes(pid)
        for connection in connections:
            connection.close()
    each = (memory_after - memory_before) / IDLE / 1000
    return [
        Row(
            "one record p50 beside 1,000 parked fetches",
            "us",
            after,
            before,
            "<= 1.3 x without",
            after <= 1.3 * before,
        ),
        Row("memory of one idle connection", "KB", each, None, "< 50", each < 50),
    ]


def _park(cluster: Cluster, topic: str, count: int) -> list[Connection]:
    info = cluster.bootstrap()
    with cluster.admin() as admin:
        described = admin.describe_topics([topic])[0]
    endpoint = described.partitions[0].endpoint
    if endpoint is None:
        raise RuntimeError(f"{topic} has no leader")
    request = FetchRequest(
        [FetchPartition(described.topic_id, 0, 0)], max_wait_ms=600_000, min_bytes=1
    )
    connections = []
    for _ in range(count):
        connection = Connection(endpoint, info.secret, client_id="idle")
        connection.send(ApiKey.FETCH, request, on_response=lambda *_: None)
        connections.append(connection)
    return connections


def partitions(runs: int, count: int = 1000) -> list[Row]:
    """From ``create_topics`` to an acked record on every one of 1,000 partitions; re-opening."""
    writable, reopened, memory = [], [], []
    for _ in range(min(runs, 3)):
        with bench_cluster() as cluster:
            pids = actor_pids(cluster, "partition")
            before = sum(resident_bytes(pid) for pid in pids)
            with cluster.admin() as admin, cluster.producer() as producer:
                start = time.perf_counter()
                admin.create_topics([NewTopic("many", num_partitions=count)])
                futures = [producer.send("many", RECORD, partition=p) for p in range(count)]
                producer.flush()
                writable.append(time.perf_counter() - start)
                assert all(future.succeeded() for future in futures)
            memory.append((sum(resident_bytes(pid) for pid in pids) - before) / count / 1000)
            reopened.append(_reopen(cluster, count))
    a, b, c = (statistics.median(x) for x in (writable, reopened, memory))
    return [
        Row("1,000 partitions: created and all written", "s", a, None, "<= 3", a <= 3, writable),
        Row("1,000 partitions: re-opened after a restart", "s", b, None, "<= 5", b <= 5, reopened),
        Row("memory per idle partition", "KB", c, None, "< 200", c < 200, memory),
    ]


def _reopen(cluster: Cluster, count: int) -> float:
    """Stop, start again on the same directory, and wait until every partition answers its end."""
    again = cluster.restart()
    start = time.perf_counter()
    with again.admin() as admin:
        ends = admin.list_offsets({("many", p): "latest" for p in range(count)})
    assert len(ends) == count
    assert all(found.offset == 1 for found in ends.values())
    return time.perf_counter() - start


def endurance(minutes: float) -> list[Row]:
    """Memory of every actor over a constant load of tables and single records."""
    table = pa.table({"value": pa.array([RECORD] * 10_000, pa.binary())})
    often = {"log.retention.check.interval.ms": "1000"}
    with bench_cluster(**often) as cluster, cluster.producer() as producer:
        topic = new_topic(
            cluster, partitions=2, segment_bytes=str(64 << 20), retention_bytes=str(128 << 20)
        )
        pids = actor_pids(cluster, "partition")
        samples: list[int] = []
        deadline = time.monotonic() + minutes * 60
        for step in itertools.count():
            producer.send_table(topic, table).get(30)
            for _ in range(100):
                producer.send(topic, RECORD)
            if step % 100 == 0:
                samples.append(sum(resident_bytes(pid) for pid in pids))
                if time.monotonic() > deadline:
                    break
            time.sleep(0.01)
    third = max(1, len(samples) // 3)
    early, late = statistics.median(samples[third : 2 * third]), statistics.median(samples[-third:])
    return [
        Row(
            f"memory of the partition actors over {minutes:g} minutes: last third / middle third",
            "MB",
            late / 1e6,
            early / 1e6,
            "<= 1.1",
            late <= 1.1 * early,
        )
    ]


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
