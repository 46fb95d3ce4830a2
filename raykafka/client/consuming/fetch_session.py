"""One fetch that is open at one leader, and what it will bring next."""

from __future__ import annotations

from collections.abc import Mapping

from raykafka.client.consuming.fetch_plan import PlannedFetch
from raykafka.model import Endpoint, TopicPartition
from raykafka.protocol.messages import FetchPartition, FetchRequest


class LeaderAccount:
    """What is open at one leader, and what of its credit is in use."""

    __slots__ = ("endpoint", "held", "session")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.session: FetchSession | None = None
        self.held = 0
        """Bytes that came from there and wait to be consumed, over all its sessions."""


class FetchSession:
    """A push session, or a long poll, whose one answer ends it."""

    __slots__ = (
        "_by_id",
        "account",
        "columns",
        "consumed",
        "correlation_id",
        "credit",
        "expected",
        "heard_ms",
        "mapped",
        "probed_ms",
        "push",
    )

    def __init__(
        self,
        account: LeaderAccount,
        fetches: dict[TopicPartition, PlannedFetch],
        *,
        push: bool,
        mapped: bool,
        credit: int,
        columns: list[str] | None,
        now_ms: int,
    ) -> None:
        self.account = account
        self.expected = dict(fetches)
        """What comes next of each partition; compared with the plan to see if it still serves."""
        self.push = push
        self.mapped = mapped
        self.credit = credit
        """Bytes that the leader may send before it is told that some were consumed."""
        self.consumed = 0
        """Bytes consumed that the leader does not know of."""
        self.columns = columns
        self.correlation_id = -1
        self.heard_ms = now_ms
        """Monotonic time at which the leader last sent something."""
        self.probed_ms: int | None = None
        """When it was asked whether it is still there, if it has not answered yet."""
        self._by_id = {
            (planned.topic_id, partition.partition): partition
            for partition, planned in fetches.items()
        }

    @property
    def endpoint(self) -> Endpoint:
        """The leader."""
        return self.account.endpoint

    def partition(self, topic_id: str, partition: int) -> TopicPartition | None:
        """The partition of a frame; None for one that has left the session."""
        found = self._by_id.get((topic_id, partition))
        return found if found in self.expected else None

    def heard(self, now_ms: int) -> None:
        """The leader has sent something."""
        self.heard_ms = now_ms
        self.probed_ms = None

    def request(
        self,
        *,
        host_id: str,
        min_bytes: int,
        max_wait_ms: int,
        max_partition_bytes: int,
        isolation: int,
        follower_reads: bool,
        doubted: Mapping[TopicPartition, int],
    ) -> FetchRequest:
        """The request that opens this session.

        ``doubted`` are offsets at which the last batch failed its checksum.
        """
        return FetchRequest(
            partitions=[
                FetchPartition(
                    planned.topic_id,
                    partition.partition,
                    planned.offset,
                    planned.leader_epoch,
                    max_partition_bytes,
                    doubted.get(partition) == planned.offset,
                )
                for partition, planned in self.expected.items()
            ],
            min_bytes=min_bytes,
            max_wait_ms=max_wait_ms,
            max_bytes=self.credit,
            isolation=isolation,
            columns=self.columns,
            host_id=host_id if self.mapped else "",
            push=self.push,
            credit_bytes=self.credit if self.push else 0,
            follower_reads=follower_reads,
        )
