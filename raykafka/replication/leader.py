"""The replica of one partition: its role, the high watermark, and the produces that wait for it.

Rules:
- The leader epoch never goes back; a request of another epoch is refused (KIP-101).
- The high watermark is the smallest position in the ISR and never goes back. This replica's own
  position is its log end, or its flushed end where the topic asks for ``fsync=batch``.
- A produce with acks=all is answered once the high watermark reached its end, in log order. Readers
  see records below the high watermark only.
- acks=1 is answered when the leader has appended, whether or not the topic is durable (Kafka).

Today a partition has one copy, so the ISR is the leader itself; followers come as more positions.
``on_appended`` and ``check_produce`` are the hot path: no event or effect object is made there.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from raykafka.errors import (
    FencedLeaderEpochError,
    InvalidRequiredAcksError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    RaykafkaError,
    RequestTimedOutError,
    UnknownLeaderEpochError,
)
from raykafka.model import Acks
from raykafka.replication.effects import AdvanceHighWatermark, ReplicaEffect, ReplyProduce
from raykafka.replication.events import (
    BecomeFollower,
    BecomeLeader,
    Configured,
    Flushed,
    FollowerAdvanced,
    IsrChanged,
    ReplicaEvent,
    Resign,
    Tick,
)
from raykafka.replication.role import Role, check_transition

_NO_DEADLINE = 1 << 62
_ALL = int(Acks.ALL)
_VALID_ACKS = frozenset(int(acks) for acks in Acks)


class _PendingProduce(NamedTuple):
    end_offset: int
    deadline_ms: int
    token: Any


class ReplicaMachine:
    """State machine of one replica; knows offsets and epochs, no bytes and no clock."""

    __slots__ = (
        "_isr",
        "_pending",
        "_positions",
        "durable",
        "flushed_offset",
        "high_watermark",
        "leader_epoch",
        "leader_id",
        "local_id",
        "log_end_offset",
        "min_insync_replicas",
        "role",
    )

    def __init__(self, local_id: int) -> None:
        self.local_id = local_id
        self.role = Role.OFFLINE
        self.leader_epoch = -1
        self.leader_id = -1
        self.high_watermark = 0
        self.log_end_offset = 0
        self.flushed_offset = 0
        self.min_insync_replicas = 1
        self.durable = False
        self._isr: frozenset[int] = frozenset()
        self._positions: dict[int, int] = {}
        self._pending: deque[_PendingProduce] = deque()

    @property
    def isr(self) -> frozenset[int]:
        """Broker ids of the replicas in sync; empty unless this one leads."""
        return self._isr

    @property
    def pending_produces(self) -> int:
        """How many produces wait for the high watermark."""
        return len(self._pending)

    # --- hot path -------------------------------------------------------------------------------

    def check_epoch(self, leader_epoch: int) -> None:
        """Raise unless this replica leads in ``leader_epoch`` (-1 leaves the epoch unchecked).

        Raises ``NotLeaderOrFollowerError``, ``FencedLeaderEpochError`` (the caller's view is old)
        or ``UnknownLeaderEpochError`` (the caller knows a newer epoch than this replica).
        """
        if self.role is not Role.LEADER:
            raise NotLeaderOrFollowerError(
                f"this replica is {self.role.value}; refresh the metadata to find the leader"
            )
        if leader_epoch != self.leader_epoch and leader_epoch != -1:
            if leader_epoch < self.leader_epoch:
                raise FencedLeaderEpochError(
                    f"leader epoch {leader_epoch} is over, the current one is {self.leader_epoch};"
                    " refresh the metadata"
                )
            raise UnknownLeaderEpochError(
                f"leader epoch {leader_epoch} is not known here yet, the current one is"
                f" {self.leader_epoch}; try again"
            )

    def check_produce(self, acks: int, leader_epoch: int) -> None:
        """Raise unless a batch may be appended now; called before the log is touched.

        Beyond ``check_epoch``: ``InvalidRequiredAcksError``, and ``NotEnoughReplicasError`` where
        acks=all meets fewer in-sync replicas than ``min.insync.replicas``.
        """
        if self.role is not Role.LEADER or leader_epoch != self.leader_epoch:
            self.check_epoch(leader_epoch)
        if acks == _ALL:
            if len(self._isr) < self.min_insync_replicas:
                raise NotEnoughReplicasError(
                    f"{len(self._isr)} replicas are in sync, min.insync.replicas asks for"
                    f" {self.min_insync_replicas}; nothing was written"
                )
        elif acks not in _VALID_ACKS:
            raise InvalidRequiredAcksError(f"acks is {acks}; it must be 0, 1 or -1 (all)")

    def on_appended(
        self, end_offset: int, acks: int, token: Any, *, deadline_ms: int = _NO_DEADLINE
    ) -> bool:
        """The log now ends at ``end_offset``; may the produce be answered at once?

        False parks ``token``: a ``ReplyProduce`` brings it back. An append can move the high
        watermark only when nothing is parked, so it never releases another produce; compare
        ``high_watermark`` before and after to see whether readers can be served. A duplicate is
        reported with the end of the batch that was appended first.
        """
        if end_offset > self.log_end_offset:
            self.log_end_offset = end_offset
            if not self.durable and len(self._isr) == 1:
                self.high_watermark = end_offset
                return True
        if acks != _ALL or end_offset <= self.high_watermark:
            return True
        self._pending.append(_PendingProduce(end_offset, deadline_ms, token))
        return False

    def on_flushed(self, offset: int) -> list[ReplicaEffect]:
        """``Flushed`` without the event object; called after every group commit."""
        if offset > self.flushed_offset:
            self.flushed_offset = offset
            if self.durable and self.role is Role.LEADER:
                return self._maybe_advance()
        return []

    # --- everything else ------------------------------------------------------------------------

    def on_event(self, event: ReplicaEvent, *, now_ms: int) -> list[ReplicaEffect]:
        """Apply ``event``; returns what has to be done, in order.

        Raises ``FencedLeaderEpochError`` for a role of an epoch that is over, and
        ``IllegalStateError`` for a move that ``role.TRANSITIONS`` does not know.
        """
        if isinstance(event, Flushed):
            return self.on_flushed(event.offset)
        if isinstance(event, FollowerAdvanced):
            return self._on_follower_advanced(event)
        if isinstance(event, Tick):
            return self._on_tick(now_ms)
        if isinstance(event, BecomeLeader):
            return self._become_leader(event)
        if isinstance(event, BecomeFollower):
            return self._become_follower(event)
        if isinstance(event, Configured):
            self.min_insync_replicas = event.min_insync_replicas
            self.durable = event.durable
            return self._maybe_advance()
        if isinstance(event, IsrChanged):
            return self._on_isr_changed(event.isr)
        assert isinstance(event, Resign)
        return self._resign(Role.OFFLINE)

    def _become_leader(self, event: BecomeLeader) -> list[ReplicaEffect]:
        self._check_newer(event.leader_epoch)
        check_transition(self.role, Role.LEADER)
        again = self.role is Role.LEADER and event.leader_epoch == self.leader_epoch
        # A produce parked in an older epoch is not answered by a newer one: its sender must learn
        # of the change and send again, which the sequence numbers make harmless.
        effects = [] if again else self._fail_pending()
        self.role = Role.LEADER
        self.leader_epoch = event.leader_epoch
        self.leader_id = self.local_id
        self.log_end_offset = event.log_end_offset
        self.flushed_offset = event.flushed_offset
        recovered = min(event.high_watermark, event.log_end_offset)
        self.high_watermark = max(self.high_watermark, recovered)
        self.min_insync_replicas = event.min_insync_replicas
        self.durable = event.durable
        if not again:
            self._positions = {}
        effects.extend(self._on_isr_changed(event.isr))
        return effects

    def _become_follower(self, event: BecomeFollower) -> list[ReplicaEffect]:
        self._check_newer(event.leader_epoch)
        effects = self._resign(Role.FOLLOWER)
        self.leader_epoch = event.leader_epoch
        self.leader_id = event.leader_id
        return effects

    def _resign(self, following: Role) -> list[ReplicaEffect]:
        if self.role is Role.OFFLINE and following is Role.OFFLINE:
            return []
        check_transition(self.role, following)
        self.role = following
        self.leader_id = -1
        self._isr = frozenset()
        self._positions = {}
        return self._fail_pending()

    def _check_newer(self, leader_epoch: int) -> None:
        if leader_epoch < self.leader_epoch:
            raise FencedLeaderEpochError(
                f"leader epoch {leader_epoch} is over, this replica is in {self.leader_epoch}"
            )

    def _on_follower_advanced(self, event: FollowerAdvanced) -> list[ReplicaEffect]:
        if self.role is not Role.LEADER or event.replica_id == self.local_id:
            return []
        if event.offset <= self._positions.get(event.replica_id, -1):
            return []
        self._positions[event.replica_id] = min(event.offset, self.log_end_offset)
        return self._maybe_advance()

    def _on_isr_changed(self, isr: frozenset[int]) -> list[ReplicaEffect]:
        self._isr = isr | {self.local_id}
        return self._maybe_advance()

    def _on_tick(self, now_ms: int) -> list[ReplicaEffect]:
        if not any(pending.deadline_ms <= now_ms for pending in self._pending):
            return []
        late = [pending for pending in self._pending if pending.deadline_ms <= now_ms]
        self._pending = deque(p for p in self._pending if p.deadline_ms > now_ms)
        message = "the batch was appended, but was not committed in time; it may yet be"
        return [ReplyProduce(pending.token, RequestTimedOutError(message)) for pending in late]

    def _maybe_advance(self) -> list[ReplicaEffect]:
        if self.role is not Role.LEADER:
            return []
        lowest = self.flushed_offset if self.durable else self.log_end_offset
        if len(self._isr) > 1:
            positions = self._positions
            lowest = min(
                lowest, min(positions.get(id_, -1) for id_ in self._isr if id_ != self.local_id)
            )
        if lowest <= self.high_watermark:
            return []
        self.high_watermark = lowest
        effects: list[ReplicaEffect] = []
        pending = self._pending
        while pending and pending[0].end_offset <= lowest:
            effects.append(ReplyProduce(pending.popleft().token, self._shortage()))
        effects.append(AdvanceHighWatermark(lowest))
        return effects

    def _shortage(self) -> RaykafkaError | None:
        if len(self._isr) >= self.min_insync_replicas:
            return None
        return NotEnoughReplicasAfterAppendError(
            f"the batch was appended, but only {len(self._isr)} replicas are in sync,"
            f" min.insync.replicas asks for {self.min_insync_replicas}"
        )

    def _fail_pending(self) -> list[ReplicaEffect]:
        failed: list[ReplicaEffect] = [
            ReplyProduce(
                pending.token,
                NotLeaderOrFollowerError(
                    "the leader changed before the batch was committed; refresh the metadata and"
                    " send it again"
                ),
            )
            for pending in self._pending
        ]
        self._pending.clear()
        return failed
