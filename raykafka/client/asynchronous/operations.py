"""The part of ``AsyncAdmin`` that moves replicas and leaders and looks after brokers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from raykafka.client.admin import Admin
from raykafka.client.operating.operations import OnProgress, Place
from raykafka.client.operating.planning import TOLERANCE, Move, MovePlan
from raykafka.model import TopicPartition
from raykafka.protocol.operations_messages import BrokerDescription, OngoingReassignment

T = TypeVar("T")


class AsyncClusterOperations(ABC):
    """The methods of ``ClusterOperations``, awaited; ``on_progress`` is called in another thread.

    Whoever stops waiting does not stop what was begun.
    """

    _admin: Admin

    async def alter_partition_reassignments(
        self, reassignments: Mapping[Place, Sequence[int] | None]
    ) -> None:
        """See ``Admin.alter_partition_reassignments``."""
        await self._run(lambda: self._admin.alter_partition_reassignments(reassignments))

    async def list_partition_reassignments(
        self, partitions: Iterable[Place] | None = None
    ) -> dict[TopicPartition, OngoingReassignment]:
        """See ``Admin.list_partition_reassignments``."""
        places = None if partitions is None else list(partitions)
        return await self._run(lambda: self._admin.list_partition_reassignments(places))

    async def elect_leaders(
        self, election_type: str = "preferred", partitions: Iterable[Place] | None = None
    ) -> list[TopicPartition]:
        """See ``Admin.elect_leaders``."""
        places = None if partitions is None else list(partitions)
        return await self._run(lambda: self._admin.elect_leaders(election_type, places))

    async def plan_rebalance(self, *, tolerance: float = TOLERANCE) -> MovePlan:
        """See ``Admin.plan_rebalance``."""
        return await self._run(lambda: self._admin.plan_rebalance(tolerance=tolerance))

    async def plan_reassignment(
        self,
        topics: Iterable[str],
        *,
        brokers: Collection[int] | None = None,
        replication_factor: int | None = None,
    ) -> MovePlan:
        """See ``Admin.plan_reassignment``."""
        names = list(topics)
        return await self._run(
            lambda: self._admin.plan_reassignment(
                names, brokers=brokers, replication_factor=replication_factor
            )
        )

    async def plan_drain(self, broker_ids: Collection[int]) -> MovePlan:
        """See ``Admin.plan_drain``."""
        return await self._run(lambda: self._admin.plan_drain(broker_ids))

    async def execute_moves(
        self,
        moves: MovePlan | Iterable[Move],
        *,
        throttle: int | None = None,
        timeout_ms: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """See ``Admin.execute_moves``."""
        listed = moves if isinstance(moves, MovePlan) else list(moves)
        await self._run(
            lambda: self._admin.execute_moves(
                listed, throttle=throttle, timeout_ms=timeout_ms, on_progress=on_progress
            )
        )

    async def describe_brokers(self) -> list[BrokerDescription]:
        """See ``Admin.describe_brokers``."""
        return await self._run(self._admin.describe_brokers)

    async def drain_broker(
        self,
        broker_id: int,
        *,
        throttle: int | None = None,
        timeout_ms: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """See ``Admin.drain_broker``."""
        await self._run(
            lambda: self._admin.drain_broker(
                broker_id, throttle=throttle, timeout_ms=timeout_ms, on_progress=on_progress
            )
        )

    async def resume_broker(self, broker_id: int) -> None:
        """See ``Admin.resume_broker``."""
        await self._run(lambda: self._admin.resume_broker(broker_id))

    async def decommission_broker(
        self,
        broker_id: int,
        *,
        throttle: int | None = None,
        timeout_ms: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """See ``Admin.decommission_broker``."""
        await self._run(
            lambda: self._admin.decommission_broker(
                broker_id, throttle=throttle, timeout_ms=timeout_ms, on_progress=on_progress
            )
        )

    async def restart_broker(
        self, broker_id: int, *, force: bool = False, timeout_ms: float | None = 300_000
    ) -> None:
        """See ``Admin.restart_broker``."""
        await self._run(
            lambda: self._admin.restart_broker(broker_id, force=force, timeout_ms=timeout_ms)
        )

    async def restart_brokers(
        self,
        broker_ids: Iterable[int] | None = None,
        *,
        force: bool = False,
        timeout_ms: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """See ``Admin.restart_brokers``."""
        chosen = None if broker_ids is None else list(broker_ids)
        await self._run(
            lambda: self._admin.restart_brokers(
                chosen, force=force, timeout_ms=timeout_ms, on_progress=on_progress
            )
        )

    @abstractmethod
    async def _run(self, call: Callable[[], T]) -> T:
        """The call's result, from a thread."""
