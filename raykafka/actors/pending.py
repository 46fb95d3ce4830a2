"""Commands of a shell that wait: for their turn in the log, then for the log to be committed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from raykafka.errors import RaykafkaError

MAX_BATCH_BYTES: Final = 4 << 20
"""Records of several commands that share a batch of the log; one command may exceed it alone."""


class Pending(NamedTuple):
    """A command that was handled: its records, its answer, and the state after it."""

    records: list[bytes]
    answer: Any
    view: Any
    future: asyncio.Future[Any]


class Group(NamedTuple):
    """Commands that share a batch, to be answered when the log is committed up to its end."""

    end_offset: int
    commands: Sequence[Pending]


class PendingCommands:
    """In the order in which they were handled."""

    def __init__(self) -> None:
        self._queue: deque[Pending] = deque()
        self._groups: deque[Group] = deque()

    def __bool__(self) -> bool:
        return bool(self._queue or self._groups)

    @property
    def has_queued(self) -> bool:
        """Whether some are not in the log yet."""
        return bool(self._queue)

    def add(self, records: list[bytes], answer: Any, view: Any) -> asyncio.Future[Any]:
        """One more; returns what will be told."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(Pending(records, answer, view, future))
        return future

    def take(self) -> list[Pending]:
        """The next ones, to be appended together."""
        group: list[Pending] = []
        size = 0
        while self._queue and size < MAX_BATCH_BYTES:
            pending = self._queue.popleft()
            size += sum(map(len, pending.records))
            group.append(pending)
        return group

    def appended(self, end_offset: int, commands: Sequence[Pending]) -> None:
        """They stand in the log up to ``end_offset``."""
        self._groups.append(Group(end_offset, commands))

    def committed(self, high_watermark: int) -> list[Group]:
        """Those that may be answered now."""
        done: list[Group] = []
        while self._groups and self._groups[0].end_offset <= high_watermark:
            done.append(self._groups.popleft())
        return done

    def fail(self, error: RaykafkaError, *, beyond: int = -1) -> None:
        """Tell everyone that is not in the log below ``beyond``: their state will never be."""
        kept: deque[Group] = deque()
        for group in self._groups:
            if group.end_offset <= beyond:
                kept.append(group)
            else:
                fail(group.commands, error)
        fail(self._queue, error)
        self._groups = kept
        self._queue.clear()


def answer(groups: Iterable[Group]) -> None:
    """Tell whoever waits what it was promised."""
    for group in groups:
        for pending in group.commands:
            if not pending.future.done():
                pending.future.set_result(pending.answer)


def fail(commands: Iterable[Pending], error: RaykafkaError) -> None:
    """Tell whoever waits what has happened instead."""
    for pending in commands:
        if not pending.future.done():
            pending.future.set_exception(error)
