"""A consumer's connections to partition leaders, and the wait for any of them."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from raykafka.client.cluster.deadline import Backoff
from raykafka.clock import Clock
from raykafka.errors import ClientClosedError, RaykafkaError
from raykafka.model import Endpoint
from raykafka.network.client import Connection

CONNECT_TIMEOUT_MS = 2000
"""A listener of the same network that takes longer is taken to be gone, and asked again later."""


class LeaderConnections:
    """One connection per leader, made when it is needed. Not thread-safe, but for ``wake``."""

    def __init__(
        self,
        secret: Callable[[], bytes],
        *,
        client_id: str,
        clock: Clock,
        retry_backoff_ms: int,
        request_timeout_ms: int,
    ) -> None:
        """Connect to nobody yet; ``secret`` is asked for when a connection is made."""
        self._secret = secret
        self._client_id = client_id
        self._clock = clock
        self._retry_backoff_ms = retry_backoff_ms
        self._connect_timeout_ms = min(CONNECT_TIMEOUT_MS, request_timeout_ms)
        self.on_lost: Callable[[Endpoint], None] = _nobody
        """Called once for each connection that breaks or cannot be made."""
        self._connections: dict[Endpoint, tuple[Connection, int]] = {}
        self._by_fileno: dict[int, tuple[Endpoint, Connection]] = {}
        self._backoffs: dict[Endpoint, Backoff] = {}
        self._not_before_ms: dict[Endpoint, int] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        self._wake_lock = threading.Lock()
        self._closed = False

    def __len__(self) -> int:
        return len(self._connections)

    def get(self, endpoint: Endpoint) -> Connection | None:
        """The connection to a leader; None while a failed attempt is too recent to try again.

        Raises errors that trying again does not help, such as ``ClusterAuthorizationFailedError``.
        """
        known = self._connections.get(endpoint)
        if known is not None:
            return known[0]
        if self._clock.monotonic_ms() < self._not_before_ms.get(endpoint, 0):
            return None
        try:
            connection = Connection(
                endpoint,
                self._secret(),
                client_id=self._client_id,
                connect_timeout_ms=self._connect_timeout_ms,
            )
        except RaykafkaError as error:
            if not error.retriable:
                raise
            self._failed(endpoint)
            return None
        fileno = connection.fileno()
        self._connections[endpoint] = (connection, fileno)
        self._by_fileno[fileno] = (endpoint, connection)
        self._poll.register(fileno, select.POLLIN)
        return connection

    def retry_at_ms(self, endpoint: Endpoint) -> int:
        """Monotonic time before which ``get`` does not try again."""
        return self._not_before_ms.get(endpoint, 0)

    def healthy(self, endpoint: Endpoint) -> None:
        """The leader has answered: the next failure is the first one again."""
        if self._backoffs:
            self._backoffs.pop(endpoint, None)
            self._not_before_ms.pop(endpoint, None)

    def lose(self, endpoint: Endpoint) -> None:
        """Give a connection up; the next ``get`` makes a new one, after a pause."""
        known = self._connections.pop(endpoint, None)
        if known is None:
            return
        connection, fileno = known
        del self._by_fileno[fileno]
        self._poll.unregister(fileno)
        connection.close()
        self._failed(endpoint)

    def pump(self, timeout_ms: int) -> None:
        """Wait until something arrives, ``wake`` is called or time is up; hand out what arrived.

        Raises ``ClientClosedError`` after ``close``.
        """
        if self._closed:
            raise ClientClosedError()
        for fileno, _ in self._poll.poll(timeout_ms):
            if fileno == self._wake_read:
                self._drain_wakes()
                continue
            known = self._by_fileno.get(fileno)
            if known is None:
                continue
            endpoint, connection = known
            try:
                connection.pump(0)
            except RaykafkaError:
                self.lose(endpoint)

    def wake(self) -> None:
        """End a wait in another thread, or the next one in this. Thread-safe."""
        # Not while the pipe is closed: its number may be another file's by then.
        with self._wake_lock:
            if self._closed:
                return
            try:
                os.write(self._wake_write, b"w")
            except BlockingIOError:
                return  # so many wakes are pending that one more changes nothing

    def close(self) -> None:
        """Close every connection."""
        with self._wake_lock:
            if self._closed:
                return
            self._closed = True
        for connection, _ in self._connections.values():
            connection.close()
        self._connections.clear()
        self._by_fileno.clear()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _failed(self, endpoint: Endpoint) -> None:
        backoff = self._backoffs.setdefault(endpoint, Backoff(self._retry_backoff_ms))
        self._not_before_ms[endpoint] = self._clock.monotonic_ms() + backoff.next_ms()
        self.on_lost(endpoint)

    def _drain_wakes(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            return


def _nobody(endpoint: Endpoint) -> None:
    """Until somebody wants to hear of lost connections."""
