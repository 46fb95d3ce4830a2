"""Virtual time, chance and the order of everything, from one seed.

Rules:
- Every event stands in one heap; ties are served in the order in which they were asked for. So the
  same seed gives the same run, and ``Trace`` proves it.
- Nothing in a simulation reads a clock, a random number or the hash of a string that is not drawn
  from here; sets of tasks and futures are ordered by their numbers (``loop``).
"""

from __future__ import annotations

import hashlib
import heapq
import random
import struct
from collections.abc import Callable
from typing import Any, Final

_EVENT: Final = struct.Struct("<dII")

Event = tuple[float, int, Callable[..., Any], tuple[Any, ...]]


class Trace:
    """A running hash over everything that happens; equal for equal runs."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def note(self, now: float, who: int, what: int, data: bytes | memoryview = b"") -> None:
        """Something happened at ``now`` seconds: who and what are numbers of the caller's."""
        self._hash.update(_EVENT.pack(now, who, what & 0xFFFFFFFF))
        if data:
            self._hash.update(data)

    def hexdigest(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()


class World:
    """The heap of events, the virtual time and the source of chance."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        """Seconds since the simulation began."""
        self.steps = 0
        """Turns of processes' loops and other events so far."""
        self.trace = Trace()
        self.troubles: list[str] = []
        """What went wrong inside of the actors: exceptions that nobody caught."""
        self.violations: list[str] = []
        """Invariants that did not hold; the run ends with the first one."""
        self.on_close: list[Callable[[], None]] = []
        """Called when nothing happens any more."""
        self._events: list[Event] = []
        self._pushed = 0
        self._numbers = 0

    def number(self) -> int:
        """A new number, in the order of asking."""
        self._numbers += 1
        return self._numbers

    def at(self, when: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call ``callback`` at ``when`` seconds, now at the earliest."""
        self._pushed += 1
        heapq.heappush(self._events, (max(when, self.now), self._pushed, callback, args))

    def after(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call ``callback`` in ``delay_s`` seconds."""
        self._pushed += 1
        heapq.heappush(self._events, (self.now + delay_s, self._pushed, callback, args))

    def delay(self, low_s: float, high_s: float) -> float:
        """A time in seconds between the two; short ones are likelier than long ones."""
        fraction = self.random.random()
        return low_s + (high_s - low_s) * fraction * fraction

    def run(self, until: float, condition: Callable[[], bool] | None = None) -> bool:
        """Let everything happen up to ``until`` seconds, or until ``condition`` holds.

        The condition is looked at after every event. Returns whether it holds, True without one.
        """
        events = self._events
        while events and events[0][0] <= until and not self.violations:
            if condition is not None and condition():
                return True
            when, _, callback, args = heapq.heappop(events)
            self.now = when
            self.steps += 1
            callback(*args)
        if condition is not None and condition():
            return True
        self.now = max(self.now, until)
        return condition is None

    def close(self) -> None:
        """Forget what would still happen."""
        self._events.clear()
        callbacks, self.on_close = self.on_close, []
        for callback in callbacks:
            callback()
