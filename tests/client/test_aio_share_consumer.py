"""``AsyncShareConsumer``: the same, awaited; what a cancelled poll had is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from share_assignment import FixedAssignment
from share_kit import GROUP

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.aio import AsyncShareConsumer
from raykafka.client.producer import Producer
from raykafka.errors import ClientClosedError
from raykafka.model import AcknowledgeType, TopicPartition
from raykafka.testing.local_cluster import LocalCluster

P0 = TopicPartition("t", 0)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, partition_actors=1) as running:
        with Admin(running.bootstrap) as admin:
            admin.create_topics([NewTopic("t")])
            admin.alter_share_group_configs(GROUP, {"share.auto.offset.reset": "earliest"})
        yield running


def produce(cluster: LocalCluster, count: int) -> None:
    with Producer(cluster.bootstrap, acks="all") as producer:
        for number in range(count):
            producer.send("t", b"%d" % number)
        producer.flush(20)


def test_records_are_polled_and_acknowledged(cluster: LocalCluster) -> None:
    async def main() -> None:
        async with AsyncShareConsumer(
            cluster.bootstrap, group_id=GROUP, share_acknowledgement_mode="explicit"
        ) as consumer:
            await consumer.subscribe(["t"])
            while not (polled := await consumer.poll(2000)):
                continue
            await consumer.renew()
            for record in polled[P0]:
                await consumer.acknowledge(record, AcknowledgeType(1 + record.offset % 2))
            assert await consumer.commit() == {P0: None}
            assert await consumer.assignment() == {P0}
            (again,) = (await consumer.poll(2000)).values()
            assert [record.offset for record in again] == [1, 3]
            await consumer.acknowledge_rows()
            assert await consumer.poll_table(100) is None
        with pytest.raises(ClientClosedError):
            await consumer.poll()

    produce(cluster, 4)
    asyncio.run(main())


def test_a_cancelled_poll_gives_its_records_to_the_next(cluster: LocalCluster) -> None:
    async def main() -> None:
        async with AsyncShareConsumer(
            cluster.bootstrap,
            assignment=FixedAssignment(P0),
            group_id=GROUP,
            consumer_timeout_ms=500,
        ) as consumer:
            polling = asyncio.ensure_future(consumer.poll(60_000))
            await asyncio.sleep(0)
            polling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await polling
            await asyncio.get_running_loop().run_in_executor(None, produce, cluster, 10)
            polling = asyncio.ensure_future(consumer.poll(60_000, 4))
            for _ in range(3):
                await asyncio.sleep(0)
            polling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await polling
            found = [record.offset async for record in consumer]
            assert sorted(found) == list(range(10))
            await consumer.commit()

    asyncio.run(main())
    with Admin(cluster.bootstrap) as admin:
        (offset,) = admin.list_share_group_offsets(GROUP)
        assert offset.start_offset == 10


def test_closing_ends_a_poll_under_way(cluster: LocalCluster) -> None:
    async def main() -> None:
        consumer = AsyncShareConsumer(
            cluster.bootstrap, assignment=FixedAssignment(P0), group_id=GROUP
        )
        await consumer.subscribe(["t"])
        polling = asyncio.create_task(consumer.poll(60_000))
        await asyncio.sleep(0)  # now it waits in the thread
        await asyncio.wait_for(consumer.close(), 20)
        assert await polling == {}

    asyncio.run(main())


def test_what_iteration_has_not_returned_is_not_accepted(cluster: LocalCluster) -> None:
    async def main() -> None:
        async with AsyncShareConsumer(
            cluster.bootstrap, assignment=FixedAssignment(P0), group_id=GROUP
        ) as consumer:
            found: list[bytes | None] = []
            async for record in consumer:
                found.append(record.value)
                if len(found) == 2:
                    break
            assert await consumer.commit() == {P0: None}
            (records,) = (await consumer.poll(5000)).values()
            assert [*found, *(each.value for each in records)] == [b"0", b"1", b"2", b"3"]

    produce(cluster, 4)
    asyncio.run(main())
