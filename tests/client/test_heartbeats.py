"""What keeps a member in its group, against coordinators that fall silent, move and refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raykafka.actors.ports import Reply
from raykafka.client.consumer import Consumer
from raykafka.errors import (
    CoordinatorLoadInProgressError,
    FencedMemberEpochError,
    GroupMaxSizeReachedError,
    NotCoordinatorError,
    RaykafkaError,
)
from raykafka.internal_topics import CONSUMER_OFFSETS
from raykafka.protocol.group_messages import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    FindCoordinatorResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    TopicPartitions,
)
from raykafka.protocol.messages import ApiKey
from tests.kits.scripted_cluster import ScriptedCluster

PATIENCE_S = 20.0
INTERVAL_MS = 200


class Coordinator(ScriptedCluster):
    """Two leaders, of which one is the coordinator of every group and has one member."""

    def __init__(self) -> None:
        super().__init__(leaders=2)
        self.leader_handlers = lambda number: {
            ApiKey.CONSUMER_GROUP_HEARTBEAT: lambda request, _, reply: self._on_heartbeat(
                number, request, reply
            ),
            ApiKey.OFFSET_FETCH: self._on_fetch,
        }
        self.controller_handlers = {
            ApiKey.FIND_COORDINATOR: lambda request, _, reply: reply(
                FindCoordinatorResponse(request.topic, num_partitions=1)
            )
        }
        self.heard: list[tuple[int, ConsumerGroupHeartbeatRequest]] = []
        """Leader and request."""
        self.changed = threading.Condition()
        self.silent: set[int] = set()
        self.errors: list[RaykafkaError] = []
        self.epoch = 1
        self.held: list[Reply] = []

    def __enter__(self) -> Coordinator:
        super().__enter__()
        self.create("t")
        self.create(CONSUMER_OFFSETS)
        return self

    @property
    def log(self) -> Any:
        """The coordinator is whoever leads this."""
        return self.topics[CONSUMER_OFFSETS].logs[0]

    def _on_fetch(self, request: OffsetFetchRequest, _: Any, reply: Reply) -> None:
        reply(OffsetFetchResponse())

    def _on_heartbeat(
        self, number: int, request: ConsumerGroupHeartbeatRequest, reply: Reply
    ) -> None:
        with self.changed:
            self.heard.append((number, request))
            self.changed.notify_all()
        if number in self.silent:
            return
        error = self.errors.pop(0) if self.errors else None
        if error is None and self.log.leader != number:
            error = NotCoordinatorError()
        if error is not None:
            reply(
                ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message)
            )
            return
        if request.max_wait_ms:
            self.held.append(reply)
            return
        self._release()
        assignment = None
        if request.subscribed_topics:
            topic_id = str(self.topics["t"].topic_id)
            assignment = [TopicPartitions("t", topic_id, [0])]
        epoch = self.epoch if request.member_epoch >= 0 else request.member_epoch
        reply(ConsumerGroupHeartbeatResponse("", epoch, INTERVAL_MS, assignment))

    def _release(self) -> None:
        held, self.held = self.held, []
        for reply in held:
            reply(ConsumerGroupHeartbeatResponse("", self.epoch, INTERVAL_MS))

    def release(self) -> None:
        """Answer what is held back: nothing new."""
        self.call(self._release)

    def refuse_held(self, error: RaykafkaError) -> None:
        def refuse() -> None:
            held, self.held = self.held, []
            for reply in held:
                reply(
                    ConsumerGroupHeartbeatResponse(
                        error_code=error.code, error_message=error.message
                    )
                )

        self.call(refuse)

    def wait(self, condition: Callable[[list[Any]], bool]) -> None:
        """Until what was heard is so."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.heard), PATIENCE_S), self.heard


@pytest.fixture
def cluster() -> Iterator[Coordinator]:
    with Coordinator() as running:
        yield running


@pytest.fixture
def member(cluster: Coordinator) -> Iterator[Consumer]:
    """Owns the partition, has said so, and has a heartbeat held back."""
    consumer = Consumer(
        cluster.bootstrap, group_id="g", enable_auto_commit=False, retry_backoff_ms=1
    )
    consumer.subscribe(["t"])
    while not consumer.assignment():
        consumer.poll(10)
    cluster.wait(lambda heard: heard[-1][1].max_wait_ms == INTERVAL_MS and bool(heard[-2][1].owned))
    yield consumer
    cluster.silent.clear()
    consumer.close()


