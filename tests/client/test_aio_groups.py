"""Consumer groups with the asyncio consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterator
from typing import Any

import pytest

from raykafka.client.aio import AsyncConsumer
from raykafka.client.consuming.rebalance_listener import ConsumerRebalanceListener
from raykafka.client.producer import Producer
from raykafka.errors import ClientClosedError, IllegalStateError
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster
from tests.kits.topics import create_topic

TIMEOUT_S = 30


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("groups")) as running:
        yield running


@pytest.fixture
def topic(cluster: LocalCluster) -> str:
    """Two partitions with ten records each."""
    name = create_topic(cluster.bootstrap, partitions=2)
    with Producer(cluster.bootstrap) as producer:
        for number in range(20):
            producer.send(name, b"%d" % number, partition=number % 2)
    return name


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, TIMEOUT_S))


def member(cluster: LocalCluster, topic: str, **settings: Any) -> AsyncConsumer:
    wanted = {"auto_offset_reset": "earliest", "group_id": topic, "enable_auto_commit": False}
    return AsyncConsumer(cluster.bootstrap, **{**wanted, **settings})


async def total(consumer: AsyncConsumer, topic: str) -> int:
    """What is committed, of both partitions together."""
    found = [await consumer.committed(TopicPartition(topic, number)) for number in range(2)]
    assert not any(isinstance(each, tuple) for each in found)
    return sum(each or 0 for each in found)  # type: ignore[misc]


def test_iterate_and_commit(cluster: LocalCluster, topic: str) -> None:
    async def work() -> None:
        async with member(cluster, topic) as consumer:
            await consumer.subscribe([topic])
            assert await consumer.subscription() == {topic}
            values = []
            async for record in consumer:
                values.append(record.value)
                if len(values) == 7:
                    break
            await consumer.commit()
            assert await total(consumer, topic) == 7, "not what iteration has read ahead"
            async for record in consumer:
                values.append(record.value)
                if len(values) == 20:
                    break
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()
            await consumer.commit_async(
                callback=lambda _, error: loop.call_soon_threadsafe(done.set_result, error)
            )
            while not done.done():
                await consumer.poll(10)
            assert done.result() is None
            assert await total(consumer, topic) == 20
            assert sorted(map(int, values)) == list(range(20))
            assert (await consumer.group_metadata()).group_id == topic
            await consumer.enforce_rebalance()
            await consumer.unsubscribe()
            assert await consumer.assignment() == set()

    run(work())


def test_iteration_lets_the_group_in_between(cluster: LocalCluster, topic: str) -> None:
    async def work() -> None:
        async with member(cluster, topic) as first, member(cluster, topic) as second:
            await first.subscribe([topic])
            seen = [await first.__anext__()]
            assert len(first._ahead) > 0
            await second.subscribe([topic])
            while not first._consumer.interrupted():
                await second.poll(10)
            # What was read ahead is of partitions that may be the other's by now.
            seen.append(await first.__anext__())
            assert len(await first.assignment()) == 1
            while not await second.assignment():
                await second.poll(10)
            assert await first.assignment() | await second.assignment() == {
                TopicPartition(topic, 0),
                TopicPartition(topic, 1),
            }

    run(work())


def test_closing_commits_what_was_returned_only(cluster: LocalCluster, topic: str) -> None:
    async def work() -> None:
        async with member(cluster, topic, enable_auto_commit=True) as consumer:
            await consumer.subscribe([topic])
            count = 0
            async for _ in consumer:
                count += 1
                if count == 3:
                    break
        async with member(cluster, topic) as consumer:
            assert await total(consumer, topic) == 3

    run(work())


class Coroutines(ConsumerRebalanceListener):
    """Its methods await the consumer."""

    def __init__(self, consumer: AsyncConsumer) -> None:
        self.consumer = consumer
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.refused = False

    async def on_partitions_assigned(  # type: ignore[override]
        self, assigned: Collection[TopicPartition]
    ) -> None:
        self.loops.append(asyncio.get_running_loop())
        for place in assigned:
            await self.consumer.seek(place, 8)
        try:
            await self.consumer.poll(0)
        except IllegalStateError:
            self.refused = True

    async def on_partitions_revoked(  # type: ignore[override]
        self, revoked: Collection[TopicPartition]
    ) -> None:
        await asyncio.sleep(0)
        await self.consumer.commit(dict.fromkeys(revoked, 5))


def test_a_listener_of_coroutines(cluster: LocalCluster, topic: str) -> None:
    async def work() -> None:
        async with member(cluster, topic) as consumer:
            listener = Coroutines(consumer)
            await consumer.subscribe([topic], listener=listener)
            offsets = []
            async for record in consumer:
                offsets.append(record.offset)
                if len(offsets) == 4:
                    break
            assert sorted(offsets) == [8, 8, 9, 9]
            assert listener.loops == [asyncio.get_running_loop()]
            assert listener.refused
            await consumer.unsubscribe()
            assert await total(consumer, topic) == 10

    run(work())


def test_a_listener_of_plain_methods(cluster: LocalCluster, topic: str) -> None:
    class Plain(ConsumerRebalanceListener):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
            asyncio.get_running_loop()
            self.heard.append("assigned")

        def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
            raise KeyError("broken")

    async def work() -> None:
        listener = Plain()
        consumer = member(cluster, topic)
        await consumer.subscribe([topic], listener=listener)
        while not await consumer.assignment():
            await consumer.poll(100)
        assert listener.heard == ["assigned"]
        with pytest.raises(KeyError, match="broken"):
            await consumer.close()
        with pytest.raises(ClientClosedError):
            await consumer.commit()

    run(work())


def test_a_listener_starts_tasks_that_outlive_it(cluster: LocalCluster, topic: str) -> None:
    class Starter(ConsumerRebalanceListener):
        task: asyncio.Task[None] | None = None

        def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
            self.task = asyncio.create_task(self.commit(sorted(assigned)))

        async def commit(self, places: list[TopicPartition]) -> None:
            await joined.wait()
            await consumer.commit(dict.fromkeys(places, 4))

    async def work() -> None:
        nonlocal consumer, joined
        joined = asyncio.Event()
        async with member(cluster, topic) as consumer:
            listener = Starter()
            await consumer.subscribe([topic], listener=listener)
            while not await consumer.assignment():
                await consumer.poll(10)
            assert listener.task is not None
            joined.set()
            await listener.task
            assert await total(consumer, topic) == 8

    consumer: AsyncConsumer
    joined: asyncio.Event
    run(work())


def test_a_listener_may_close(cluster: LocalCluster, topic: str) -> None:
    class Closer(ConsumerRebalanceListener):
        async def on_partitions_assigned(  # type: ignore[override]
            self, assigned: Collection[TopicPartition]
        ) -> None:
            await consumer.close()

    async def poll_on() -> None:
        while True:
            await consumer.poll(10)

    async def work() -> None:
        nonlocal consumer
        consumer = member(cluster, topic)
        await consumer.subscribe([topic], listener=Closer())
        with pytest.raises(ClientClosedError):
            await poll_on()

    consumer: AsyncConsumer
    run(work())
