"""Keeps a member in its group: a thread of its own, with a connection of its own.

However long records take, heartbeats go on. What the group wants of the member is done by whoever
polls, who is told by ``on_work``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from raykafka.client.cluster.deadline import Deadline
from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.client.grouping.member import Heartbeat, MemberState
from raykafka.client.grouping.membership import Membership
from raykafka.clock import Clock
from raykafka.errors import (
    ClientClosedError,
    ConnectionLostError,
    CoordinatorNotAvailableError,
    RaykafkaError,
)
from raykafka.model import Endpoint
from raykafka.protocol.group_messages import ConsumerGroupHeartbeatResponse
from raykafka.protocol.messages import ApiKey, Message

logger = logging.getLogger(__name__)

_LONGEST_WAIT_MS: Final = 60_000
_JOIN_S: Final = 1.0
_LOOK_AGAIN_MS: Final = 1000
"""An answer that is late by so much may come from somebody else: it is looked who leads now."""


class Heartbeats:
    """The thread, and the lock of the membership that it shares with its owner.

    Its owner touches ``membership`` within ``changing`` only, or reads it holding ``changed``.
    """

    def __init__(
        self,
        membership: Membership,
        calls: CoordinatorCalls,
        connections: LeaderConnections,
        clock: Clock,
        *,
        host: Callable[[], str],
        request_timeout_ms: int,
        on_work: Callable[[], None],
        on_tick: Callable[[int], None],
    ) -> None:
        """``calls`` finds the coordinator, ``connections`` lead to it; both are the thread's alone.

        ``host`` names this machine as the cluster does; asked for once the cluster is known.

        ``on_work`` is called in the thread when the owner has something to do, ``on_tick`` with the
        monotonic time whenever the thread wakes; both must not block.
        """
        self.membership = membership
        self.changed = threading.Condition()
        self.answered = 0
        """Heartbeats that the coordinator has answered."""
        self._calls = calls
        self._connections = connections
        self._clock = clock
        self._host = host
        self._request_timeout_ms = request_timeout_ms
        self._on_work = on_work
        self._on_tick = on_tick
        self._stopping = False
        self._stale = False
        """Whether somebody else may be the coordinator by now."""
        self._endpoint: Endpoint | None = None
        self._awaited: dict[int, tuple[Heartbeat, int]] = {}
        """Heartbeats that are not answered, by identity, and when they should have been."""
        self._look_ms = 0
        """When to look who leads, next."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="raykafka-heartbeats", daemon=True
            )
            self._thread.start()

    @contextmanager
    def changing(self) -> Iterator[Membership]:
        """The membership, to be changed; the thread sees to it afterwards."""
        with self.changed:
            yield self.membership
        self._connections.wake()

    def wait_idle(self, timeout_ms: int) -> bool:
        """Wait until the member has left its group; whether it has in that time."""
        deadline = Deadline(self._clock, timeout_ms)
        with self.changed:
            while self.membership.state is MemberState.LEAVING and not deadline.expired:
                self.changed.wait(deadline.remaining_ms(timeout_ms) / 1000)
            return self.membership.state is not MemberState.LEAVING

    def abandon(self) -> None:
        """Let the thread end, some time; the member's session then ends, too."""
        self._stopping = True
        self._connections.wake()

    def stop(self) -> None:
        """End the thread, without leaving the group."""
        self.abandon()
        if self._thread is not None:
            # It may be asking a controller that is gone; it ends when the metadata are closed.
            self._thread.join(_JOIN_S)
        else:
            self._close()

    def _close(self) -> None:
        self._connections.close()
        self._calls.close()

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._step()
        except ClientClosedError:
            return
        finally:
            self._close()

    def _step(self) -> None:
        """Send what is due, or wait for answers, for news, or for something to be due."""
        now_ms = self._clock.monotonic_ms()
        with self.changed:
            self._on_tick(now_ms)
            if self.membership.on_time(now_ms):
                logger.warning("%s", self.membership.reason)
                self._on_work()
            heartbeat = self.membership.next_heartbeat(now_ms)
            wait_ms = self.membership.due_in_ms(now_ms, _LONGEST_WAIT_MS)
        if heartbeat is not None:
            self._send(heartbeat)
            return
        if self._awaited:
            late_ms = max(self._look_ms, min(due_ms for _, due_ms in self._awaited.values()))
            if now_ms >= late_ms:
                self._look_again(now_ms)
            wait_ms = min(wait_ms, max(0, late_ms - now_ms))
        self._connections.pump(wait_ms)

    def _send(self, heartbeat: Heartbeat) -> None:
        deadline = Deadline(self._clock, self._request_timeout_ms)
        request = heartbeat.request
        try:
            if self._stale:
                self._stale = False
                self._calls.refresh(deadline)
            partition = self._calls.partition_of(request.group_id, deadline)
            endpoint = self._calls.leader_of(partition, deadline)
            connection = None if endpoint is None else self._connections.get(endpoint)
            if endpoint is None or connection is None:
                raise CoordinatorNotAvailableError(
                    f"the coordinator of group {request.group_id} cannot be reached"
                )
            if self._endpoint not in (None, endpoint):
                self._connections.lose(self._endpoint)
            self._endpoint = endpoint
            host = self._host() if request.rebalance_timeout_ms >= 0 else ""
            filled = msgspec.structs.replace(request, partition=partition, host=host)
            due_ms = self._clock.monotonic_ms() + request.max_wait_ms + _LOOK_AGAIN_MS
            self._awaited[id(heartbeat)] = (heartbeat, due_ms)
            connection.send(
                ApiKey.CONSUMER_GROUP_HEARTBEAT,
                filled,
                on_response=lambda answer, _: self._on_answer(heartbeat, answer),
            )
        except ClientClosedError:
            raise
        except RaykafkaError as error:
            if self._endpoint is not None and isinstance(error, ConnectionLostError):
                self._connections.lose(self._endpoint)
            self._on_answer(heartbeat, error)

    def _on_answer(self, heartbeat: Heartbeat, answer: Message | RaykafkaError) -> None:
        self._awaited.pop(id(heartbeat), None)
        now_ms = self._clock.monotonic_ms()
        with self.changed:
            if isinstance(answer, RaykafkaError):
                self._stale |= answer.retriable
                self.membership.on_error(heartbeat, answer, now_ms)
            else:
                assert isinstance(answer, ConsumerGroupHeartbeatResponse)
                self.membership.on_response(heartbeat, answer, now_ms)
                self.answered += 1
            self.changed.notify_all()
            works = self.membership.has_work
        if works:
            self._on_work()

    def _look_again(self, now_ms: int) -> None:
        """An answer is late: has somebody else become the coordinator meanwhile?"""
        endpoint = self._endpoint
        assert endpoint is not None
        self._look_ms = now_ms + _LOOK_AGAIN_MS
        deadline = Deadline(self._clock, _LOOK_AGAIN_MS)
        oldest_ms = min(due_ms for _, due_ms in self._awaited.values())
        moved = now_ms - oldest_ms >= self._request_timeout_ms
        try:
            self._calls.refresh(deadline)
            partition = self._calls.partition_of(self.membership.settings.group_id, deadline)
            moved |= self._calls.leader_of(partition, deadline) != endpoint
        except ClientClosedError:
            raise
        except RaykafkaError as error:
            logger.debug("the coordinator is silent, and nobody says who leads: %s", error)
        if moved:
            self._connections.lose(endpoint)
