"""Until when a partition actor may act: a leader that cannot renew its lease fences itself.

The controller waits for longer than the lease lasts before it gives a silent actor's partitions to
others, so two leaders never answer at the same time. Only the monotonic clock counts, which goes on
while a process is stopped.

What needs no lease:
- a partition with one copy, since nobody else can lead it;
- acks=all, which is answered when all in sync have the batch: those whom another one leads by now
  do not take it. So a cluster without controller goes on taking such batches for as long as it
  likes.
"""

from __future__ import annotations

from typing import Final

from raykafka.errors import NotLeaderOrFollowerError

_FOREVER: Final = 1 << 62


class Lease:
    """The lease of one partition actor."""

    __slots__ = ("until_ms",)

    def __init__(self, *, needed: bool) -> None:
        """Without a controller to ask (``needed`` False) it never ends."""
        self.until_ms = -1 if needed else _FOREVER
        """Monotonic time at which it ends."""

    def renew(self, until_ms: int) -> None:
        """It lasts until then, if that is later than before."""
        self.until_ms = max(self.until_ms, until_ms)

    def extend(self, until_ms: int, now_ms: int) -> None:
        """Renew it without the controller's word, as no voter's process runs; unless it has ended.

        Whoever becomes active after that begins to count anew, and waits for everybody's heartbeat
        before it judges. A lease that has ended is not extended: it may have been judged before.
        """
        if now_ms < self.until_ms:
            self.renew(until_ms)

    def check(self, now_ms: int) -> None:
        """Raise ``NotLeaderOrFollowerError`` once it has ended."""
        if now_ms >= self.until_ms:
            raise NotLeaderOrFollowerError(
                "this partition actor has not heard from the controller for too long and serves "
                "nothing until it does; refresh the metadata"
            )
