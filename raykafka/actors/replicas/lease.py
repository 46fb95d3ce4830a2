"""Until when a partition actor may act: a leader that cannot renew its lease fences itself.

The controller waits for longer than the lease lasts before it gives a silent actor's partitions to
others, so two leaders never answer at the same time. Only the monotonic clock counts, which goes on
while a process is stopped.
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

    def check(self, now_ms: int) -> None:
        """Raise ``NotLeaderOrFollowerError`` once it has ended."""
        if now_ms >= self.until_ms:
            raise NotLeaderOrFollowerError(
                "this partition actor has not heard from the controller for too long and serves "
                "nothing until it does; refresh the metadata"
            )
