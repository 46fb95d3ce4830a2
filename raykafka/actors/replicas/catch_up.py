"""How much of copies that catch up is on its way over one connection.

Followers share a connection among all partitions that one leader's actor sends them, and what is in
sync must never wait long behind what is not: producers wait for it. So the copies that catch up get
a window together, and take turns in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

WINDOW_BYTES: Final = 2 << 20


class CatchUpWindow:
    """The window of one connection."""

    __slots__ = ("_free", "_waiting")

    def __init__(self) -> None:
        self._free = WINDOW_BYTES
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def full(self) -> bool:
        """Whether no more may be sent for now."""
        return self._free <= 0

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call ``go_on`` once there is room, behind those who wait already."""
        self._waiting.append(go_on)

    def take(self, size: int) -> None:
        """``size`` bytes are on their way."""
        self._free -= size

    def give_back(self, size: int) -> None:
        """The follower has taken ``size`` bytes, or their stream has ended."""
        if not size:
            return
        self._free += size
        for _ in range(len(self._waiting)):
            if self._free <= 0 or not self._waiting:
                return
            self._waiting.popleft()()
