"""Deadlines of many keys in one heap: setting one is cheap, asking looks at those that are due."""

from __future__ import annotations

import heapq


class Deadlines:
    """At most one deadline per key.

    A key that is set again and again, as with every transaction, keeps its one entry in the heap
    and is put back with its newest deadline when that entry comes up.
    """

    def __init__(self) -> None:
        self._deadlines: dict[str, int] = {}
        self._queued: dict[str, int] = {}
        """The earliest entry of each key in the heap."""
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, key: str, deadline_ms: int) -> None:
        """Replaces the key's deadline."""
        self._deadlines[key] = deadline_ms
        queued = self._queued.get(key)
        if queued is None or deadline_ms < queued:
            self._queue(key, deadline_ms)

    def cancel(self, key: str) -> None:
        """The key has no deadline any more, if it had one."""
        self._deadlines.pop(key, None)

    def due(self, now_ms: int, limit: int) -> list[str]:
        """Keys whose deadline is reached, at most ``limit``; they have none any more."""
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now_ms and len(found) < limit:
            entry, key = heapq.heappop(self._heap)
            if self._queued.get(key) != entry:
                continue  # an earlier entry of the key has taken this one's place
            del self._queued[key]
            deadline = self._deadlines.get(key)
            if deadline is None:
                continue
            if deadline > now_ms:
                self._queue(key, deadline)
            else:
                del self._deadlines[key]
                found.append(key)
        return found

    def _queue(self, key: str, deadline_ms: int) -> None:
        self._queued[key] = deadline_ms
        heapq.heappush(self._heap, (deadline_ms, key))
