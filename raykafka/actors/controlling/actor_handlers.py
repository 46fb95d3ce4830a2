"""What partition actors ask of the controller over its listener: leases, and who is in sync."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.actors.controlling.reconcile import Reconciler
from raykafka.actors.ports import Handler
from raykafka.actors.requests import RequestTasks, immediate
from raykafka.controller.commands import (
    AlterPartitions,
    FailReplicas,
    IsrAnswer,
    IsrChange,
    IsrMember,
)
from raykafka.controller.image import SlotKey
from raykafka.model import PartitionId, TopicId
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.replication_messages import (
    ActorHeartbeatRequest,
    ActorHeartbeatResponse,
    AlteredPartitionResult,
    AlterPartitionsRequest,
    AlterPartitionsResponse,
    ControllerEndpoint,
    FailReplicasRequest,
    FailReplicasResponse,
)


class ActorHandlers:
    """One method per api; all of them are for brokers only."""

    def __init__(self, context: ClusterContext, reconciler: Reconciler) -> None:
        self._context = context
        self._reconciler = reconciler

    def table(self, requests: RequestTasks) -> Mapping[ApiKey, Handler]:
        """The handlers by api, for a listener."""
        return {
            ApiKey.ACTOR_HEARTBEAT: immediate(self.heartbeat),
            ApiKey.ALTER_PARTITIONS: requests.handler(self.alter_partitions),
            ApiKey.FAIL_REPLICAS: requests.handler(self.fail_replicas),
        }

    def heartbeat(self, request: ActorHeartbeatRequest) -> ActorHeartbeatResponse:
        """Renews a lease, which ends before this controller gives up waiting for the next one, and
        before a successor may do so: it counts from when a majority obeyed this controller last.

        One that a former controller gave up, and this one has not adopted, gets none.
        """
        slot = SlotKey(request.broker_id, request.slot)
        if not self._reconciler.renew_actor(slot, request.incarnation):
            return ActorHeartbeatResponse(replaced=True)
        config = self._context.settings.broker(self._context.image, request.broker_id)
        counts = self._reconciler.counts_on(slot, request.incarnation)
        lease_ms = config.broker_session_timeout_ms - self._context.shell.node.unobeyed_ms()
        return ActorHeartbeatResponse(
            max(0, lease_ms) if counts else 0,
            controllers=[
                ControllerEndpoint(endpoint.host, endpoint.port)
                for endpoint in self._context.controllers
            ],
        )

    async def alter_partitions(self, request: AlterPartitionsRequest) -> AlterPartitionsResponse:
        """Answered when the new ISR is durable; refusals stand inside."""
        changes = [
            IsrChange(
                TopicId(each.topic_id),
                each.partition,
                each.leader_epoch,
                each.partition_epoch,
                [IsrMember(member.broker_id, member.incarnation) for member in each.isr],
            )
            for each in request.partitions
        ]
        command = AlterPartitions(request.broker_id, request.slot, request.incarnation, changes)
        answers: Sequence[IsrAnswer] = await self._context.shell.submit(command)
        return AlterPartitionsResponse(
            [
                AlteredPartitionResult(
                    answer.topic_id,
                    answer.partition,
                    answer.leader_epoch,
                    answer.partition_epoch,
                    list(answer.isr),
                    0 if answer.error is None else answer.error.code,
                    "" if answer.error is None else answer.error.message,
                )
                for answer in answers
            ]
        )

    async def fail_replicas(self, request: FailReplicasRequest) -> FailReplicasResponse:
        """Answered when others have been elected where others can be."""
        partitions = [
            PartitionId(TopicId(each.topic_id), each.partition) for each in request.partitions
        ]
        await self._context.shell.submit(
            FailReplicas(request.broker_id, request.slot, request.incarnation, partitions)
        )
        self._reconciler.replicas_failed(SlotKey(request.broker_id, request.slot), partitions)
        return FailReplicasResponse()
