"""Syncs on virtual time: what ``GroupCommit`` does with threads."""

from __future__ import annotations

from typing import Any, Final

from raykafka.actors.environment import OnLogFlushed
from raykafka.errors import KafkaStorageError, RaykafkaError
from raykafka.testing.simulation.hosts import Process

SYNC_S: Final = (50e-6, 4e-3)
"""Shortest and longest time from a request to the sync, and from there to its end."""


class VirtualFlusher:
    """``LogFlusher`` of one process. A sync that has begun may be durable before it is reported."""

    def __init__(self, process: Process, on_flushed: OnLogFlushed) -> None:
        self._process = process
        self._on_flushed = on_flushed
        self._requested: dict[Any, None] = {}
        self._flushing: set[int] = set()

    def request(self, log: Any) -> None:
        """See ``LogFlusher``."""
        if log not in self._requested:
            self._requested[log] = None
            self._later(self._begin, log)

    def close(self) -> None:
        """See ``LogFlusher``; what is on its way is done at once."""
        requested, self._requested = self._requested, {}
        for log in requested:
            self._on_flushed(log, _flush(log))

    def _begin(self, log: Any) -> None:
        if not self._process.loop.outside(self._begin, log) or log not in self._requested:
            return
        if id(log) in self._flushing:
            self._later(self._begin, log)
            return
        del self._requested[log]
        self._flushing.add(id(log))
        self._later(self._end, log, _flush(log))

    def _end(self, log: Any, result: int | RaykafkaError) -> None:
        if self._process.loop.outside(self._end, log, result):
            self._flushing.discard(id(log))
            self._on_flushed(log, result)

    def _later(self, callback: Any, *args: Any) -> None:
        world = self._process.world
        delay_s = world.delay(*SYNC_S) + self._process.host.disk.slow_s / 2
        world.after(delay_s, callback, *args)


def _flush(log: Any) -> int | RaykafkaError:
    try:
        flushed: int = log.flush()
    except RaykafkaError as error:
        return error
    except Exception as error:  # noqa: BLE001  # as GroupCommit
        return KafkaStorageError(f"flush failed: {error!r}")
    return flushed
