"""The asyncio clients on a local cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pyarrow as pa
import pytest

from raykafka.client.admin import NewTopic
from raykafka.client.aio import AsyncAdmin, AsyncConsumer, AsyncProducer
from raykafka.errors import (
    ClientClosedError,
    InvalidConfigError,
    MessageTooLargeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import TopicPartition
from raykafka.protocol.messages import ConfigChange, ConfigResource
from raykafka.testing.local_cluster import LocalCluster
from tests.kits.topics import create_topic

TIMEOUT_S = 30


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, TIMEOUT_S))


def consumer(cluster: LocalCluster, **settings: Any) -> AsyncConsumer:
    return AsyncConsumer(cluster.bootstrap, **{"auto_offset_reset": "earliest", **settings})


def test_send_and_iterate(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap, partitions=2)

    async def work() -> None:
        async with AsyncProducer(cluster.bootstrap) as producer, consumer(cluster) as reader:
            await reader.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
            futures = [await producer.send(topic, b"%d" % n, key=b"%d" % n) for n in range(100)]
            await producer.flush()
            written = await asyncio.gather(*futures)
            assert {place.topic for place in written} == {topic}
            seen = {}
            async for record in reader:
                seen[record.partition, record.offset] = record.value
                if len(seen) == 100:
                    break
            for number, place in enumerate(written):
                assert seen[place.partition, place.offset] == b"%d" % number
            assert await producer.partitions_for(topic) == {0, 1}
            assert producer.metrics()["records_sent"] == 100

    run(work())


def test_waiting_for_each_and_for_many(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)

    async def work() -> None:
        async with AsyncProducer(cluster.bootstrap) as producer:
            alone = [(await producer.send_and_wait(topic, b"x")).offset for _ in range(5)]
            assert alone == [0, 1, 2, 3, 4]
            many = await asyncio.gather(*[producer.send_and_wait(topic, b"y") for _ in range(500)])
            assert sorted(place.offset for place in many) == list(range(5, 505))
            table = await producer.send_table(topic, {"value": [b"a", b"b"]})
            (batch,) = await table
            assert (batch.offset, batch.count) == (505, 2)

    run(work())


def test_errors_reach_the_caller(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)

    async def work() -> None:
        producer = AsyncProducer(cluster.bootstrap)
        with pytest.raises(UnknownTopicOrPartitionError, match="nosuch"):
            await producer.send("nosuch", b"x")
        for _ in range(2):
            with pytest.raises(MessageTooLargeError):
                await producer.send(topic, b"x" * (64 << 20))
        await producer.close()
        await producer.close()
        with pytest.raises((ClientClosedError, RuntimeError)):
            await producer.send(topic, b"x")
        with pytest.raises(InvalidConfigError):
            AsyncProducer(cluster.bootstrap, linger="no")

    run(work())


def test_iteration_ends_after_its_timeout(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)

    async def work() -> None:
        async with AsyncProducer(cluster.bootstrap) as producer:
            await producer.send_and_wait(topic, b"x")
        async with consumer(cluster, consumer_timeout_ms=50) as reader:
            await reader.assign([TopicPartition(topic, 0)])
            assert [record.value async for record in reader] == [b"x"]
            assert [record.value async for record in reader] == []

    run(work())


def test_what_iteration_took_and_did_not_return_is_not_lost(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)
    at = TopicPartition(topic, 0)

    async def work() -> None:
        async with AsyncProducer(cluster.bootstrap) as producer:
            await (await producer.send_table(topic, {"value": [b"%d" % n for n in range(10)]}))
        async with consumer(cluster) as reader:
            await reader.assign([at])
            assert [(await reader.__anext__()).offset for _ in range(3)] == [0, 1, 2]
            assert await reader.position(at) == 3
            (records,) = (await reader.poll(5000, 2)).values()
            assert [record.offset for record in records] == [3, 4]
            assert (await reader.__anext__()).offset == 5
            table = await reader.poll_table(5000, max_records=2, metadata=["__offset"])
            assert table.column("__offset").to_pylist() == [6, 7]
            assert (await reader.__anext__()).offset == 8
            await reader.seek(at, 1)
            assert (await reader.__anext__()).offset == 1
            await reader.assign([])
            assert await reader.assignment() == set()

    run(work())


def test_cancelling_moves_no_position(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)
    at = TopicPartition(topic, 0)

    async def work() -> None:
        async with AsyncProducer(cluster.bootstrap) as producer, consumer(cluster) as reader:
            await reader.assign([at])
            assert await reader.position(at) == 0
            waiting = asyncio.ensure_future(reader.poll(60_000))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            seen: list[int] = []
            sent = 0
            for _ in range(50):
                reading = asyncio.ensure_future(reader.poll(60_000))
                await producer.send_and_wait(topic, b"%d" % sent)
                sent += 1
                reading.cancel()
                try:
                    for records in (await reading).values():
                        seen += [record.offset for record in records]
                except asyncio.CancelledError:
                    continue
            while len(seen) < sent:
                for records in (await reader.poll(5000)).values():
                    seen += [record.offset for record in records]
            assert seen == list(range(sent))

    run(work())


def test_waiting_does_not_block_the_loop(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)

    async def work() -> None:
        async with consumer(cluster) as reader:
            await reader.assign([TopicPartition(topic, 0)])
            waiting = asyncio.ensure_future(reader.poll(60_000))
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not waiting.done()
            await reader.close()  # ends what waits
            assert await waiting == {}
            await reader.close()
            with pytest.raises(ClientClosedError):
                await reader.poll()

    run(work())


def test_the_rest_of_the_consumer(cluster: LocalCluster) -> None:
    topic = create_topic(cluster.bootstrap)
    at = TopicPartition(topic, 0)

    async def work() -> None:
        async with AsyncProducer(cluster.bootstrap) as producer:
            rows = {"value": [b"a", b"b"]}
            await (await producer.send_table(topic, rows, timestamps=1000))
        async with consumer(cluster) as reader:
            await reader.assign([at])
            assert await reader.beginning_offsets([at]) == {at: 0}
            assert await reader.end_offsets([at]) == {at: 2}
            found = await reader.offsets_for_times({at: 500})
            assert found[at] is not None
            assert found[at].offset == 0
            assert await reader.partitions_for_topic(topic) == {0}
            assert topic in await reader.topics()
            await reader.pause(at)
            assert await reader.paused() == {at}
            assert await reader.poll(20) == {}
            await reader.resume()
            await reader.seek_to_end()
            assert await reader.position(at) == 2
            await reader.seek_to_beginning(at)
            (batch,) = await reader.poll_batches(5000, metadata="__offset")
            assert (batch.base_offset, batch.num_rows) == (0, 2)
            assert (await reader.metrics())["records_consumed_total"] == 2

    run(work())


def test_admin(cluster: LocalCluster) -> None:
    name = "made-by-aio"

    async def work() -> None:
        async with AsyncAdmin(cluster.bootstrap) as admin:
            schema = pa.schema([("id", pa.int64())])
            await admin.create_topics([NewTopic(name, num_partitions=1, schema=schema)])
            with pytest.raises(TopicAlreadyExistsError):
                await admin.create_topics([NewTopic(name)])
            assert name in await admin.list_topics()
            await admin.create_partitions({name: 2})
            assert await admin.add_columns(name, pa.schema([("name", pa.string())])) == 1
            (described,) = await admin.describe_topics([name])
            assert len(described.partitions) == 2
            resource = ConfigResource("topic", name)
            await admin.incremental_alter_configs(
                {resource: [ConfigChange("retention.ms", "1000")]}
            )
            entries = (await admin.describe_configs([resource]))[resource]
            assert {e.name: e.value for e in entries}["retention.ms"] == "1000"
            at = TopicPartition(name, 0)
            assert (await admin.list_offsets({at: "latest"}))[at].offset == 0
            assert await admin.delete_records({at: 0}) == {at: 0}
            assert (await admin.describe_cluster()).brokers
            assert await admin.describe_log_dirs()
            await admin.delete_topics([name])
            assert name not in await admin.list_topics()
        with pytest.raises(ClientClosedError):
            await admin.list_topics()

    run(work())
