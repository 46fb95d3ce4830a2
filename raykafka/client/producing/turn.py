"""Who does the I/O: one thread at a time, and a thread that waits takes it over."""

from __future__ import annotations

import threading
from collections.abc import Callable

from raykafka.errors import IllegalStateError


class Bell:
    """Wakes the one thread that listens to it; rings once for everything since it last did.

    A bare lock: the wait of ``threading.Event`` holds the interpreter long enough to be felt by the
    thread that sends.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End the wait under way, or the next one."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it has rung already

    def wait(self, timeout_ms: int | None) -> bool:
        """Wait until it rings or time is up; None waits without end. Whether it rang."""
        return self._lock.acquire(timeout=-1 if timeout_ms is None else timeout_ms / 1000)


class _Waiter:
    __slots__ = ("lock", "settled")

    def __init__(self, settled: Callable[[], bool]) -> None:
        self.settled = settled
        self.lock = threading.Lock()
        self.lock.acquire()


class Turn:
    """A lock whose holder may be asked for it, and which is handed to the next one who waits.

    A hand-over to another thread costs more than a whole request, so whoever needs an answer does
    the I/O in its own thread when nobody else is at it; if somebody is, it waits to be woken by
    what it waits for, or by the turn becoming free, whichever is first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder = 0
        self._waiting: list[_Waiter] = []
        self.wanted = False
        """Somebody asked for the turn while it was taken; a patient holder lets go."""

    def try_enter(self) -> bool:
        """Take the turn if it is free.

        Raises ``IllegalStateError`` when this thread has it already: something that is called by
        the I/O must not wait for the I/O.
        """
        if self._lock.acquire(blocking=False):
            self._holder = threading.get_ident()
            return True
        if self._holder == threading.get_ident():
            raise IllegalStateError("a thread that does the I/O cannot wait for it")
        return False

    def leave(self) -> None:
        """Let go, and wake one who waits so that there is always somebody at it."""
        self._holder = 0
        self.wanted = False
        self._lock.release()
        if self._waiting:
            self._wake_one()

    def notify(self) -> None:
        """Wake those whose wait is over; called by the holder after something was settled."""
        if self._waiting:
            for waiter in list(self._waiting):
                if waiter.settled():
                    _wake(waiter)

    def wait(self, settled: Callable[[], bool], timeout_s: float) -> None:
        """Wait until ``settled()``, until the turn is (or was just) free, or until time is up."""
        waiter = _Waiter(settled)
        self._waiting.append(waiter)
        try:
            # The holder may have left before it could see us: then nobody would ever wake us.
            if self._lock.locked() and not settled():
                waiter.lock.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))
        finally:
            self._waiting.remove(waiter)

    def _wake_one(self) -> None:
        for waiter in list(self._waiting):
            if not waiter.settled():
                _wake(waiter)
                return
            _wake(waiter)


def _wake(waiter: _Waiter) -> None:
    try:
        waiter.lock.release()
    except RuntimeError:  # woken already
        return
