"""Which replicas are in sync: how far each follower is, who has fallen behind, who has caught up.

Rules (Kafka's, KIP-497 and KIP-841 on who changes the ISR):
- Only the controller changes the ISR; the leader proposes, one proposal at a time.
- Until a proposal is decided the leader counts with the larger set: whoever is in sync already or
  would be afterwards must hold a record before it is committed.
- A follower has fallen behind when it has not held everything the leader had at some moment of the
  last ``replica.lag.time.max.ms``. It has caught up when it holds all that is committed, and all
  that was there when this leader's epoch began.
"""

from __future__ import annotations

from collections.abc import Iterable

NO_INCARNATION = -1
_PAUSE_MS = 500
"""After a refusal nobody new is proposed for a while: the reason may last."""
_PATIENCE_MS = 1000
"""A proposal whose fate is not known for so long is made again."""


class _Progress:
    """How far one follower is. A position comes with every answer of the follower."""

    __slots__ = ("caught_up_ms", "end_at_last", "incarnation", "last_ms", "offset")

    def __init__(self, now_ms: int) -> None:
        self.offset = -1
        """It holds everything below; -1 before its first word in this epoch."""
        self.incarnation = NO_INCARNATION
        self.caught_up_ms = now_ms
        """When it last held all that the leader had."""
        self.last_ms = now_ms
        self.end_at_last = -1
        """The leader's end when it spoke last."""


class InSync:
    """The ISR of one partition as its leader sees it."""

    __slots__ = (
        "_again_ms",
        "_local_id",
        "_progress",
        "_quiet_until_ms",
        "counted",
        "isr",
        "partition_epoch",
        "proposed",
        "replicas",
    )

    def __init__(self, local_id: int) -> None:
        self._local_id = local_id
        self.isr: frozenset[int] = frozenset()
        """What the controller has decided last; empty unless this replica leads."""
        self.counted: frozenset[int] = frozenset()
        """Followers that must hold a record before it is committed."""
        self.proposed: frozenset[int] | None = None
        self.partition_epoch = -1
        self.replicas: frozenset[int] = frozenset()
        self._progress: dict[int, _Progress] = {}
        self._quiet_until_ms = 0
        self._again_ms = -1

    def begin(
        self, isr: Iterable[int], replicas: Iterable[int], partition_epoch: int, now_ms: int
    ) -> None:
        """A new leader epoch: nothing is known of any follower yet."""
        self._progress = {}
        self.partition_epoch = -1
        self.proposed = None
        self.decide(isr, replicas, partition_epoch, now_ms)

    def end(self) -> None:
        """This replica no longer leads."""
        self.isr = self.counted = self.replicas = frozenset()
        self.proposed = None
        self._progress = {}

    def decide(
        self, isr: Iterable[int], replicas: Iterable[int], partition_epoch: int, now_ms: int
    ) -> bool:
        """The controller's word; an older one than is known changes nothing.

        The same one again leaves a proposal open: it may yet be accepted, and then its members are
        in sync. A newer one has decided it, since the controller refuses what was made from less.
        """
        if partition_epoch < self.partition_epoch:
            return False
        if partition_epoch > self.partition_epoch:
            self.proposed = None
        self.partition_epoch = partition_epoch
        self.isr = frozenset(isr) | {self._local_id}
        self.replicas = frozenset(replicas) | self.isr
        if self.proposed is not None and not self.proposed <= self.replicas:
            # Made before it was heard that a reassignment gave a member up: it will be refused.
            self.proposed = None
        self._count()
        for replica_id in self.replicas - {self._local_id}:
            if replica_id not in self._progress:
                self._progress[replica_id] = _Progress(now_ms)
        for replica_id in self._progress.keys() - self.replicas:
            del self._progress[replica_id]
        return True

    def refuse(self, now_ms: int) -> None:
        """The controller has said that it does not take the proposal; silence is no such word."""
        self.proposed = None
        self._quiet_until_ms = now_ms + _PAUSE_MS
        self._count()

    def attach(self, replica_id: int, incarnation: int, offset: int, now_ms: int) -> bool:
        """A follower begins to copy at ``offset``, its end, which may be less than it was before.

        False when it has no replica of the partition.
        """
        progress = self._progress.get(replica_id)
        if progress is None:
            return False
        progress.incarnation = incarnation
        progress.offset = offset
        progress.end_at_last = -1
        progress.last_ms = now_ms
        return True

    def advance(self, replica_id: int, offset: int, log_end: int, now_ms: int) -> bool:
        """A follower holds everything below ``offset``; whether that is news."""
        progress = self._progress.get(replica_id)
        if progress is None:
            return False
        if offset >= log_end:
            offset = log_end
            progress.caught_up_ms = now_ms
        elif 0 <= progress.end_at_last <= offset:
            progress.caught_up_ms = max(progress.caught_up_ms, progress.last_ms)
        progress.last_ms = now_ms
        progress.end_at_last = log_end
        if offset <= progress.offset:
            return False
        progress.offset = offset
        return True

    def lowest(self, own: int) -> int:
        """Everything below is on all replicas that count, if this one is at ``own``."""
        progress = self._progress
        for replica_id in self.counted:
            offset = progress[replica_id].offset
            if offset < own:
                own = offset
        return own

    def position(self, replica_id: int) -> int:
        """Where a follower is; -1 while it is not known."""
        progress = self._progress.get(replica_id)
        return -1 if progress is None else progress.offset

    def incarnation(self, replica_id: int) -> int:
        """Incarnation of the follower's actor; -1 while it has not been heard in this epoch."""
        progress = self._progress.get(replica_id)
        return NO_INCARNATION if progress is None else progress.incarnation

    def expansion(self, replica_id: int, threshold: int, now_ms: int) -> frozenset[int] | None:
        """The ISR with a follower that holds everything below ``threshold``; None for no change."""
        if self.proposed is not None or replica_id in self.isr or now_ms < self._quiet_until_ms:
            return None
        progress = self._progress.get(replica_id)
        if progress is None or progress.offset < threshold:
            return None
        return self._propose(self.isr | {replica_id})

    def without(self, replica_id: int) -> frozenset[int] | None:
        """The ISR without one that turned out to hold too little; None for no change."""
        if self.proposed is not None or replica_id not in self.isr:
            return None
        return self._propose(self.isr - {replica_id})

    def shrinkage(self, log_end: int, now_ms: int, lag_max_ms: int) -> frozenset[int] | None:
        """The ISR without those that have fallen behind; None for no change."""
        if self.proposed is not None:
            return None
        behind = set()
        for replica_id in self.isr - {self._local_id}:
            progress = self._progress[replica_id]
            if progress.offset >= log_end:
                progress.caught_up_ms = now_ms
            elif now_ms - progress.caught_up_ms > lag_max_ms:
                behind.add(replica_id)
        return self._propose(self.isr - behind) if behind else None

    def open_proposal(self, now_ms: int) -> frozenset[int] | None:
        """What has been proposed and should be again, since nobody has said what became of it."""
        if self.proposed is None:
            return None
        due = 0 <= self._again_ms <= now_ms
        if due or self._again_ms < 0:
            self._again_ms = now_ms + _PATIENCE_MS
        return self.proposed if due else None

    def _propose(self, isr: frozenset[int]) -> frozenset[int]:
        self.proposed = isr
        self._again_ms = -1
        self._count()
        return isr

    def _count(self) -> None:
        counted = self.isr if self.proposed is None else self.isr | self.proposed
        self.counted = counted - {self._local_id}
