"""Coordinators that move, load, fall silent and are not there yet, on scripted servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from raykafka.actors.ports import Reply
from raykafka.client.cluster.deadline import Deadline
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.clock import SystemClock
from raykafka.errors import (
    ClientClosedError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    NotCoordinatorError,
    RaykafkaError,
)
from raykafka.internal_topics import CONSUMER_OFFSETS, coordinator_partition
from raykafka.protocol.group_messages import (
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    GroupOutcome,
)
from raykafka.protocol.messages import ApiKey
from tests.kits.scripted_cluster import ScriptedCluster

PARTITIONS = 4
KEY = "group"


class Coordinators(ScriptedCluster):
    """Leaders that answer for the groups of the partitions they lead, unless told otherwise."""

    def __init__(self) -> None:
        super().__init__(leaders=2)
        self.leader_handlers = lambda number: {
            ApiKey.DELETE_GROUPS: lambda request, _, reply: self._on_delete(number, request, reply)
        }
        self.controller_handlers = {ApiKey.FIND_COORDINATOR: self._on_find}
        self.errors: list[RaykafkaError] = []
        """Answers of the next requests."""
        self.asked: list[tuple[int, int]] = []
        """Leader and partition of each request."""
        self.found = 0
        self.silent: set[int] = set()
        self.heard = threading.Event()
        """Set by each request."""

    def _on_find(self, request: FindCoordinatorRequest, _: Any, reply: Reply) -> None:
        self.found += 1
        threading.Thread(target=self._make, args=(request, reply)).start()

    def _make(self, request: FindCoordinatorRequest, reply: Reply) -> None:
        if request.topic not in self.topics:
            self.create(request.topic, PARTITIONS)
        topic_id = self.topics[request.topic].topic_id
        answer = FindCoordinatorResponse(request.topic, topic_id, PARTITIONS)
        self.call(lambda: reply(answer))

    def _on_delete(self, number: int, request: DeleteGroupsRequest, reply: Reply) -> None:
        self.asked.append((number, request.partition))
        self.heard.set()
        if number in self.silent:
            return
        leads = self.topics[CONSUMER_OFFSETS].logs[request.partition].leader == number
        error = self.errors.pop(0) if self.errors else None
        if error is None and not leads:
            error = NotCoordinatorError()
        if error is not None:
            reply(DeleteGroupsResponse(error_code=error.code, error_message=error.message))
        else:
            reply(DeleteGroupsResponse([GroupOutcome(each) for each in request.group_ids]))

    def move_coordinator(self, leader: int) -> None:
        """Of ``KEY``."""
        self.move(
            self.topics[CONSUMER_OFFSETS].logs[coordinator_partition(KEY, PARTITIONS)], leader
        )

    def leader(self) -> int:
        """Of ``KEY``."""
        return self.topics[CONSUMER_OFFSETS].logs[coordinator_partition(KEY, PARTITIONS)].leader


@pytest.fixture
def cluster() -> Iterator[Coordinators]:
    with Coordinators() as running:
        yield running


@pytest.fixture
def metadata(cluster: Coordinators) -> Iterator[ClusterMetadata]:
    made = ClusterMetadata(cluster.bootstrap, retry_backoff_ms=1)
    yield made
    made.close()


@pytest.fixture
def calls(metadata: ClusterMetadata) -> Iterator[CoordinatorCalls]:
    made = CoordinatorCalls(
        metadata,
        CONSUMER_OFFSETS,
        client_id="test",
        request_timeout_ms=10_000,
        retry_backoff_ms=1,
        clock=SystemClock(),
    )
    yield made
    made.close()


def ask(calls: CoordinatorCalls, timeout_ms: float = 20_000) -> DeleteGroupsResponse:
    answer: DeleteGroupsResponse = calls.call(
        KEY,
        ApiKey.DELETE_GROUPS,
        lambda partition: DeleteGroupsRequest(partition, [KEY]),
        timeout_ms=timeout_ms,
    )
    return answer


def test_the_topic_is_made_once_and_its_leader_asked(
    cluster: Coordinators, calls: CoordinatorCalls
) -> None:
    assert calls.partition_count(timeout_ms=10_000) == 0
    assert [each.group_id for each in ask(calls).groups] == [KEY]
    ask(calls)
    assert cluster.found == 1
    assert cluster.asked == [(cluster.leader(), coordinator_partition(KEY, PARTITIONS))] * 2
    assert calls.partition_count(timeout_ms=10_000) == PARTITIONS


def test_one_that_loads_or_has_moved_is_asked_again(
    cluster: Coordinators, calls: CoordinatorCalls
) -> None:
    ask(calls)
    cluster.errors = [CoordinatorLoadInProgressError(), CoordinatorNotAvailableError()]
    assert ask(calls).groups
    before = cluster.leader()
    cluster.move_coordinator(1 - before)
    assert ask(calls).groups
    assert [leader for leader, _ in cluster.asked[-2:]] == [before, 1 - before]


def test_another_error_is_raised_at_once(cluster: Coordinators, calls: CoordinatorCalls) -> None:
    cluster.errors = [GroupIdNotFoundError("no such group")]
    with pytest.raises(GroupIdNotFoundError, match="no such group"):
        ask(calls)
    assert len(cluster.asked) == 1


def test_a_lost_connection_is_made_again(cluster: Coordinators, calls: CoordinatorCalls) -> None:
    ask(calls)
    cluster.restart_leader(cluster.leader())
    assert ask(calls).groups


def test_the_last_error_is_raised_when_time_is_up(
    cluster: Coordinators, calls: CoordinatorCalls
) -> None:
    ask(calls)
    cluster.errors = [CoordinatorLoadInProgressError("still loading")] * 10_000
    with pytest.raises(CoordinatorLoadInProgressError, match="still loading"):
        ask(calls, timeout_ms=50)


def test_nobody_leads(cluster: Coordinators, calls: CoordinatorCalls) -> None:
    ask(calls)
    cluster.stop_leader(cluster.leader())
    with pytest.raises(CoordinatorNotAvailableError, match="__consumer_offsets-"):
        ask(calls, timeout_ms=50)


def test_a_silent_one_that_was_replaced_is_left(
    cluster: Coordinators, calls: CoordinatorCalls
) -> None:
    ask(calls)
    before = cluster.leader()
    cluster.silent = {before}
    cluster.heard.clear()

    def move() -> None:
        assert cluster.heard.wait(10)
        cluster.move_coordinator(1 - before)

    mover = threading.Thread(target=move)
    mover.start()
    assert ask(calls).groups
    mover.join()
    assert cluster.asked[-1][0] == 1 - before


def test_a_call_can_be_interrupted(cluster: Coordinators, calls: CoordinatorCalls) -> None:
    ask(calls)
    cluster.silent = {0, 1}
    cluster.heard.clear()
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            ask(calls)
        except ClientClosedError as error:
            failures.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert cluster.heard.wait(10)
    calls.interrupt()
    waiter.join(10)
    assert failures
    with pytest.raises(ClientClosedError):
        calls.attempt(
            KEY,
            ApiKey.DELETE_GROUPS,
            lambda partition: DeleteGroupsRequest(partition, []),
            Deadline(SystemClock(), 1000),
        )
