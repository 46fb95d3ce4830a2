"""``PartitionActor``: the house of the replicas placed on it, with one listener for all of them.

Everything runs on one loop, without locks. What blocks (fsync, opening and deleting logs) runs in
threads that touch nothing but the log they were given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raykafka.actors.coordinating.host import CoordinatorHost
from raykafka.actors.coordinating.kind import CoordinatorContext
from raykafka.actors.coordinating.kinds import service_kinds
from raykafka.actors.environment import Environment
from raykafka.actors.lines import CatchUpLine
from raykafka.actors.peers import Peers
from raykafka.actors.ports import (
    ActorStarted,
    AssignmentResult,
    Handler,
    Listener,
    PartitionActorSpec,
    PartitionAssignment,
    PartitionRemoval,
    PeerConnection,
)
from raykafka.actors.replicas.assigning import Assigner
from raykafka.actors.replicas.catch_up_serving import CatchUpHandler
from raykafka.actors.replicas.controller_channel import ControllerChannel
from raykafka.actors.replicas.copying import CopyHandler
from raykafka.actors.replicas.fetch import FetchHandler
from raykafka.actors.replicas.flushing import Flusher
from raykafka.actors.replicas.following import Following
from raykafka.actors.replicas.lease import Lease
from raykafka.actors.replicas.listening import listen
from raykafka.actors.replicas.markers import MarkerHandler
from raykafka.actors.replicas.outlets import HighWatermarks, Outlets
from raykafka.actors.replicas.own_appends import OwnAppends
from raykafka.actors.replicas.produce import ProduceHandler
from raykafka.actors.replicas.queries import QueryHandler
from raykafka.actors.replicas.reading import PartitionReader
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.actors.replicas.throttle import Throttle
from raykafka.actors.replicas.transactional import TransactionGate
from raykafka.actors.replicas.upkeep import Upkeep
from raykafka.actors.replicas.verifying import TransactionVerifier
from raykafka.actors.replicas.waiting import WakeQueue
from raykafka.actors.requests import RequestTasks
from raykafka.actors.sharing.sharing import Sharing
from raykafka.clock import Clock
from raykafka.config import BrokerConfig
from raykafka.errors import IllegalStateError, NotLeaderOrFollowerError, RaykafkaError
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey
from raykafka.storage.api import SegmentStore
from raykafka.storage.disk_guard import DiskGuard
from raykafka.storage.disk_usage import disk_reserve

logger = logging.getLogger(__name__)

_CLOSE_SLICE = 32
_CONNECT_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class _Parts:
    """What a started actor is made of."""

    store: SegmentStore
    flusher: Flusher
    following: Following
    channel: ControllerChannel
    high_watermarks: HighWatermarks
    assigner: Assigner
    upkeep: Upkeep
    reader: PartitionReader
    requests: RequestTasks
    transactions: TransactionGate
    coordinators: CoordinatorHost
    sharing: Sharing
    peers: Peers
    listener: Listener


class PartitionActor:
    """Serves the replicas that the controller assigns; see ``PartitionActorPort``.

    The constructor only remembers; ``start`` does the work.
    """

    def __init__(self, spec: PartitionActorSpec, environment: Environment) -> None:
        self.spec = spec
        self.pid = environment.pid
        self._environment = environment
        self._clock = environment.clock
        self._lease = Lease(needed=bool(spec.controllers))
        self._replicas = ReplicaSet(self._lease)
        self._replaced = asyncio.Event()
        self._directory = environment.directory_factory(spec.log_dir, slot=spec.slot)
        self._changing = asyncio.Lock()
        self._started: ActorStarted | None = None
        self._parts: _Parts | None = None

    async def start(self) -> ActorStarted:
        """Lock the slot and listen; called again it gives the same answer.

        Raises ``LogDirLockedError`` while another process owns the slot, ``InvalidConfigError``, or
        ``NetworkError`` when no port of ``listener.ports`` is free.
        """
        async with self._changing:
            if self._started is None:
                self._directory.lock()
                try:
                    self._started = await self._start()
                except BaseException:
                    self._directory.unlock()
                    raise
            return self._started

    async def assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        """Open, re-configure or delete replicas; one result each, removals first.

        Raises ``IllegalStateError`` unless the actor is started.
        """
        if self._parts is None:
            raise IllegalStateError(f"{self.spec.name} is not started")
        return await self._parts.assigner.assign(assignments, removals)

    async def wait_replaced(self) -> None:
        """Return when the controller says that another actor has taken this one's slot."""
        await self._replaced.wait()

    async def stop(self) -> None:
        """Close every log cleanly and release the slot; nothing happens when it is not started."""
        async with self._changing:
            parts, self._parts, self._started = self._parts, None, None
            if parts is None:
                return
            await parts.listener.close()
            await parts.requests.close()
            await parts.transactions.close()
            await parts.sharing.close()
            await parts.coordinators.close()
            await parts.peers.close()
            await parts.channel.close()
            parts.reader.close()
            parts.upkeep.stop()
            parts.high_watermarks.close()
            await parts.following.close()
            await parts.assigner.close()
            await parts.flusher.close()
            clean = await self._close_logs()
            parts.store.close()
            self._directory.unlock(clean=clean)

    async def crash(self) -> None:
        """Let go of everything without closing any log, as a process that is killed does.

        For test kits that run several actors in one process.
        """
        async with self._changing:  # one killed while it starts must not live on behind its lock
            parts, self._parts, self._started = self._parts, None, None
            if parts is not None:
                parts.upkeep.stop()
                parts.flusher.abandon()
                await parts.listener.close()
                await parts.requests.close()
                await parts.transactions.close()
                await parts.sharing.close()
                await parts.coordinators.close()
                await parts.peers.close()
                await parts.channel.close()
                parts.reader.close()
                parts.high_watermarks.close()
                await parts.following.close()
                await parts.assigner.close()
                self._directory.unlock()

    async def _start(self) -> ActorStarted:
        config, loop = BrokerConfig.parse(self.spec.configs), asyncio.get_running_loop()
        environment, clock, replicas = self._environment, self._clock, self._replicas
        store = environment.store_factory(self._directory.path)
        disk_guard = self._guard_disk(config)
        channel = ControllerChannel(
            self.spec, config, environment.connector, clock, self._lease, self._replaced.set
        )
        high_watermarks, wake = HighWatermarks(loop), WakeQueue(loop)
        flusher = self._make_flusher(lambda replica: following.acknowledge(replica))
        following = Following(
            (self.spec.broker_id, self.spec.incarnation),
            self._connect,
            self._open_line,
            config.replica_fetch_max_bytes,
            clock,
            flusher.on_appended,
            self._on_log_failed,
        )
        reader = PartitionReader(environment.host_id)
        requests, throttle = RequestTasks(), Throttle()
        peers = self._make_peers(channel)
        appends, transactions = OwnAppends(wake, flusher, clock), _gate(peers)
        coordinators = _coordinators(config, appends, self._lease, clock, peers)
        sharing = Sharing(replicas, reader, peers, clock, config.coordinators)
        handlers = _handlers(
            ProduceHandler(replicas, wake, flusher, disk_guard, clock, transactions),
            FetchHandler(replicas, reader, loop, clock, config.max_parked_fetches),
            QueryHandler(replicas, disk_guard, clock, self.spec.broker_id),
            CopyHandler(replicas, reader, throttle, clock),
            CatchUpHandler(replicas, reader, throttle, clock),
            MarkerHandler(replicas, appends, clock, coordinators.end_transaction),
            requests,
            coordinators,
            sharing,
        )
        listener, endpoint = await listen(environment.listener_factory, self.spec, config, handlers)
        outlets = Outlets(wake, high_watermarks, channel, throttle, coordinators)
        assigner = Assigner(
            replicas,
            store,
            outlets,
            flusher,
            following,
            clock,
            config,
            self.spec.broker_id,
            intact=self._directory.is_intact(),
        )
        turn, check_ms = following.catch_up.first_turn, config.log_retention_check_interval_ms
        upkeep = Upkeep(replicas, flusher, clock, turn, check_ms)
        upkeep.start()
        channel.start()
        self._parts = _Parts(
            store,
            flusher,
            following,
            channel,
            high_watermarks,
            assigner,
            upkeep,
            reader,
            requests,
            transactions,
            coordinators,
            sharing,
            peers,
            listener,
        )
        return ActorStarted(self.pid, endpoint)

    def _make_peers(self, channel: ControllerChannel) -> Peers:
        spec, connector = self.spec, self._environment.connector
        return Peers(connector, spec.secret, spec.name, self._clock, channel.controllers)

    def _make_flusher(self, on_flushed: Callable[[Replica], None]) -> Flusher:
        loop, group_commit = asyncio.get_running_loop(), self._environment.group_commit
        return Flusher(loop, group_commit, self._on_log_failed, on_flushed)

    def _guard_disk(self, config: BrokerConfig) -> DiskGuard:
        path, usage_of = self._directory.path, self._environment.disk_usage
        reserve = disk_reserve(path, config.disk_reserve_bytes, usage_of)
        return DiskGuard(path, reserve, clock=self._clock, usage_of=usage_of)

    async def _connect(self, endpoint: Endpoint) -> PeerConnection:
        return await self._environment.connector(
            endpoint, self.spec.secret, client_id=self.spec.name, timeout_s=_CONNECT_TIMEOUT_S
        )

    async def _open_line(self, endpoint: Endpoint) -> CatchUpLine:
        return await self._environment.catch_up_connector(
            endpoint, self.spec.secret, client_id=self.spec.name, timeout_s=_CONNECT_TIMEOUT_S
        )

    def _on_log_failed(self, replica: Replica, error: RaykafkaError) -> None:
        """What was not flushed must be held to be lost: nothing of this log is served any more."""
        logger.error("%s: %s", replica.topic, error)
        if self._replicas.get(replica.partition) is replica:
            self._replicas.fail(replica.assignment, error)
            replica.resign(error, now_ms=self._clock.monotonic_ms())
            if self._parts is not None:
                self._parts.following.stop(replica)
                self._parts.channel.report_failed(replica)

    async def _close_logs(self) -> bool:
        """Close every log in a thread; True when all of them are clean."""
        error = NotLeaderOrFollowerError(f"{self.spec.name} is shutting down; refresh the metadata")
        replicas = list(self._replicas)
        for replica in replicas:
            replica.resign(error, now_ms=self._clock.monotonic_ms())
        loop = asyncio.get_running_loop()
        clean = True
        for start in range(0, len(replicas), _CLOSE_SLICE):
            part = replicas[start : start + _CLOSE_SLICE]
            clean = await loop.run_in_executor(None, _close_logs, part) and clean
        self._replicas = ReplicaSet(self._lease)
        return clean


