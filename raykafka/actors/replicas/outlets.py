"""Where the effects of a partition actor's replicas go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from raykafka.actors.replicas.throttle import Throttle
from raykafka.actors.replicas.waiting import WakeQueue

if TYPE_CHECKING:
    from raykafka.actors.replicas.replica import Replica

_BEAT_S = 0.01
"""How long a follower may know an older high watermark while nothing is appended."""


class Proposals(Protocol):
    """Takes what the controller has to decide; answers come to the replica's machine."""

    def propose(self, replica: Replica, isr: frozenset[int], partition_epoch: int) -> None:
        """Ask for another ISR."""

    def report_failed(self, replica: Replica) -> None:
        """The replica's log cannot be used: another one shall lead."""


class Leadership(Protocol):
    """Hears of replicas that begin or cease to lead."""

    def led(self, replica: Replica) -> None:
        """The replica leads in a new epoch."""

    def unled(self, replica: Replica) -> None:
        """The replica leads no more."""


class HighWatermarks:
    """Tells followers how far their partition is committed when no batch is on its way to do so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._moved: dict[Replica, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def moved(self, replica: Replica) -> None:
        """The high watermark of a replica with followers has moved."""
        self._moved[replica] = None
        if self._timer is None:
            self._timer = self._loop.call_later(_BEAT_S, self._tell)

    def close(self) -> None:
        """Tell nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._moved.clear()

    def _tell(self) -> None:
        self._timer = None
        moved, self._moved = self._moved, {}
        for replica in moved:
            for stream in list(replica.streams.values()):
                stream.tell_high_watermark()


class Outlets:
    """What a replica reaches beyond itself."""

    __slots__ = ("high_watermarks", "leadership", "proposals", "throttle", "wake")

    def __init__(
        self,
        wake: WakeQueue,
        high_watermarks: HighWatermarks,
        proposals: Proposals,
        throttle: Throttle,
        leadership: Leadership,
    ) -> None:
        self.leadership = leadership
        self.wake = wake
        self.high_watermarks = high_watermarks
        self.proposals = proposals
        self.throttle = throttle
        """Of what is sent to followers that are not in sync."""
