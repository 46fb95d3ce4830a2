"""The part of ``Admin`` that moves replicas and leaders and looks after brokers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from raykafka.client.cluster.deadline import Deadline
from raykafka.client.cluster.metadata import ClusterMetadata, TopicMetadata
from raykafka.client.operating.planning import (
    TOLERANCE,
    BrokerCapacity,
    Move,
    MovePlan,
    PartitionLoad,
    plan_assignment,
    plan_drain,
    plan_rebalance,
)
from raykafka.clock import Clock
from raykafka.errors import (
    BrokerIdNotRegisteredError,
    ElectionNotNeededError,
    InvalidRequestError,
    NotEnoughReplicasError,
    ReassignmentInProgressError,
    RequestTimedOutError,
    error_for,
)
from raykafka.model import TopicPartition
from raykafka.protocol.messages import (
    ApiKey,
    ConfigChange,
    ConfigEntry,
    ConfigResource,
    DescribeLogDirsResponse,
    Message,
)
from raykafka.protocol.operations_messages import (
    AlterPartitionReassignmentsRequest,
    BrokerDescription,
    DescribeBrokersRequest,
    DrainBrokerRequest,
    ElectLeadersRequest,
    ListPartitionReassignmentsRequest,
    OngoingReassignment,
    PartitionName,
    PartitionReassignment,
    PartitionResult,
    RestartBrokerRequest,
    UnregisterBrokerRequest,
)

OnProgress = Callable[[int, int], None]
"""Told (done, total) as long work goes on."""
Place = TopicPartition | tuple[str, int]

_POLL_MS: Final = 200
_ALL_BROKERS: Final = ConfigResource("broker", "")
_RATES: Final = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")
_PREFERRED: Final = "preferred"
_UNCLEAN: Final = "unclean"


class ClusterOperations(ABC):
    """Operations of a cluster; methods of ``Admin``.

    What takes long takes ``timeout_ms``, None for as long as it needs, and reports to
    ``on_progress``. When the time is over ``RequestTimedOutError`` is raised and the cluster goes
    on with what was begun. ``throttle`` bounds what each broker sends and receives for replicas
    that are not in sync meanwhile, in bytes per second.
    """

    _metadata: ClusterMetadata
    _clock: Clock

    # --- replicas ---------------------------------------------------------------------------------

    def alter_partition_reassignments(
        self, reassignments: Mapping[Place, Sequence[int] | None]
    ) -> None:
        """Begin to move partitions to these brokers, preferred leader first; None cancels
        (KIP-455). The old replicas are kept until all of the new ones are in sync.

        Raises ``InvalidReplicaAssignmentError`` for brokers that are unknown, not alive or named
        twice, ``NoReassignmentInProgressError``, ``UnknownTopicOrPartitionError``; the other
        partitions move all the same.
        """
        wanted = [
            PartitionReassignment(topic, partition, None if replicas is None else list(replicas))
            for (topic, partition), replicas in reassignments.items()
        ]
        request = AlterPartitionReassignmentsRequest(wanted)
        _check(self._call(ApiKey.ALTER_PARTITION_REASSIGNMENTS, request).partitions)

    def list_partition_reassignments(
        self, partitions: Iterable[Place] | None = None
    ) -> dict[TopicPartition, OngoingReassignment]:
        """The moves that are under way, of these partitions or of all."""
        asked = None if partitions is None else [PartitionName(*place) for place in partitions]
        request = ListPartitionReassignmentsRequest(asked)
        found = self._call(ApiKey.LIST_PARTITION_REASSIGNMENTS, request).partitions
        return {TopicPartition(each.topic, each.partition): each for each in found}

    def elect_leaders(
        self, election_type: str = _PREFERRED, partitions: Iterable[Place] | None = None
    ) -> list[TopicPartition]:
        """Elect ``"preferred"`` leaders, or ``"unclean"`` ones where nobody leads; returns the
        partitions that got another leader. None stands for all partitions.

        An unclean election may lose acknowledged records. Raises
        ``PreferredLeaderNotAvailableError`` and ``EligibleLeadersNotAvailableError`` for partitions
        that were named.
        """
        if election_type not in (_PREFERRED, _UNCLEAN):
            raise InvalidRequestError(
                f"there is no {election_type!r} election; use {_PREFERRED!r} or {_UNCLEAN!r}"
            )
        asked = None if partitions is None else [PartitionName(*place) for place in partitions]
        request = ElectLeadersRequest(election_type == _UNCLEAN, asked)
        results: list[PartitionResult] = self._call(ApiKey.ELECT_LEADERS, request).partitions
        not_needed = ElectionNotNeededError.code
        needed = [result for result in results if result.error_code != not_needed]
        _check(needed)
        return [TopicPartition(result.topic, result.partition) for result in needed]

    # --- plans ------------------------------------------------------------------------------------

    def plan_rebalance(self, *, tolerance: float = TOLERANCE) -> MovePlan:
        """Moves that level replicas, bytes and leaders over the brokers; see ``execute_moves``.

        Brokers within ``tolerance`` of their share, a fraction, are left alone.
        """
        return plan_rebalance(self._capacities(), self._loads(), tolerance=tolerance)

    def plan_reassignment(
        self,
        topics: Iterable[str],
        *,
        brokers: Collection[int] | None = None,
        replication_factor: int | None = None,
    ) -> MovePlan:
        """Moves that bring topics to these brokers (None: all), in that many copies (None: as many
        as they have).

        Raises ``UnknownTopicOrPartitionError``, ``InvalidReplicaAssignmentError`` and
        ``InvalidReplicationFactorError``.
        """
        capacities = self._capacities()
        allowed = [c.broker_id for c in capacities] if brokers is None else list(brokers)
        chosen = {
            TopicPartition(topic.name, part.partition)
            for topic in self.describe_topics(list(topics))
            for part in topic.partitions
        }
        return plan_assignment(
            capacities,
            self._loads(),
            chosen,
            allowed=allowed,
            replication_factor=replication_factor,
        )

    def plan_drain(self, broker_ids: Collection[int]) -> MovePlan:
        """Moves that leave nothing on these brokers; raises ``InvalidReplicationFactorError``."""
        return plan_drain(self._capacities(keep=broker_ids), self._loads(), broker_ids)

    def execute_moves(
        self,
        moves: MovePlan | Iterable[Move],
        *,
        throttle: int | None = None,
        timeout_ms: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Carry out a plan and wait until all of it is done; preferred leaders lead then.

        Raises as ``alter_partition_reassignments`` does.
        """
        listed = list(moves.moves if isinstance(moves, MovePlan) else moves)
        if not listed:
            return
        deadline = Deadline(self._clock, timeout_ms)
        places = [move.place for move in listed]
        with self._throttled(throttle):
            self._begin(listed, deadline)
            while left := self.list_partition_reassignments(places):
                _tell(on_progress, len(places) - len(left), len(places))
                self._pause(deadline, f"{len(left)} of {len(places)} partitions still move")
        _tell(on_progress, len(places), len(places))
        self.elect_leaders()

    # --- brokers ----------------------------------------------------------------------------------

    def describe_brokers(self) -> list[BrokerDescription]:
        """Every broker, what it holds and how it is."""
        found: list[BrokerDescription] = self._call(
            ApiKey.DESCRIBE_BROKERS, DescribeBrokersRequest()
        ).brokers
        return found

    def drain_broker(
        self,
        broker_id: int,
        *,
        throttle: int | None = None,
        timeout_ms: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Move everything away from a broker; it takes nothing new until ``resume_broker``.

        Raises ``InvalidReplicationFactorError`` when the other brokers are too few.
        """
        self._call(ApiKey.DRAIN_BROKER, DrainBrokerRequest(broker_id))
        plan = self.plan_drain([broker_id])
        self.execute_moves(plan, throttle=throttle, timeout_ms=timeout_ms, on_progress=on_progress)

    def resume_broker(self, broker_id: int) -> None:
        """Let a drained broker take new replicas again; what was moved stays where it is."""
        self._call(ApiKey.DRAIN_BROKER, DrainBrokerRequest(broker_id, draining=False))

    def decommission_broker(
        self,
        broker_id: int,
        *,
        throttle: int | None = None,
        timeout_ms: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Drain a broker, stop it and forget it; its node is left alone from then on.

        Raises as ``drain_broker`` does.
        """
        self.drain_broker(
            broker_id, throttle=throttle, timeout_ms=timeout_ms, on_progress=on_progress
        )
        self._call(ApiKey.UNREGISTER_BROKER, UnregisterBrokerRequest(broker_id))

    def restart_broker(
        self, broker_id: int, *, force: bool = False, timeout_ms: float | None = 300_000
    ) -> None:
        """Restart a broker; returns when all of its replicas are in sync again.

        Others lead meanwhile. Waits until the other replicas are enough for writes with acks=all,
        unless ``force``.
        """
        deadline = Deadline(self._clock, timeout_ms)
        before = self._broker(broker_id)
        while True:
            try:
                self._call(ApiKey.RESTART_BROKER, RestartBrokerRequest(broker_id, force))
                break
            except NotEnoughReplicasError as error:
                self._pause(deadline, f"broker {broker_id} is not restarted: {error.message}")
        while not _is_back(now := self._broker(broker_id), before):
            self._pause(
                deadline,
                f"broker {broker_id} is {now.state} with {now.alive_slots} of {now.slots} partition"
                f" actors, {now.out_of_sync} of its replicas are out of sync",
            )

    def restart_brokers(
        self,
        broker_ids: Iterable[int] | None = None,
        *,
        force: bool = False,
        timeout_ms: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Restart brokers one after the other (None: all that are alive), so that topics with
        enough replicas are written and read throughout; preferred leaders lead at the end.
        """
        if broker_ids is None:
            broker_ids = [b.broker_id for b in self.describe_brokers() if b.state != "fenced"]
        chosen = list(broker_ids)
        deadline = Deadline(self._clock, timeout_ms)
        for done, broker_id in enumerate(chosen):
            _tell(on_progress, done, len(chosen))
            left = None if timeout_ms is None else deadline.remaining_ms(1 << 31)
            self.restart_broker(broker_id, force=force, timeout_ms=left)
        _tell(on_progress, len(chosen), len(chosen))
        self.elect_leaders()

    # --- what ``Admin`` brings --------------------------------------------------------------------

    @abstractmethod
    def describe_topics(self, names: Iterable[str] | None = None) -> list[TopicMetadata]:
        """See ``Admin``."""

    @abstractmethod
    def describe_log_dirs(self) -> list[DescribeLogDirsResponse]:
        """See ``Admin``."""

    @abstractmethod
    def describe_configs(
        self, resources: Iterable[ConfigResource]
    ) -> dict[ConfigResource, list[ConfigEntry]]:
        """See ``Admin``."""

    @abstractmethod
    def incremental_alter_configs(
        self,
        changes: Mapping[ConfigResource, Sequence[ConfigChange] | Mapping[str, str | None]],
        *,
        validate_only: bool = False,
    ) -> None:
        """See ``Admin``."""

    @abstractmethod
    def _call(self, api_key: ApiKey, request: Message) -> Any:
        """A request to the controller, repeated within the call's time."""

    # --- inside -----------------------------------------------------------------------------------

    def _begin(self, moves: Sequence[Move], deadline: Deadline) -> None:
        """Submit moves; where an older copy is still being deleted they are tried again."""
        while True:
            try:
                return self.alter_partition_reassignments({m.place: m.after for m in moves})
            except ReassignmentInProgressError as error:
                self._pause(deadline, error.message)

    @contextmanager
    def _throttled(self, rate: int | None) -> Iterator[None]:
        """Bounds copying for the time; what was set before is set again."""
        if rate is None:
            yield
            return
        entries = self.describe_configs([_ALL_BROKERS])[_ALL_BROKERS]
        before = {
            entry.name: entry.value if entry.source == "cluster" else None
            for entry in entries
            if entry.name in _RATES
        }
        self.incremental_alter_configs({_ALL_BROKERS: dict.fromkeys(_RATES, str(rate))})
        try:
            yield
        finally:
            self.incremental_alter_configs({_ALL_BROKERS: before})

    def _capacities(self, keep: Collection[int] = ()) -> list[BrokerCapacity]:
        """Brokers that take replicas, and those in ``keep``."""
        return [
            BrokerCapacity(broker.broker_id, broker.rack, max(1, broker.slots))
            for broker in self.describe_brokers()
            if broker.state == "alive" or broker.broker_id in keep
        ]

    def _loads(self) -> list[PartitionLoad]:
        sizes: dict[TopicPartition, int] = {}
        for directory in self.describe_log_dirs():
            for stored in directory.partitions:
                place = TopicPartition(stored.topic, stored.partition)
                sizes[place] = max(sizes.get(place, 0), stored.size_bytes)
        return [
            PartitionLoad(place, part.target_replicas, sizes.get(place, 0))
            for topic in self.describe_topics()
            for part in topic.partitions
            for place in (TopicPartition(topic.name, part.partition),)
        ]

    def _broker(self, broker_id: int) -> BrokerDescription:
        brokers = {broker.broker_id: broker for broker in self.describe_brokers()}
        if broker_id not in brokers:
            raise BrokerIdNotRegisteredError(
                f"there is no broker {broker_id}; known are {sorted(brokers)}"
            )
        return brokers[broker_id]

    def _pause(self, deadline: Deadline, problem: str) -> None:
        if deadline.expired:
            raise RequestTimedOutError(f"the time is over: {problem}; the cluster goes on with it")
        self._metadata.pause(deadline.remaining_ms(_POLL_MS))


def _is_back(now: BrokerDescription, before: BrokerDescription) -> bool:
    restarted = now.incarnation > before.incarnation and now.state in ("alive", "draining")
    return restarted and now.alive_slots == now.slots and now.out_of_sync == 0


def _tell(on_progress: OnProgress | None, done: int, total: int) -> None:
    if on_progress is not None:
        on_progress(done, total)


def _check(results: Iterable[PartitionResult]) -> None:
    failed = [result for result in results if result.error_code]
    if failed:
        first = failed[0]
        others = ", ".join(f"{result.topic}-{result.partition}" for result in failed[1:])
        more = f" (also refused: {others})" if others else ""
        raise error_for(first.error_code, f"{first.error_message}{more}")
