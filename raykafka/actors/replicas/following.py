"""What one partition actor copies from leaders, over one link to each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raykafka.actors.replicas.catching_up import CatchUp, OpenLine
from raykafka.actors.replicas.followed_partition import FollowedPartition
from raykafka.actors.replicas.leader_link import Connect, LeaderLink
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.throttle import Throttle
from raykafka.clock import Clock
from raykafka.errors import RaykafkaError
from raykafka.model import Endpoint
from raykafka.protocol.replication_messages import ReplicateResponse

OnLogFailed = Callable[[Replica, RaykafkaError], None]
OnAppended = Callable[[Replica], None]


class Following:
    """Everything that one partition actor copies."""

    def __init__(
        self,
        identity: tuple[int, int],
        connect: Connect,
        open_line: OpenLine,
        credit_bytes: int,
        clock: Clock,
        on_appended: OnAppended,
        on_log_failed: OnLogFailed,
    ) -> None:
        """``identity`` is broker id and incarnation; ``credit_bytes`` may be on their way to one
        partition.

        ``on_appended`` sees to it that what was copied is flushed as the topic asks.
        """
        self.identity = identity
        self.credit_bytes = credit_bytes
        self.clock = clock
        self.on_appended = on_appended
        self.on_log_failed = on_log_failed
        self.throttle = Throttle()
        self.catch_up = CatchUp(open_line, clock)
        self._connect = connect
        self._links: dict[Endpoint, LeaderLink] = {}
        self._followed: dict[Replica, FollowedPartition] = {}
        self._mending: set[asyncio.Task[None]] = set()

    def follow(self, replica: Replica, leader: Endpoint) -> None:
        """Copy ``replica`` from the leader of its epoch; nothing happens if it is being done."""
        before = self._followed.get(replica)
        if before is not None:
            if (before.endpoint, before.leader_epoch) == (leader, replica.leader_epoch):
                return
            self.stop(replica)
        followed = self._followed[replica] = FollowedPartition(self, replica, leader)
        link = self._links.get(leader)
        if link is None:
            link = self._links[leader] = LeaderLink(leader, self._connect)
        link.add(followed)

    def pause_for(self, replica: Replica, size: int) -> float:
        """Seconds to wait before ``size`` bytes that came are acknowledged."""
        if replica.assignment.opened_before:
            return 0.0  # it may be in sync, and producers wait for it
        return self.throttle.take(size, self.clock.monotonic_ms())

    def stop(self, replica: Replica) -> None:
        """Copy ``replica`` no more: it leads, it goes, or nobody leads."""
        followed = self._followed.pop(replica, None)
        if followed is None:
            return
        followed.end()
        link = self._links[followed.endpoint]
        if link.remove(followed):
            del self._links[followed.endpoint]

    def acknowledge(self, replica: Replica) -> None:
        """What was copied is durable, or need not be any more: the leader may count it now."""
        followed = self._followed.get(replica)
        if followed is not None:
            followed.acknowledge()

    def mend(self, followed: FollowedPartition, answer: ReplicateResponse) -> None:
        """Bring a log that differs from its leader's in line, in a thread."""
        task = asyncio.ensure_future(followed.mend(answer))
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    async def close(self) -> None:
        """Copy nothing any more."""
        for replica in list(self._followed):
            self.stop(replica)
        # A log that is being cut in a thread must not be closed under it.
        await asyncio.gather(*self._mending, self.catch_up.close(), return_exceptions=True)
