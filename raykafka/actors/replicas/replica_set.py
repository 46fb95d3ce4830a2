"""Every replica of a partition actor: finds the one a request is about, or says why there is none.

A log that failed stays known by its reason, so that one bad directory never takes its neighbours
down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from raykafka.actors.ports import PartitionAssignment
from raykafka.actors.replicas.lease import Lease
from raykafka.actors.replicas.replica import Replica
from raykafka.errors import NotLeaderOrFollowerError, RaykafkaError, UnknownTopicIdError
from raykafka.model import PartitionId

_REMEMBERED_TOPICS = 10_000


class FailedReplica(NamedTuple):
    """A replica that could not be opened, or whose log failed while it was in use."""

    assignment: PartitionAssignment
    error: RaykafkaError
    in_use: bool
    """Whether it was open: what was written last may be lost, whatever the disk says later."""


class ReplicaSet:
    """Every replica of one partition actor, by topic id and partition."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self._replicas: dict[tuple[str, int], Replica] = {}
        self._failed: dict[tuple[str, int], FailedReplica] = {}
        self._removed_topics: dict[str, None] = {}

    def leader(
        self,
        topic_id: str,
        partition: int,
        leader_epoch: int,
        now_ms: int,
        *,
        or_follower: bool = False,
    ) -> Replica:
        """The replica that leads the partition in ``leader_epoch`` (-1 leaves the epoch unchecked).

        With ``or_follower`` it may follow in that epoch. ``now_ms`` is monotonic, for the lease.
        Raises ``UnknownTopicIdError``, ``NotLeaderOrFollowerError``, ``FencedLeaderEpochError``,
        ``UnknownLeaderEpochError``, or the error that made the replica fail.
        """
        replica = self.find(topic_id, partition)
        if len(replica.machine.in_sync.replicas) != 1:
            self.lease.check(now_ms)
        replica.machine.check_epoch(leader_epoch, following_too=or_follower)
        if replica.rebuilding:
            raise replica.being_cut()
        return replica

    def find(self, topic_id: str, partition: int) -> Replica:
        """The replica, whatever its epoch; raises as ``leader`` does."""
        replica = self._replicas.get((topic_id, partition))
        if replica is None:
            raise self._reason(topic_id, partition)
        return replica

    def _reason(self, topic_id: str, partition: int) -> RaykafkaError:
        failed = self._failed.get((topic_id, partition))
        if failed is not None:
            # A new object each time: one that is raised again and again collects tracebacks.
            return type(failed.error)(failed.error.message)
        if topic_id in self._removed_topics:
            return UnknownTopicIdError(f"topic {topic_id} has been deleted; refresh the metadata")
        return NotLeaderOrFollowerError(
            f"partition {partition} of topic id {topic_id} is not served here; refresh the metadata"
        )

    def add(self, replica: Replica) -> None:
        """Serve ``replica`` from now on."""
        self._failed.pop(replica.partition, None)
        self._replicas[replica.partition] = replica

    def fail(self, assignment: PartitionAssignment, error: RaykafkaError) -> Replica | None:
        """Answer requests with ``error``; returns the replica that was served until now, if any."""
        before = self._failed.get(assignment.partition)
        in_use = assignment.partition in self._replicas or (before is not None and before.in_use)
        self._failed[assignment.partition] = FailedReplica(assignment, error, in_use)
        return self._replicas.pop(assignment.partition, None)

    def remove(self, partition: PartitionId) -> Replica | None:
        """Forget a deleted partition; returns the replica that was served until now, if any."""
        self._failed.pop(partition, None)
        self._removed_topics[partition.topic_id] = None
        if len(self._removed_topics) > _REMEMBERED_TOPICS:
            del self._removed_topics[next(iter(self._removed_topics))]
        return self._replicas.pop(partition, None)

    def get(self, partition: PartitionId) -> Replica | None:
        """The replica served for ``partition``, or None."""
        return self._replicas.get(partition)

    def failed(self, partition: PartitionId) -> FailedReplica | None:
        """What is known of a replica that cannot be served, or None."""
        return self._failed.get(partition)

    def __len__(self) -> int:
        return len(self._replicas)

    def __iter__(self) -> Iterator[Replica]:
        # A copy, since whoever iterates may yield to the loop, where replicas come and go.
        return iter(list(self._replicas.values()))