def test_joining_reporting_and_listening(cluster: Coordinator, member: Consumer) -> None:
    requests = [request for _, request in cluster.heard]
    join, report = (request for request in requests if not request.max_wait_ms)
    held = requests[-1]
    assert (join.member_epoch, join.subscribed_topics, join.owned) == (0, ["t"], [])
    assert join.host
    assert (report.member_epoch, report.subscribed_topics) == (1, None)
    assert report.owned is not None
    assert [(each.topic, each.partitions) for each in report.owned] == [("t", [0])]
    assert (held.member_epoch, held.owned, held.max_wait_ms) == (1, None, INTERVAL_MS)
    assert len({request.member_id for _, request in cluster.heard}) == 1


def test_the_next_one_follows_an_answer(cluster: Coordinator, member: Consumer) -> None:
    before = len(cluster.heard)
    cluster.epoch = 4
    cluster.release()
    cluster.wait(lambda heard: len(heard) > before)
    assert cluster.heard[-1][1].member_epoch == 4


@pytest.mark.parametrize("error", [NotCoordinatorError(), CoordinatorLoadInProgressError()])
def test_what_may_pass_is_tried_again_and_says_everything(
    cluster: Coordinator, member: Consumer, error: RaykafkaError
) -> None:
    before = len(cluster.heard)
    cluster.errors = [error] * 3
    cluster.refuse_held(error)
    cluster.wait(lambda heard: len(heard) >= before + 5)
    again = [request for _, request in cluster.heard[before : before + 4]]
    assert [request.max_wait_ms for request in again] == [0] * 4
    assert all(request.subscribed_topics == ["t"] and request.owned for request in again)
    assert member.group_metadata().member_epoch == 1
    assert member.assignment()


def test_a_coordinator_that_moves(cluster: Coordinator, member: Consumer) -> None:
    before = cluster.log.leader
    cluster.move(cluster.log, 1 - before)
    cluster.refuse_held(NotCoordinatorError())
    cluster.wait(lambda heard: heard[-1][0] == 1 - before and heard[-1][1].max_wait_ms > 0)
    assert member.group_metadata().member_epoch == 1


def test_a_coordinator_whose_connections_break(cluster: Coordinator, member: Consumer) -> None:
    before = len(cluster.heard)
    cluster.restart_leader(cluster.log.leader)
    cluster.wait(lambda heard: len(heard) > before and heard[-1][1].max_wait_ms > 0)
    assert member.group_metadata().member_epoch == 1


def test_a_silent_coordinator_that_was_replaced_is_left(
    cluster: Coordinator, member: Consumer
) -> None:
    before = cluster.log.leader
    cluster.silent = {before}
    cluster.move(cluster.log, 1 - before)  # nobody tells the member
    cluster.wait(lambda heard: heard[-1][0] == 1 - before and heard[-1][1].max_wait_ms > 0)
    assert member.group_metadata().member_epoch == 1


def test_one_that_was_removed_loses_its_partitions_first(
    cluster: Coordinator, member: Consumer
) -> None:
    before = len(cluster.heard)
    cluster.refuse_held(FencedMemberEpochError())
    assert member.assignment(), "still, as nothing was polled"
    assert len(cluster.heard) == before, "and so it has not joined again"
    while len(cluster.heard) < before + 3:
        member.poll(10)
    assert cluster.heard[before][1].member_epoch == 0
    assert cluster.heard[before][1].owned == []
    assert member.assignment()


def test_a_refusal_is_raised_until_something_changes(cluster: Coordinator) -> None:
    cluster.errors = [GroupMaxSizeReachedError("full")]
    with Consumer(cluster.bootstrap, group_id="g", retry_backoff_ms=1) as consumer:
        consumer.subscribe(["t"])
        with pytest.raises(GroupMaxSizeReachedError, match="full"):
            consumer.poll(10_000)
        with pytest.raises(GroupMaxSizeReachedError, match="full"):
            consumer.poll(0)
        assert len(cluster.heard) == 1
        consumer.subscribe(["t"])
        while not consumer.assignment():
            consumer.poll(10)


def test_closing_while_the_coordinator_is_silent(cluster: Coordinator) -> None:
    consumer = Consumer(cluster.bootstrap, group_id="g", retry_backoff_ms=1)
    consumer.subscribe(["t"])
    while not consumer.assignment():
        consumer.poll(10)
    cluster.silent = {0, 1}
    consumer.close(timeout_ms=100, autocommit=False)
    assert cluster.heard[-1][1].member_epoch == -1