def _coordinators(
    config: BrokerConfig, appends: OwnAppends, lease: Lease, clock: Clock, peers: Peers
) -> CoordinatorHost:
    kinds = service_kinds(CoordinatorContext(config.coordinators, clock, peers))
    return CoordinatorHost(kinds, appends, lease, clock, peers)


def _gate(peers: Peers) -> TransactionGate:
    return TransactionGate(TransactionVerifier(peers))


def _close_logs(replicas: Sequence[Replica]) -> bool:
    """Runs in a thread; a log that does not close is recovered at the next start."""
    clean = True
    for replica in replicas:
        try:
            replica.log.high_watermark = replica.high_watermark
            replica.log.close()
        except RaykafkaError as error:
            logger.error("%s was not closed cleanly: %s", replica.topic, error)
            clean = False
    return clean


def _handlers(
    produce: ProduceHandler,
    fetch: FetchHandler,
    queries: QueryHandler,
    copies: CopyHandler,
    catching_up: CatchUpHandler,
    markers: MarkerHandler,
    requests: RequestTasks,
    coordinators: CoordinatorHost,
    sharing: Sharing,
) -> Mapping[ApiKey, Handler]:
    return {
        **coordinators.handlers(),
        **sharing.handlers(),
        ApiKey.PRODUCE: produce.handle,
        ApiKey.FETCH: fetch.handle_fetch,
        ApiKey.FETCH_CREDIT: fetch.handle_credit,
        ApiKey.REPLICATE: copies.handle_replicate,
        ApiKey.REPLICA_POSITION: copies.handle_position,
        ApiKey.CATCH_UP: catching_up.handle,
        ApiKey.LIST_OFFSETS: queries.handle_list_offsets,
        ApiKey.DELETE_RECORDS: requests.handler(queries.delete_records),
        ApiKey.DESCRIBE_LOG_DIRS: queries.handle_describe_log_dirs,
        ApiKey.DESCRIBE_PRODUCERS: queries.handle_describe_producers,
        ApiKey.WRITE_TXN_MARKERS: requests.handler(markers.write_markers),
        ApiKey.ABORT_TRANSACTION: requests.handler(markers.abort_transaction),
    }
