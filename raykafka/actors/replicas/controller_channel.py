"""A partition actor's line to the active controller: its lease, and what its leaders propose.

One connection, found again whenever it ends: every voter that is known is asked in turn, and the
one that is not active says so. A proposal that was not answered is sent again, because it may have
been accepted. So may one that is refused because the partition has changed: perhaps it was this
very proposal that changed it. Only a refusal of what would have fitted says that it was never made;
after any other the replica goes on counting with both, until it hears what the partition is now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from raykafka.actors.ports import Connector, PartitionActorSpec, PeerConnection
from raykafka.actors.replicas.lease import Lease
from raykafka.actors.replicas.replica import Replica
from raykafka.clock import Clock
from raykafka.config import BrokerConfig
from raykafka.errors import (
    ConnectionLostError,
    IneligibleReplicaError,
    InvalidRequestError,
    NotControllerError,
    RaykafkaError,
    error_for,
)
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.quorum_messages import DescribeQuorumRequest, DescribeQuorumResponse
from raykafka.protocol.replication_messages import (
    ActorHeartbeatRequest,
    ActorHeartbeatResponse,
    AlteredPartition,
    AlteredPartitionResult,
    AlterPartitionsRequest,
    AlterPartitionsResponse,
    FailedReplicaInfo,
    FailReplicasRequest,
    IsrMemberInfo,
)
from raykafka.replication.events import IsrChanged, IsrRefused

logger = logging.getLogger(__name__)

_PAUSE_S: Final = 0.05
"""Between two rounds of asking every voter who is active."""
_MAX_PROPOSALS: Final = 1000
"""Partitions in one request."""
_NEVER_MADE: Final = (IneligibleReplicaError, InvalidRequestError)
"""Refusals that come after the epochs of leader and partition were found to be current."""


class ControllerChannel:
    """See the module's docstring; ``outlets.Proposals`` of the actor's replicas."""

    def __init__(
        self,
        spec: PartitionActorSpec,
        config: BrokerConfig,
        connector: Connector,
        clock: Clock,
        lease: Lease,
        on_replaced: Callable[[], None],
    ) -> None:
        """``on_replaced`` is called when the controller says that another actor has the slot."""
        self._spec = spec
        self._connector = connector
        self._clock = clock
        self._lease = lease
        self._on_replaced = on_replaced
        self._interval_s = config.broker_heartbeat_interval_ms / 1000
        self._session_ms = config.broker_session_timeout_ms
        self._patience_s = max(self._interval_s, config.broker_session_timeout_ms / 4000)
        self._controllers: Sequence[Endpoint] = spec.controllers
        self._proposals: dict[Replica, AlteredPartition] = {}
        self._failed: dict[Replica, FailedReplicaInfo] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def controllers(self) -> Sequence[Endpoint]:
        """Voters that may be active, as far as is known, the likeliest first."""
        return self._controllers

    def start(self) -> None:
        """Begin to renew the lease; an actor that knows no controller keeps what it has."""
        if self._controllers:
            self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """Say nothing more; the lease runs out."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    # --- Proposals --------------------------------------------------------------------------------

    def propose(self, replica: Replica, isr: frozenset[int], partition_epoch: int) -> None:
        """Ask for another ISR; the replica's machine hears of the answer."""
        machine, spec = replica.machine, self._spec
        members = [
            IsrMemberInfo(
                broker_id,
                spec.incarnation
                if broker_id == spec.broker_id
                else machine.in_sync.incarnation(broker_id),
            )
            for broker_id in sorted(isr)
        ]
        proposal = AlteredPartition(
            *replica.partition, machine.leader_epoch, partition_epoch, members
        )
        if self._proposals.get(replica) != proposal:  # else it is on its way
            self._proposals[replica] = proposal
            self._wake.set()

    def report_failed(self, replica: Replica) -> None:
        """The replica's log cannot be used: another one shall lead."""
        self._failed[replica] = FailedReplicaInfo(*replica.partition)
        self._wake.set()

    # --- the line ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            began_ms = self._clock.monotonic_ms()
            voters, refused = list(self._controllers), 0
            for endpoint in voters:
                try:
                    connection = await self._connector(
                        endpoint,
                        self._spec.secret,
                        client_id=self._spec.name,
                        timeout_s=self._patience_s,
                    )
                except RaykafkaError as error:
                    logger.debug("%s: no controller at %s: %s", self._spec.name, endpoint, error)
                    refused += isinstance(error.__cause__, ConnectionRefusedError)
                    continue
                try:
                    await self._talk(connection)
                except NotControllerError:
                    await self._learn_voters(connection)
                except RaykafkaError as error:
                    logger.debug("%s: %s", self._spec.name, error)
                finally:
                    connection.close()
            if refused == len(voters):
                self._lease.extend(began_ms + self._session_ms, self._clock.monotonic_ms())
            await asyncio.sleep(_PAUSE_S)

    async def _learn_voters(self, connection: PeerConnection) -> None:
        """A voter that is not active knows all voters, and mostly who is."""
        try:
            answer = await connection.call(
                ApiKey.DESCRIBE_QUORUM, DescribeQuorumRequest(), timeout_s=self._patience_s
            )
        except RaykafkaError as error:
            logger.debug("%s: %s", self._spec.name, error)
            return
        assert isinstance(answer, DescribeQuorumResponse)
        voters = sorted(answer.replicas, key=lambda each: each.replica_id != answer.leader_id)
        known = [Endpoint(each.host, each.port) for each in voters if each.port]
        self._controllers = known or self._controllers

    async def _talk(self, connection: PeerConnection) -> None:
        """Until the connection ends, or whoever it leads to is not the active controller."""
        connection.on_close(self._wake.set)
        next_beat_ms = self._clock.monotonic_ms()
        while not connection.closed:
            now_ms = self._clock.monotonic_ms()
            if now_ms >= next_beat_ms:
                renewed = await self._beat(connection, now_ms)
                next_beat_ms = now_ms + int((self._interval_s if renewed else _PAUSE_S) * 1000)
            if self._failed:
                await self._send_failed(connection)
            if self._proposals:
                await self._send_proposals(connection)
            await self._pause((next_beat_ms - self._clock.monotonic_ms()) / 1000)
        raise ConnectionLostError("the connection to the controller ended")

    async def _pause(self, timeout_s: float) -> None:
        if timeout_s > 0 and not self._wake.is_set():
            waiter = asyncio.ensure_future(self._wake.wait())
            try:
                await asyncio.wait({waiter}, timeout=timeout_s)
            finally:
                waiter.cancel()
        self._wake.clear()

    async def _beat(self, connection: PeerConnection, now_ms: int) -> bool:
        """Whether the lease was renewed; else this actor has yet to be adopted."""
        spec = self._spec
        answer = await connection.call(
            ApiKey.ACTOR_HEARTBEAT,
            ActorHeartbeatRequest(spec.broker_id, spec.slot, spec.incarnation),
            timeout_s=self._patience_s,
        )
        assert isinstance(answer, ActorHeartbeatResponse)
        if answer.replaced:
            logger.warning("%s has been replaced", spec.name)
            self._on_replaced()
            return False
        self._lease.renew(now_ms + answer.lease_ms)
        if answer.controllers:
            self._controllers = [Endpoint(each.host, each.port) for each in answer.controllers]
        return answer.lease_ms > 0

    async def _send_proposals(self, connection: PeerConnection) -> None:
        spec = self._spec
        sent = dict(list(self._proposals.items())[:_MAX_PROPOSALS])
        answer = await connection.call(
            ApiKey.ALTER_PARTITIONS,
            AlterPartitionsRequest(
                spec.broker_id, spec.slot, spec.incarnation, list(sent.values())
            ),
            timeout_s=self._patience_s,
        )
        assert isinstance(answer, AlterPartitionsResponse)
        results = {(each.topic_id, each.partition): each for each in answer.partitions}
        for replica, proposal in sent.items():
            newest = self._proposals.get(replica) is proposal
            if newest:
                del self._proposals[replica]
            result = results.get(replica.partition)
            if result is not None and replica.leader_epoch == proposal.leader_epoch:
                self._on_result(replica, result, newest)

    def _on_result(self, replica: Replica, result: AlteredPartitionResult, newest: bool) -> None:
        event: IsrChanged | IsrRefused
        if result.error_code:
            error = error_for(result.error_code, result.error_message)
            logger.info("%s-%d: %s", replica.topic, result.partition, error)
            if not newest or not isinstance(error, _NEVER_MADE):
                return
            event = IsrRefused()
        elif result.leader_epoch == replica.leader_epoch:
            event = IsrChanged(frozenset(result.isr), result.partition_epoch)
        else:
            return
        replica.apply(replica.machine.on_event(event, now_ms=self._clock.monotonic_ms()))

    async def _send_failed(self, connection: PeerConnection) -> None:
        spec = self._spec
        sent = dict(self._failed)
        await connection.call(
            ApiKey.FAIL_REPLICAS,
            FailReplicasRequest(spec.broker_id, spec.slot, spec.incarnation, list(sent.values())),
            timeout_s=self._patience_s,
        )
        for replica in sent:
            self._failed.pop(replica, None)
