"""What the machine's decisions do to the log, each in its turn in the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raykafka.actors.quorum.files import Snapshot
from raykafka.actors.quorum.log import MachineLog
from raykafka.actors.quorum.log_queue import LogQueue
from raykafka.clock import Clock
from raykafka.errors import IllegalStateError
from raykafka.quorum import effects, events

Failed = Callable[[Exception], None]


class LogWriter:
    """Writes one replica's log. What fails is told to ``failed``, in the loop."""

    def __init__(self, log: MachineLog, queue: LogQueue, clock: Clock, failed: Failed) -> None:
        self._log = log
        self._queue = queue
        self._clock = clock
        self._failed = failed
        self._generation = 0
        """How many times the log was cut or replaced; see ``Flushed``."""

    def append(self, records: list[bytes], effect: effects.AppendRecords, failed: Failed) -> None:
        """The leader's own records; nothing of them is there when ``failed`` is called."""
        epoch, now_ms = effect.epoch, self._clock.now_ms()
        work = lambda: self._log.append(records, epoch, now_ms)  # noqa: E731
        self._write(effect.start_offset, work, failed)

    def append_voters(self, effect: effects.AppendVoters, failed: Failed) -> None:
        """The same for a control batch."""
        epoch, offset, voters = effect
        now_ms = self._clock.now_ms()
        self._write(offset, lambda: self._log.append_voters(voters, epoch, now_ms), failed)

    def append_fetched(self, payload: bytes, start: int) -> None:
        """What the leader has sent."""
        now_ms = self._clock.now_ms()
        work = lambda: self._log.append_fetched(payload, start, now_ms)  # noqa: E731
        self._write(start, work, self._failed)

    def truncate(self, end: int) -> None:
        """Cut the log."""

        def truncate() -> None:
            self._log.truncate_to(end)
            self._generation += 1

        self._queue.put(truncate, _ignore)

    def install(self, snapshot: Snapshot) -> None:
        """A snapshot takes the log's place."""

        def install() -> None:
            self._log.install_snapshot(snapshot)
            self._generation += 1
            self._queue.mark_dirty()

        self._queue.put(install, _ignore)

    def flush(self) -> events.Flushed:
        """Runs in the queue's thread; returns what the machine has to hear of it."""
        self._log.flush()
        return events.Flushed(self._log.end_offset, self._generation)

    def _write(self, start: int, work: Callable[[], Any], failed: Failed) -> None:
        def write() -> None:
            if self._log.end_offset != start:
                raise IllegalStateError(f"the log ends at {self._log.end_offset}, not at {start}")
            work()
            self._queue.mark_dirty()

        self._queue.put(write, _ignore, failed)


def _ignore(_: Any) -> None:
    return
