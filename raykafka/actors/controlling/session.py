"""Whether somebody was heard of lately: the controller's side of leases and heartbeats."""

from __future__ import annotations

import asyncio
from typing import Final

from raykafka.clock import Clock

_AWAY_S: Final = 0.5
"""A sleep that takes so much longer was one of this whole process: it has heard nobody."""


class Session:
    """Ends a while after the last sign of life, by the monotonic clock.

    A controller that was stopped itself, or kept from running, judges nobody by that time: whoever
    was heard of before gets a whole session anew.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_ms = 0
        self.renewed_ms = 0
        """Monotonic time of the last sign of life; 0 before the first."""

    def renew(self) -> None:
        """A sign of life."""
        self._began_ms = self.renewed_ms = self._clock.monotonic_ms()

    def begin(self, at_ms: int) -> None:
        """No sign of life counts, but nobody is silent for longer than since then."""
        self._began_ms = at_ms

    async def wait_silent(self, session_ms: int, check_s: float) -> None:
        """Return when there has been none for ``session_ms``; looks every ``check_s``."""
        loop = asyncio.get_running_loop()
        while True:
            left_ms = self._began_ms + session_ms - self._clock.monotonic_ms()
            if left_ms <= 0:
                return
            pause_s = min(left_ms / 1000, check_s)
            before = loop.time()
            await asyncio.sleep(pause_s)
            if loop.time() - before > pause_s + _AWAY_S:
                self._began_ms = self._clock.monotonic_ms()
