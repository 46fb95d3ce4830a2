"""Deadlines of many things, of which few ever pass: renewing one costs a look-up.

The heap holds one entry per key, with a time that is not later than its deadline; an entry that
comes up too early goes back with the true one.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """Times are of a monotonic clock, in milliseconds. Keys must be comparable."""

    __slots__ = ("_deadlines", "_heap", "_queued")

    def __init__(self) -> None:
        self._deadlines: dict[K, int] = {}
        self._heap: list[tuple[int, K]] = []
        self._queued: dict[K, int] = {}
        """Time of the one entry that counts of each key; others are left over."""

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, key: object) -> bool:
        return key in self._deadlines

    def renew(self, key: K, deadline_ms: int) -> None:
        """Set the deadline of a key."""
        self._deadlines[key] = deadline_ms
        queued = self._queued.get(key)
        if queued is None or deadline_ms < queued:
            self._push(key, deadline_ms)

    def drop(self, key: K) -> None:
        """The key has no deadline any more; its entry goes when its time comes."""
        self._deadlines.pop(key, None)

    def passed(self, now_ms: int, limit: int) -> list[K]:
        """Keys whose deadline has passed, ``limit`` of them at most; they have none any more."""
        found: list[K] = []
        heap = self._heap
        while heap and heap[0][0] <= now_ms and len(found) < limit:
            time_ms, key = heapq.heappop(heap)
            if self._queued.get(key) != time_ms:
                continue
            del self._queued[key]
            deadline = self._deadlines.get(key)
            if deadline is None:
                continue
            if deadline > now_ms:
                self._push(key, deadline)
            else:
                del self._deadlines[key]
                found.append(key)
        return found

    def _push(self, key: K, time_ms: int) -> None:
        self._queued[key] = time_ms
        heapq.heappush(self._heap, (time_ms, key))
