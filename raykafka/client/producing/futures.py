"""What ``send`` and ``send_table`` return.

A future is two words: the group of records it was sent with, and its place in it. Everything else
(the batch, its offset, its error) is looked up there when somebody asks.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from raykafka.errors import RaykafkaError
from raykafka.model import RecordMetadata

logger = logging.getLogger(__name__)

T = TypeVar("T")


class BatchMetadata(NamedTuple):
    """Where one acknowledged batch of a table stands in the log.

    ``offset`` is that of its first row (-1 with ``acks=0``); the others follow without gaps.
    ``timestamp`` is the largest of its rows, in milliseconds since the epoch.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    count: int  # type: ignore[assignment]  # a record of its own has no use for tuple.count


class Group(Protocol):
    """Records that were handed over together: a chunk of ``send`` calls, or a table."""

    callbacks: list[tuple[int, Callable[[], None]]] | None
    """Kept by ``Callbacks``, under its lock."""

    def settled(self, index: int) -> bool:
        """Whether the fate of one of its results is known."""

    def error(self, index: int) -> RaykafkaError | None:
        """Why it failed, if it has."""

    def result(self, index: int) -> Any:
        """What it became; only when it is settled and has no error."""

    def wait(self, index: int, timeout_s: float | None) -> bool:
        """Do the I/O, or wait for who does; False when the time is up first."""

    def subscribe(self, index: int, callback: Callable[[], None]) -> bool:
        """Call back once it is settled; False (and no call) when it already is."""


class DeliveryFuture(Generic[T]):
    """The result of something sent, now or later. Thread-safe."""

    __slots__ = ("_group", "_index")

    _group: Group
    _index: int

    def get(self, timeout: float | None = None) -> T:
        """Wait for the acknowledgement; sends at once, without waiting for ``linger_ms``.

        ``timeout`` is in seconds; when it is up ``TimeoutError`` is raised and the records stay on
        their way. Raises the error with which the delivery failed.
        """
        group, index = self._group, self._index
        if not group.settled(index) and not group.wait(index, timeout):
            raise TimeoutError(f"not acknowledged within {timeout:g} s; it is still being sent")
        error = group.error(index)
        if error is not None:
            raise error
        result: T = group.result(index)
        return result

    def done(self) -> bool:
        """Whether it was acknowledged or has failed."""
        return self._group.settled(self._index)

    @property
    def is_done(self) -> bool:
        """``done()`` under the name that kafka-python gives it."""
        return self.done()

    def succeeded(self) -> bool:
        """Whether it was acknowledged."""
        return self.done() and self._group.error(self._index) is None

    def failed(self) -> bool:
        """Whether it has failed for good."""
        return self.done() and self._group.error(self._index) is not None

    @property
    def value(self) -> T | None:
        """The result, or None while there is none; never waits."""
        return self._group.result(self._index) if self.succeeded() else None

    @property
    def exception(self) -> RaykafkaError | None:
        """Why it failed, or None; never waits."""
        return self._group.error(self._index) if self.done() else None

    def add_callback(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``function(*args, result, **kwargs)`` once acknowledged; returns this future.

        Callbacks run one at a time, in the order in which batches were acknowledged, in whichever
        thread received the acknowledgement (or in this one if that has happened). They must not
        block; what they raise is logged.
        """
        self._when_settled(partial(self._report, partial(function, *args, **kwargs), None))
        return self

    def add_errback(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``function(*args, error, **kwargs)`` once failed; see ``add_callback``."""
        self._when_settled(partial(self._report, None, partial(function, *args, **kwargs)))
        return self

    def add_both(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``function`` with the result or with the error; see ``add_callback``."""
        call = partial(function, *args, **kwargs)
        self._when_settled(partial(self._report, call, call))
        return self

    def _when_settled(self, callback: Callable[[], None]) -> None:
        if not self._group.subscribe(self._index, callback):
            callback()

    def _report(
        self, on_result: Callable[[T], Any] | None, on_error: Callable[[Exception], Any] | None
    ) -> None:
        error = self._group.error(self._index)
        try:
            if error is not None:
                if on_error is not None:
                    on_error(error)
            elif on_result is not None:
                on_result(self._group.result(self._index))
        except Exception:
            logger.exception("a delivery callback failed")

    def __repr__(self) -> str:
        if not self.done():
            return f"<{type(self).__name__} pending>"
        return f"<{type(self).__name__} {self.exception or self.value!r}>"


class RecordFuture(DeliveryFuture[RecordMetadata]):
    """What became of one record.

    Whoever makes it sets its two words afterwards: that costs half of what an ``__init__`` does.
    """

    __slots__ = ()


class TableFuture(DeliveryFuture[list[BatchMetadata]]):
    """What became of one table: one entry per batch, in the order in which they were cut."""

    __slots__ = ()

    def __init__(self, group: Group) -> None:
        self._group = group
        self._index = 0


class Callbacks:
    """Runs callbacks one at a time and in order, whichever threads bring them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held while a callback is added or taken, so that none falls between."""
        self._ready: deque[Callable[[], None]] = deque()
        self.waiting = 0
        """Callbacks whose records are not settled yet."""
        self._running = threading.Lock()
        self._runner = 0

    @property
    def due(self) -> bool:
        """Whether ``run`` would have something to call; not while another thread is at it."""
        return bool(self._ready) and not self._running.locked()

    def collect(self, group: Group) -> None:
        """Take the callbacks of ``group`` that are due; ``run`` calls them."""
        with self.lock:
            waiting = group.callbacks
            if waiting:
                due = [entry for entry in waiting if group.settled(entry[0])]
                group.callbacks = [entry for entry in waiting if not group.settled(entry[0])]
                self._ready.extend(callback for _, callback in due)
                self.waiting -= len(due)

    def add(self, group: Group, index: int, callback: Callable[[], None]) -> bool:
        """Keep ``callback`` until its record is settled; False if it is settled now."""
        with self.lock:
            if group.settled(index):
                return False
            if group.callbacks is None:
                group.callbacks = []
            group.callbacks.append((index, callback))
            self.waiting += 1
            return True

    def run(self, *, wait: bool = False) -> None:
        """Call what is due. With ``wait``, also let another thread that is at it finish first."""
        while self._ready or wait:
            if self._runner == threading.get_ident():
                return  # a callback waits for a delivery: its caller goes on with the rest
            if not self._running.acquire(blocking=wait):
                return
            wait = False
            self._runner = threading.get_ident()
            try:
                while self._ready:
                    self._ready.popleft()()
            finally:
                self._runner = 0
                self._running.release()
