"""Requests that operate the cluster: moving replicas and leaders, and looking after brokers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raykafka.actors.controlling.reconcile import Reconciler
from raykafka.actors.ports import Handler
from raykafka.actors.requests import RequestTasks, immediate
from raykafka.actors.shell import StateMachineShell
from raykafka.controller.commands import (
    AlterReassignments,
    DrainBroker,
    ElectionAnswer,
    ElectLeaders,
    Reassignment,
)
from raykafka.controller.image import BrokerState, MetadataImage, SlotKey
from raykafka.errors import RaykafkaError
from raykafka.model import TopicPartition
from raykafka.protocol import operations_messages as messages
from raykafka.protocol.messages import ApiKey


class OperationHandlers:
    """One method per api."""

    def __init__(self, shell: StateMachineShell[MetadataImage], reconciler: Reconciler) -> None:
        self._shell = shell
        self._reconciler = reconciler

    def table(self, requests: RequestTasks) -> Mapping[ApiKey, Handler]:
        """The handlers by api, for a listener."""
        return {
            ApiKey.ALTER_PARTITION_REASSIGNMENTS: requests.handler(self.alter_reassignments),
            ApiKey.LIST_PARTITION_REASSIGNMENTS: immediate(self.list_reassignments),
            ApiKey.ELECT_LEADERS: requests.handler(self.elect_leaders),
            ApiKey.DESCRIBE_BROKERS: immediate(self.describe_brokers),
            ApiKey.DRAIN_BROKER: requests.handler(self.drain_broker),
            ApiKey.RESTART_BROKER: requests.handler(self.restart_broker),
            ApiKey.UNREGISTER_BROKER: requests.handler(self.unregister_broker),
        }

    async def alter_reassignments(
        self, request: messages.AlterPartitionReassignmentsRequest
    ) -> messages.AlterPartitionReassignmentsResponse:
        """Answered when the moves are recorded; they take their time."""
        wanted = [Reassignment(p.topic, p.partition, p.replicas) for p in request.partitions]
        errors: Sequence[RaykafkaError | None] = await self._shell.submit(
            AlterReassignments(wanted)
        )
        return messages.AlterPartitionReassignmentsResponse(
            [
                _result(change.topic, change.partition, error)
                for change, error in zip(wanted, errors, strict=True)
            ]
        )

    def list_reassignments(
        self, request: messages.ListPartitionReassignmentsRequest
    ) -> messages.ListPartitionReassignmentsResponse:
        """Answered from the durable image; partitions that do not move are left out."""
        asked = None
        if request.partitions is not None:
            asked = {(place.topic, place.partition) for place in request.partitions}
        return messages.ListPartitionReassignmentsResponse(
            [
                messages.OngoingReassignment(
                    topic.name,
                    index,
                    list(state.replicas),
                    list(state.adding),
                    list(state.removing),
                    list(state.isr),
                )
                for topic in self._shell.view.topics.values()
                for index, state in enumerate(topic.partitions)
                if state.adding or state.removing
                if asked is None or (topic.name, index) in asked
            ]
        )

    async def elect_leaders(
        self, request: messages.ElectLeadersRequest
    ) -> messages.ElectLeadersResponse:
        """Answered when the new leaders are recorded."""
        chosen = None
        if request.partitions is not None:
            chosen = [TopicPartition(place.topic, place.partition) for place in request.partitions]
        answers: Sequence[ElectionAnswer] = await self._shell.submit(
            ElectLeaders(request.unclean, chosen)
        )
        return messages.ElectLeadersResponse([_result(*answer) for answer in answers])

    def describe_brokers(
        self, request: messages.DescribeBrokersRequest
    ) -> messages.DescribeBrokersResponse:
        """Answered from the durable image and the brokers' heartbeats."""
        image = self._shell.view
        counts = {broker_id: _Counts() for broker_id in image.brokers}
        for topic in image.topics.values():
            for state in topic.partitions:
                counts[state.replicas[0]].preferred += 1
                for broker_id in state.replicas:
                    counts[broker_id].replicas += 1
                    counts[broker_id].leaders += broker_id == state.leader
                    counts[broker_id].out_of_sync += broker_id not in state.isr
        return messages.DescribeBrokersResponse(
            [
                self._describe(image, broker, counts[broker_id])
                for broker_id, broker in sorted(image.brokers.items())
            ]
        )

    async def drain_broker(
        self, request: messages.DrainBrokerRequest
    ) -> messages.DrainBrokerResponse:
        """Answered when no replica is placed there any more."""
        await self._shell.submit(DrainBroker(request.broker_id, request.draining))
        return messages.DrainBrokerResponse()

    async def restart_broker(
        self, request: messages.RestartBrokerRequest
    ) -> messages.RestartBrokerResponse:
        """Answered when the broker has stopped and is about to start."""
        await self._reconciler.restart_broker(request.broker_id, force=request.force)
        return messages.RestartBrokerResponse()

    async def unregister_broker(
        self, request: messages.UnregisterBrokerRequest
    ) -> messages.UnregisterBrokerResponse:
        """Answered when the broker is gone."""
        await self._reconciler.retire_broker(request.broker_id)
        return messages.UnregisterBrokerResponse()

    def _describe(
        self, image: MetadataImage, broker: BrokerState, counts: _Counts
    ) -> messages.BrokerDescription:
        slots = [SlotKey(broker.broker_id, slot) for slot in range(broker.slots)]
        return messages.BrokerDescription(
            broker_id=broker.broker_id,
            host=broker.host,
            rack=broker.rack,
            node_id=broker.node_id,
            state=self._state(broker),
            incarnation=broker.incarnation,
            slots=broker.slots,
            alive_slots=sum(map(image.actor_runs, slots)),
            replicas=counts.replicas,
            leaders=counts.leaders,
            preferred_leaders=counts.preferred,
            out_of_sync=counts.out_of_sync,
            usable_bytes=self._reconciler.usable_bytes(broker.broker_id),
        )

    def _state(self, broker: BrokerState) -> str:
        if broker.stopping:
            return "stopping"
        if broker.fenced:
            starting = self._reconciler.is_broker_starting(broker.broker_id)
            return "starting" if starting else "fenced"
        return "draining" if broker.draining else "alive"


class _Counts:
    """Replicas of one broker."""

    def __init__(self) -> None:
        self.replicas = 0
        self.leaders = 0
        self.preferred = 0
        self.out_of_sync = 0


def _result(topic: str, partition: int, error: RaykafkaError | None) -> messages.PartitionResult:
    if error is None:
        return messages.PartitionResult(topic, partition)
    return messages.PartitionResult(topic, partition, error.code, error.message)
