"""Group commit: threads that fsync logs, so that an event loop never waits for a disk.

While one fsync of a log is under way, further appends gather; the next one covers them all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from raykafka.errors import KafkaStorageError, RaykafkaError


class Flushable(Protocol):
    """What can be committed; ``PartitionLog`` is one."""

    def flush(self) -> int:
        """Make all that was appended before the call durable; returns the offset it ends at."""


L = TypeVar("L", bound=Flushable)


class GroupCommit(Generic[L]):
    """Flushes logs on a few threads, one log on one thread at a time."""

    def __init__(
        self, on_flushed: Callable[[L, int | RaykafkaError], None], *, threads: int = 2
    ) -> None:
        """``on_flushed`` gets the log and its durable end offset, or the error.

        It is called on a thread of this object; hand over with ``loop.call_soon_threadsafe``.
        """
        self._on_flushed = on_flushed
        self._changed = threading.Condition()
        self._requested: deque[L] = deque()
        self._queued: set[int] = set()
        self._flushing: set[int] = set()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"raykafka-fsync-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def request(self, log: L) -> None:
        """Flush ``log`` soon; several requests before it starts are one.

        Raises ``KafkaStorageError`` after ``close``.
        """
        with self._changed:
            if self._closed:
                raise KafkaStorageError("group commit is closed; the partition is shutting down")
            if id(log) in self._queued:
                return
            self._queued.add(id(log))
            self._requested.append(log)
            if id(log) not in self._flushing:
                self._changed.notify()

    def close(self) -> None:
        """Finish what was requested, then stop the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                log = self._take()
                while log is None:
                    if self._closed and not self._requested:
                        return
                    self._changed.wait()
                    log = self._take()
            result: int | RaykafkaError
            try:
                result = log.flush()
            except RaykafkaError as error:
                result = error
            except Exception as error:  # noqa: BLE001 - a dead thread would leave producers waiting
                result = KafkaStorageError(f"flush failed: {error!r}; restart the partition")
            with self._changed:
                self._flushing.discard(id(log))
                self._changed.notify_all()
            self._on_flushed(log, result)

    def _take(self) -> L | None:
        """The next log that no other thread is flushing."""
        for _ in range(len(self._requested)):
            log = self._requested.popleft()
            if id(log) not in self._flushing:
                self._queued.discard(id(log))
                self._flushing.add(id(log))
                return log
            self._requested.append(log)
        return None
