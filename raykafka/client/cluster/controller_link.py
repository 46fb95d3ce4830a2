"""One connection to the cluster's controller that finds it again when it moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
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
from raykafka.model import Endpoint
from raykafka.network.client import Connection
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.quorum_messages import DescribeQuorumRequest, DescribeQuorumResponse

CONNECT_TIMEOUT_MS = 5000
_HINT_TIMEOUT_MS = 500
_NEXT_AFTER_MS = 1000
"""For a voter to answer, before the next one is tried."""
_REPEATABLE = frozenset(
    {
        ApiKey.METADATA,
        ApiKey.INIT_PRODUCER_ID,
        ApiKey.DESCRIBE_CLUSTER,
        ApiKey.DESCRIBE_CONFIGS,
        ApiKey.DESCRIBE_QUORUM,
    }
)
"""Requests that harm nobody when they are asked of two: another voter gets them where the first one
says nothing, as one that is paused or cut off does."""


class ControllerLink:
    """Calls to the controller, one at a time, repeated while their error is retriable.

    Thread-safe. A lost connection, a controller that resigned and a time-out all lead to the
    bootstrap being asked again, and to the next of the voters that it names; one that is not active
    says who is.
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
        self._hint: Endpoint | None = None
        """Who is active, as a voter that is not has said."""
        self._refused: Endpoint | None = None
        """Who was asked last, in vain."""
        self._silences = 0
        """Repeatable requests in a row that nobody answered; each time it is waited twice as long,
        since a controller may be slow and not gone."""

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
        repeatable = api_key in _REPEATABLE
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
                    timeout_ms=max(1, deadline.remaining_ms(self._patience_ms(repeatable))),
                )
            except NotControllerError:
                self._ask_who_leads(connection)
                self._drop()
                raise
            except (ConnectionLostError, RequestTimedOutError):
                self._refused, self._hint = connection.endpoint, None
                self._silences += repeatable
                self._drop()
                raise
            self._silences = 0
            return response
        finally:
            self._lock.release()

    def _patience_ms(self, repeatable: bool) -> int:
        """How long one voter is waited for: a look-up may find another one."""
        if not repeatable:
            return self._request_timeout_ms
        return min(self._request_timeout_ms, _NEXT_AFTER_MS << min(self._silences, 5))

    def _connect(self, deadline: Deadline) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self._connection = None
        problem: RaykafkaError | None = None
        for info in self._places():
            for endpoint in self._in_order(info):
                try:
                    self._connection = self._open(endpoint, info, deadline)
                except (ConnectionLostError, RequestTimedOutError) as error:
                    self._refused = endpoint
                    if endpoint == self._hint:
                        self._hint = None
                    problem = error
                else:
                    self._info = info
                    return self._connection
        assert problem is not None
        raise problem

    def _places(self) -> Iterator[BootstrapInfo]:
        """The voters known so far, which need no look-up, then where they are said to be now."""
        if self._info is not None and len(self._info.endpoints) > 1:
            yield self._info
        yield self._look_up()

    def _in_order(self, info: BootstrapInfo) -> list[Endpoint]:
        """The one that is said to be active first, those that have just refused last."""
        endpoints = list(info.endpoints)
        if self._hint is not None:
            return [self._hint, *(each for each in endpoints if each != self._hint)]
        if self._refused in endpoints:
            at = endpoints.index(self._refused) + 1
            endpoints = endpoints[at:] + endpoints[:at]
        return endpoints

    def _open(self, endpoint: Endpoint, info: BootstrapInfo, deadline: Deadline) -> Connection:
        limit_ms = CONNECT_TIMEOUT_MS if len(info.endpoints) == 1 else _NEXT_AFTER_MS
        connection = Connection(
            endpoint,
            info.secret,
            client_id=self._client_id,
            connect_timeout_ms=max(1, deadline.remaining_ms(limit_ms)),
        )
        expected = self._cluster_id or info.cluster_id
        if expected and connection.hello.cluster_id != expected:
            connection.close()
            raise InconsistentClusterIdError(
                f"{endpoint} belongs to cluster {connection.hello.cluster_id}, not to "
                f"{expected}; make a new client if the cluster was created anew"
            )
        self._cluster_id = connection.hello.cluster_id
        return connection

    def _ask_who_leads(self, connection: Connection) -> None:
        """A voter that is not active knows who is."""
        self._refused, self._hint = connection.endpoint, None
        try:
            answer, _ = connection.call(
                ApiKey.DESCRIBE_QUORUM, DescribeQuorumRequest(), timeout_ms=_HINT_TIMEOUT_MS
            )
        except RaykafkaError:
            return
        assert isinstance(answer, DescribeQuorumResponse)
        found = {each.replica_id: Endpoint(each.host, each.port) for each in answer.replicas}
        self._hint = found.get(answer.leader_id)
        if self._info is not None:
            self._info = replace(self._info, controllers=tuple(found.values()))

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
