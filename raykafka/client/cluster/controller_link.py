"""One connection to the cluster's controller that finds it again when it moves."""

from __future__ import annotations

import threading
from typing import Any

from raykafka.client.cluster.bootstrap import Bootstrap, BootstrapInfo
from raykafka.client.cluster.deadline import Backoff, Deadline
from raykafka.clock import Clock
from raykafka.errors import (
    ClientClosedError,
    ClusterUnreachableError,
    ConnectionLostError,
    InconsistentClusterIdError,
    NotControllerError,
    RaykafkaError,
    RequestTimedOutError,
)
from raykafka.network.client import Connection
from raykafka.protocol.messages import ApiKey, Message

CONNECT_TIMEOUT_MS = 5000


class ControllerLink:
    """Calls to the controller, one at a time, repeated while their error is retriable.

    Thread-safe. A lost connection, a controller that resigned and a time-out all lead to the
    bootstrap being asked again.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        *,
        client_id: str,
        clock: Clock,
        request_timeout_ms: int = 30_000,
        retry_backoff_ms: int = 20,
    ) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._clock = clock
        self._request_timeout_ms = request_timeout_ms
        self._retry_backoff_ms = retry_backoff_ms
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._connection: Connection | None = None
        self._info: BootstrapInfo | None = None
        self._cluster_id = ""

    @property
    def closed(self) -> bool:
        """Whether ``close`` has been called."""
        return self._closing.is_set()

    @property
    def secret(self) -> bytes:
        """The cluster's secret, for connections to other listeners; empty before the first call."""
        return b"" if self._info is None else self._info.secret

    def call(self, api_key: ApiKey, request: Message, *, timeout_ms: float | None) -> Any:
        """The controller's answer to ``request``; retries until ``timeout_ms`` have passed.

        Raises ``ClusterUnreachableError`` when nobody answered in that time, the last error when
        the controller answered with a retriable one all along, any other error at once.
        """
        deadline = Deadline(self._clock, timeout_ms)
        backoff = Backoff(self._retry_backoff_ms)
        while True:
            try:
                return self._attempt(api_key, request, deadline)
            except RaykafkaError as error:
                if not error.retriable:
                    raise
                pause = backoff.next_ms()
                if deadline.remaining_ms(pause + 1) <= pause:
                    raise self._final(error, timeout_ms) from error
                self.pause(pause)

    def pause(self, milliseconds: int) -> None:
        """Wait, but not past ``close``, which makes this raise ``ClientClosedError``."""
        if self._closing.wait(milliseconds / 1000):
            raise ClientClosedError()

    def close(self) -> None:
        """Close the connection; calls under way fail with ``ClientClosedError``."""
        self._closing.set()
        with self._lock:
            self._drop()

    def _attempt(self, api_key: ApiKey, request: Message, deadline: Deadline) -> Any:
        timeout_ms = deadline.remaining_ms(self._request_timeout_ms)
        if not self._lock.acquire(timeout=timeout_ms / 1000):
            raise RequestTimedOutError("another call to the controller took all of the time given")
        try:
            if self.closed:
                raise ClientClosedError()
            connection = self._connect(deadline)
            try:
                response, _ = connection.call(
                    api_key,
                    request,
                    timeout_ms=max(1, deadline.remaining_ms(self._request_timeout_ms)),
                )
            except (ConnectionLostError, NotControllerError, RequestTimedOutError):
                self._drop()
                raise
            return response
        finally:
            self._lock.release()

    def _connect(self, deadline: Deadline) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self._connection = None
        # Asked each time: the controller may have come back on another port.
        info = self._look_up()
        connection = Connection(
            info.controller,
            info.secret,
            client_id=self._client_id,
            connect_timeout_ms=max(1, deadline.remaining_ms(CONNECT_TIMEOUT_MS)),
        )
        expected = self._cluster_id or info.cluster_id
        if expected and connection.hello.cluster_id != expected:
            connection.close()
            raise InconsistentClusterIdError(
                f"{info.controller} belongs to cluster {connection.hello.cluster_id}, not to "
                f"{expected}; make a new client if the cluster was created anew"
            )
        self._cluster_id = connection.hello.cluster_id
        self._info = info
        self._connection = connection
        return connection

    def _look_up(self) -> BootstrapInfo:
        try:
            return self._bootstrap()
        except RaykafkaError:
            raise
        except Exception as error:
            # A bootstrap is the caller's code (it may ask Ray); whatever it raises means "not now".
            raise ConnectionLostError(f"the cluster could not be looked up: {error!r}") from error

    def _final(self, error: RaykafkaError, timeout_ms: float | None) -> RaykafkaError:
        if isinstance(error, (ConnectionLostError, RequestTimedOutError)):
            return ClusterUnreachableError(
                f"the controller did not answer within {timeout_ms:g} ms (last: {error}); "
                "check that the cluster runs and can be reached from here"
            )
        return error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
