"""The replica of one partition: its role, the high watermark, and the produces that wait for it.

Rules:
- The leader epoch never goes back; a request of another epoch is refused (KIP-101).
- The high watermark is the smallest position in the ISR and never goes back. This replica's own
  position is its log end, or its flushed end where the topic asks for ``fsync=batch``.
- It stands still while fewer replicas are in sync than the topic asks for (or has, if those are
  fewer): else the last one standing could commit what nobody else will ever have (KIP-966).
- A produce with acks=all is answered once the high watermark reached its end, in log order. Readers
  see records below the high watermark only.
- acks=1 is answered when the leader has appended, whether or not the topic is durable (Kafka).
- A follower knows the high watermark that its leader told it, at most its own end.

``on_appended``, ``on_follower_advanced`` and ``check_produce`` are the hot path: no event object is
made there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

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
from raykafka.replication.effects import (
    AdvanceHighWatermark,
    ProposeIsr,
    ReplicaEffect,
    ReplyProduce,
)
from raykafka.replication.events import (
    BecomeFollower,
    BecomeLeader,
    Configured,
    Flushed,
    FollowerAdvanced,
    FollowerAttached,
    IsrChanged,
    IsrRefused,
    ReplicaEvent,
    Replicated,
    Resign,
    Tick,
)
from raykafka.replication.in_sync import InSync
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
        "_alone",
        "_pending",
        "durable",
        "epoch_start",
        "flushed_offset",
        "high_watermark",
        "in_sync",
        "lag_max_ms",
        "leader_epoch",
        "leader_id",
        "local_id",
        "log_end_offset",
        "min_insync_replicas",
        "role",
    )

    def __init__(self, local_id: int, *, lag_max_ms: int = 10_000) -> None:
        """``lag_max_ms`` is ``replica.lag.time.max.ms``."""
        self.local_id = local_id
        self.lag_max_ms = lag_max_ms
        self.role = Role.OFFLINE
        self.leader_epoch = -1
        self.leader_id = -1
        self.high_watermark = 0
        self.log_end_offset = 0
        self.flushed_offset = 0
        self.min_insync_replicas = 1
        self.durable = False
        self.epoch_start = 0
        """Where this leader's epoch begins in the log."""
        self.in_sync = InSync(local_id)
        self._alone = False
        """Whether this replica's own position is the high watermark."""
        self._pending: deque[_PendingProduce] = deque()

    @property
    def isr(self) -> frozenset[int]:
        """Broker ids of the replicas in sync; empty unless this one leads."""
        return self.in_sync.isr

    @property
    def pending_produces(self) -> int:
        """How many produces wait for the high watermark."""
        return len(self._pending)

    # --- hot path -------------------------------------------------------------------------------

    def check_epoch(self, leader_epoch: int, *, following_too: bool = False) -> None:
        """Raise unless this replica leads in ``leader_epoch`` (-1 leaves the epoch unchecked).

        With ``following_too`` it may follow in that epoch as well. Raises
        ``NotLeaderOrFollowerError``, ``FencedLeaderEpochError`` (the caller's view is old) or
        ``UnknownLeaderEpochError`` (the caller knows a newer epoch than this replica).
        """
        if self.role is not Role.LEADER and not (following_too and self.role is Role.FOLLOWER):
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
            if len(self.in_sync.isr) < self.min_insync_replicas:
                raise NotEnoughReplicasError(
                    f"{len(self.in_sync.isr)} replicas are in sync, min.insync.replicas asks for"
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
            if self._alone and not self.durable:
                self.high_watermark = end_offset
                return True
        if acks != _ALL or end_offset <= self.high_watermark:
            return True
        self._pending.append(_PendingProduce(end_offset, deadline_ms, token))
        return False

    def on_flushed(self, offset: int) -> Sequence[ReplicaEffect]:
        """``Flushed`` without the event object; called after every group commit."""
        if offset > self.flushed_offset:
            self.flushed_offset = offset
            if self.durable and self.role is Role.LEADER:
                return self._maybe_advance()
        return []

    def on_follower_advanced(
        self, replica_id: int, offset: int, now_ms: int
    ) -> Sequence[ReplicaEffect]:
        """``FollowerAdvanced`` without the event object; called for every answer of a follower."""
        in_sync = self.in_sync
        if not in_sync.advance(replica_id, offset, self.log_end_offset, now_ms):
            return []
        if replica_id in in_sync.counted:
            return self._maybe_advance()
        return self._maybe_expand(replica_id, now_ms)

    # --- everything else ------------------------------------------------------------------------

    def on_event(self, event: ReplicaEvent, *, now_ms: int) -> Sequence[ReplicaEffect]:
        """Apply ``event``; returns what has to be done, in order.

        Raises ``FencedLeaderEpochError`` for a role of an epoch that is over, and
        ``IllegalStateError`` for a move that ``role.TRANSITIONS`` does not know.
        """
        return _HANDLERS[type(event)](self, event, now_ms)

    def _on_flushed_event(self, event: Flushed, now_ms: int) -> Sequence[ReplicaEffect]:
        return self.on_flushed(event.offset)

    def _on_advanced_event(self, event: FollowerAdvanced, now_ms: int) -> Sequence[ReplicaEffect]:
        return self.on_follower_advanced(event.replica_id, event.offset, now_ms)

    def _on_attached(self, event: FollowerAttached, now_ms: int) -> Sequence[ReplicaEffect]:
        replica_id, incarnation, offset = event
        # How much of a log is durable the follower says next.
        position = -1 if self.durable else offset
        if not self.in_sync.attach(replica_id, incarnation, position, now_ms):
            return []
        if offset < self.high_watermark:
            # What is committed was there and is gone: it must not be elected.
            return self._propose(self.in_sync.without(replica_id))
        return [*self._maybe_advance(), *self._maybe_expand(replica_id, now_ms)]

    def _on_replicated(self, event: Replicated, now_ms: int) -> Sequence[ReplicaEffect]:
        if self.role is not Role.FOLLOWER:
            return []
        self.log_end_offset = event.offset
        known = min(event.high_watermark, event.offset)
        if event.offset < self.high_watermark:
            self.high_watermark = event.offset  # only an unclean election brings that about
        if known <= self.high_watermark:
            return []
        self.high_watermark = known
        return [AdvanceHighWatermark(known)]

    def _on_configured(self, event: Configured, now_ms: int) -> Sequence[ReplicaEffect]:
        self.min_insync_replicas = event.min_insync_replicas
        self.durable = event.durable
        self._look_around()
        return self._maybe_advance()

    def _become_leader(self, event: BecomeLeader, now_ms: int) -> Sequence[ReplicaEffect]:
        self._check_newer(event.leader_epoch)
        check_transition(self.role, Role.LEADER)
        again = self.role is Role.LEADER and event.leader_epoch == self.leader_epoch
        # A produce parked in an older epoch is not answered by a newer one: its sender must learn
        # of the change and send again, which the sequence numbers make harmless.
        effects: list[ReplicaEffect] = [] if again else self._fail_pending()
        self.role = Role.LEADER
        self.leader_epoch = event.leader_epoch
        self.leader_id = self.local_id
        self.log_end_offset = event.log_end_offset
        self.flushed_offset = event.flushed_offset
        # After an unclean election the log may end below what was committed once.
        known = max(self.high_watermark, event.high_watermark)
        self.high_watermark = min(known, event.log_end_offset)
        self.min_insync_replicas = event.min_insync_replicas
        self.durable = event.durable
        news = event.isr, event.replicas, event.partition_epoch, now_ms
        if again:
            self.in_sync.decide(*news)
        else:
            self.epoch_start = event.log_end_offset
            self.in_sync.begin(*news)
        self._look_around()
        effects.extend(self._maybe_advance())
        return effects

    def _become_follower(self, event: BecomeFollower, now_ms: int) -> Sequence[ReplicaEffect]:
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
        self.in_sync.end()
        self._look_around()
        return self._fail_pending()

    def _on_resign(self, event: Resign, now_ms: int) -> Sequence[ReplicaEffect]:
        return self._resign(Role.OFFLINE)

    def _check_newer(self, leader_epoch: int) -> None:
        if leader_epoch < self.leader_epoch:
            raise FencedLeaderEpochError(
                f"leader epoch {leader_epoch} is over, this replica is in {self.leader_epoch}"
            )

    def _on_isr_changed(self, event: IsrChanged, now_ms: int) -> Sequence[ReplicaEffect]:
        if self.role is not Role.LEADER:
            return []
        in_sync = self.in_sync
        if not in_sync.decide(event.isr, in_sync.replicas, event.partition_epoch, now_ms):
            return []
        self._look_around()
        return self._maybe_advance()

    def _on_isr_refused(self, event: IsrRefused, now_ms: int) -> Sequence[ReplicaEffect]:
        self.in_sync.refuse(now_ms)
        self._look_around()
        return self._maybe_advance() if self.role is Role.LEADER else []

    def _on_tick(self, event: Tick, now_ms: int) -> Sequence[ReplicaEffect]:
        effects: list[ReplicaEffect] = []
        pending = self._pending
        if any(each.deadline_ms <= now_ms for each in pending):
            late = [each for each in pending if each.deadline_ms <= now_ms]
            self._pending = deque(each for each in pending if each.deadline_ms > now_ms)
            message = "the batch was appended, but was not committed in time; it may yet be"
            effects += [ReplyProduce(each.token, RequestTimedOutError(message)) for each in late]
        if self.role is Role.LEADER and len(self.in_sync.replicas) > 1:
            effects += self._propose(self.in_sync.open_proposal(now_ms))
            shrunk = self.in_sync.shrinkage(self.log_end_offset, now_ms, self.lag_max_ms)
            effects += self._propose(shrunk)
            for replica_id in self.in_sync.replicas - self.in_sync.isr:
                effects += self._maybe_expand(replica_id, now_ms)
        return effects

    def _look_around(self) -> None:
        """Take note of who counts now, for the hot path."""
        in_sync = self.in_sync
        self._alone = self.role is Role.LEADER and not in_sync.counted and not self._under_min_isr()

    def _under_min_isr(self) -> bool:
        in_sync = self.in_sync
        return len(in_sync.isr) < min(self.min_insync_replicas, len(in_sync.replicas))

    def _maybe_expand(self, replica_id: int, now_ms: int) -> Sequence[ReplicaEffect]:
        threshold = max(self.high_watermark, self.epoch_start)
        return self._propose(self.in_sync.expansion(replica_id, threshold, now_ms))

    def _propose(self, isr: frozenset[int] | None) -> Sequence[ReplicaEffect]:
        if isr is None:
            return []
        self._look_around()
        return [ProposeIsr(isr, self.in_sync.partition_epoch)]

    def _maybe_advance(self) -> Sequence[ReplicaEffect]:
        if self.role is not Role.LEADER:
            return []
        lowest = self.in_sync.lowest(self.flushed_offset if self.durable else self.log_end_offset)
        if lowest <= self.high_watermark or self._under_min_isr():
            return []
        self.high_watermark = lowest
        effects: list[ReplicaEffect] = []
        pending = self._pending
        while pending and pending[0].end_offset <= lowest:
            effects.append(ReplyProduce(pending.popleft().token, self._shortage()))
        effects.append(AdvanceHighWatermark(lowest))
        return effects

    def _shortage(self) -> RaykafkaError | None:
        if len(self.in_sync.isr) >= self.min_insync_replicas:
            return None
        return NotEnoughReplicasAfterAppendError(
            f"the batch was appended, but only {len(self.in_sync.isr)} replicas are in sync,"
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


_HANDLERS: Final[Mapping[type, Callable[[ReplicaMachine, Any, int], Sequence[ReplicaEffect]]]] = {
    Flushed: ReplicaMachine._on_flushed_event,
    FollowerAttached: ReplicaMachine._on_attached,
    FollowerAdvanced: ReplicaMachine._on_advanced_event,
    Replicated: ReplicaMachine._on_replicated,
    Tick: ReplicaMachine._on_tick,
    BecomeLeader: ReplicaMachine._become_leader,
    BecomeFollower: ReplicaMachine._become_follower,
    Configured: ReplicaMachine._on_configured,
    IsrChanged: ReplicaMachine._on_isr_changed,
    IsrRefused: ReplicaMachine._on_isr_refused,
    Resign: ReplicaMachine._on_resign,
}
