"""Partition actors on real sockets that copy from each other; the test plays the controller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from partition_kit import TOPIC, TOPIC_ID, message, until, value_batch

from raykafka.actors.environment import Environment
from raykafka.actors.partition import PartitionActor
from raykafka.actors.ports import (
    AssignmentResult,
    NodeInfo,
    PartitionActorSpec,
    PartitionAssignment,
    PeerConnection,
)
from raykafka.actors.replicas.replica import Replica
from raykafka.clock import SystemClock
from raykafka.errors import RaykafkaError
from raykafka.log.batch_header import read_header
from raykafka.model import Endpoint, LeaderEpoch, PartitionId
from raykafka.network.catch_up import connect_catch_up
from raykafka.network.peer import connect
from raykafka.network.server import TcpListener
from raykafka.protocol.messages import ApiKey, Message, ProduceRequest, ProduceResponse

SECRET = b"s" * 32
TIMEOUT_S = 10.0


class Brokers:
    """``count`` brokers with one partition actor each, which hold the partitions of one topic."""

    def __init__(
        self, root: Path, count: int = 3, *, configs: Mapping[str, str] | None = None
    ) -> None:
        self._root = root
        self._configs = {"disk.reserve.bytes": "0", **(configs or {})}
        self.ids = list(range(count))
        self.actors: dict[int, PartitionActor] = {}
        self.endpoints: dict[int, Endpoint] = {}
        self.topic_configs: dict[str, str] = {}
        self.schemas: list[bytes] = []
        self.throttled_rate = -1
        self._lives: dict[int, int] = {}
        self._version = 0
        self._opened: set[tuple[int, int]] = set()

    async def __aenter__(self) -> Brokers:
        for broker_id in self.ids:
            await self.start(broker_id)
        return self

    async def __aexit__(self, *_: object) -> None:
        for broker_id in list(self.actors):
            await self.actors.pop(broker_id).stop()

    async def start(self, broker_id: int) -> None:
        """Another life of a broker's actor, on the disk that the last one left."""
        life = self._lives[broker_id] = self._lives.get(broker_id, 0) + 1
        spec = PartitionActorSpec(
            name=f"test/partitions-{broker_id}-0-i{life}",
            cluster_id="c",
            cluster_name="test",
            broker_id=broker_id,
            slot=0,
            incarnation=life,
            node=NodeInfo("n", "127.0.0.1"),
            log_dir=str(self._root / f"broker-{broker_id}"),
            configs=self._configs,
            secret=SECRET,
        )
        environment = Environment(SystemClock(), TcpListener, connect, connect_catch_up)
        actor = PartitionActor(spec, environment)
        started = await actor.start()
        assert started.endpoint is not None
        self.actors[broker_id] = actor
        self.endpoints[broker_id] = started.endpoint

    async def kill(self, broker_id: int) -> None:
        """End a broker's actor without closing anything."""
        await self.actors.pop(broker_id).crash()

    async def lead(
        self,
        leader: int,
        epoch: int,
        *,
        isr: Iterable[int],
        told: Iterable[int] | None = None,
        partitions: Iterable[int] = (0,),
    ) -> None:
        """Tell the living brokers, or those ``told``, who leads and who is in sync."""
        for broker_id in self.actors if told is None else told:
            for partition in partitions:
                result = await self.tell(broker_id, leader, epoch, isr=isr, partition=partition)
                assert result.error_code == 0, result.error_message

    async def tell(
        self, broker_id: int, leader: int, epoch: int, *, isr: Iterable[int], partition: int = 0
    ) -> AssignmentResult:
        """Tell one broker, as the controller would: what is in sync counts."""
        self._version += 1
        members = tuple(isr)
        assignment = PartitionAssignment(
            topic=TOPIC,
            partition=PartitionId(TOPIC_ID, partition),
            leader_epoch=LeaderEpoch(epoch),
            configs=self.topic_configs,
            schemas=list(self.schemas),
            opened_before=broker_id in members and (broker_id, partition) in self._opened,
            leader_id=leader,
            leader=None if broker_id == leader else self.endpoints[leader],
            replicas=tuple(self.ids),
            isr=members,
            partition_epoch=self._version,
            throttled_rate=self.throttled_rate,
        )
        self._opened.add((broker_id, partition))
        [result] = await self.actors[broker_id].assign([assignment], [])
        return result

    def replica(self, broker_id: int, partition: int = 0) -> Replica:
        """A broker's replica of one partition."""
        return self.actors[broker_id]._replicas.find(TOPIC_ID, partition)

    async def connect(self, broker_id: int) -> PeerConnection:
        """A connection to a broker's actor, as another broker has one."""
        endpoint = self.endpoints[broker_id]
        return await connect(endpoint, SECRET, client_id="test", timeout_s=TIMEOUT_S)

    def contents(self, broker_id: int, partition: int = 0) -> list[bytes]:
        """The batches of a replica, byte for byte."""
        log = self.replica(broker_id, partition).log
        offset, end, found = log.log_start_offset, log.log_end_offset, []
        while offset < end:
            for batch in log.read(offset, max_bytes=1 << 20, up_to=end):
                found.append(bytes(batch))
                offset = read_header(found[-1]).next_offset
        return found

    async def settled(self, *broker_ids: int, partition: int = 0) -> None:
        """Wait until these replicas have the same end and the same high watermark."""

        def agree() -> bool:
            replicas = [self.replica(broker_id, partition) for broker_id in broker_ids]
            ends = {replica.log.log_end_offset for replica in replicas}
            return len(ends | {replica.high_watermark for replica in replicas}) == 1

        await until(agree)
        contents = [self.contents(broker_id, partition) for broker_id in broker_ids]
        assert all(each == contents[0] for each in contents)


async def produce(
    connection: PeerConnection,
    *values: bytes,
    epoch: int,
    acks: int = -1,
    partition: int = 0,
    schema_id: int = 0,
) -> asyncio.Future[Any]:
    """Send a batch; the future gets the answer or the error."""
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_answer(answer: Message | RaykafkaError, _payload: memoryview) -> None:
        answered.set_result(answer)

    place = PartitionId(TOPIC_ID, partition)
    payload = message(place, value_batch(*values), schema_id=schema_id)
    request = ProduceRequest(TOPIC_ID, partition, epoch, acks)
    connection.send(ApiKey.PRODUCE, request, [payload], on_answer)
    return answered


async def produced(connection: PeerConnection, *values: bytes, epoch: int, **fields: Any) -> int:
    """Send a batch and return its base offset once it is acknowledged."""
    answer = await asyncio.wait_for(
        await produce(connection, *values, epoch=epoch, **fields), TIMEOUT_S
    )
    assert isinstance(answer, ProduceResponse), answer
    return answer.base_offset


Scenario = Callable[[Brokers], Awaitable[None]]


def play(
    root: Path,
    scenario: Scenario,
    *,
    count: int = 3,
    configs: Mapping[str, str] | None = None,
    **topic: str,
) -> None:
    async def main() -> None:
        brokers = Brokers(root, count, configs=configs)
        brokers.topic_configs = dict(topic)
        async with brokers:
            await asyncio.wait_for(scenario(brokers), 60)

    asyncio.run(main())
