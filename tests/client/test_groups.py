"""Consumer groups on a whole cluster: who reads what, and from where."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from raykafka.client.admin import Admin
from raykafka.client.cluster.metadata import PartitionMetadata
from raykafka.client.consumer import Consumer
from raykafka.client.consuming.rebalance_listener import ConsumerRebalanceListener
from raykafka.client.producer import Producer
from raykafka.clock import SystemClock
from raykafka.errors import (
    ClientClosedError,
    CommitFailedError,
    IllegalStateError,
    InvalidGroupIdError,
    InvalidRegularExpressionError,
    InvalidRequestError,
    NoOffsetForPartitionError,
    RaykafkaError,
)
from raykafka.internal_topics import CONSUMER_OFFSETS, coordinator_partition
from raykafka.model import OffsetAndMetadata, TopicPartition
from raykafka.testing.local_cluster import LocalCluster
from tests.kits.topics import create_topic, delete_topic

SESSION_MS = 1500
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(
        tmp_path_factory.mktemp("groups"),
        configs={
            "group.consumer.session.timeout.ms": str(SESSION_MS),
            "group.consumer.heartbeat.interval.ms": "200",
        },
    ) as running:
        yield running


@pytest.fixture
def make(cluster: LocalCluster) -> Iterator[Callable[..., Consumer]]:
    """Makes members of a group, which are closed at the end."""
    made: list[Consumer] = []

    def member(topic: str = "", **settings: Any) -> Consumer:
        wanted = {"auto_offset_reset": "earliest", "group_id": "g", "retry_backoff_ms": 5}
        listener = settings.pop("listener", None)
        consumer = Consumer(cluster.bootstrap, **{**wanted, **settings})
        made.append(consumer)
        if topic:
            consumer.subscribe([topic], listener=listener)
        return consumer

    yield member
    for consumer in made:
        consumer.close()


@pytest.fixture
def group(request: pytest.FixtureRequest) -> str:
    """A name of its own for each test."""
    return str(request.node.name)


@pytest.fixture
def topic(cluster: LocalCluster) -> str:
    return create_topic(cluster.bootstrap, partitions=4)


def send(cluster: LocalCluster, topic: str, count: int, partitions: int = 4) -> None:
    with Producer(cluster.bootstrap) as producer:
        for number in range(count):
            producer.send(topic, b"%d" % number, partition=number % partitions)


def places(topic: str, *numbers: int) -> set[TopicPartition]:
    return {TopicPartition(topic, number) for number in numbers or range(4)}


def poll_until(condition: Callable[[], bool], *consumers: Consumer) -> list[Any]:
    """Poll all of them until something is true; what they returned."""
    polled = []
    deadline = threading.Event()
    timer = threading.Timer(PATIENCE_S, deadline.set)
    timer.start()
    try:
        while not condition():
            assert not deadline.is_set(), "it did not come true"
            for consumer in consumers:
                for records in consumer.poll(10).values():
                    polled += records
    finally:
        timer.cancel()
    return polled


def settle(*consumers: Consumer, owned: int = 4) -> None:
    """Poll until all partitions are spread over these members."""

    def spread() -> bool:
        sizes = [len(consumer.assignment()) for consumer in consumers]
        return sum(sizes) == owned and max(sizes) - min(sizes) <= 1

    poll_until(spread, *consumers)


def wait_for_heartbeats(consumer: Consumer, count: int) -> None:
    """Until so many more have been answered, without polling."""
    assert consumer._group is not None
    heartbeats = consumer._group.heartbeats
    enough = heartbeats.answered + count
    with heartbeats.changed:
        assert heartbeats.changed.wait_for(lambda: heartbeats.answered >= enough, PATIENCE_S)


class SkippingClock(SystemClock):
    """May be put forward."""

    skipped_ms = 0

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self.skipped_ms


class Told(ConsumerRebalanceListener):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[int, ...]]] = []

    def _note(self, what: str, partitions: Collection[TopicPartition]) -> None:
        if partitions:
            self.heard.append((what, tuple(place.partition for place in partitions)))

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._note("assigned", assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._note("revoked", revoked)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self._note("lost", lost)


# --- membership -----------------------------------------------------------------------------------


def test_one_member_reads_everything(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    send(cluster, topic, 40)
    told = Told()
    consumer = make(topic, group_id=group, listener=told)
    seen: list[Any] = []
    poll_until(lambda: bool(seen.extend(_drain(consumer))) or len(seen) == 40)
    assert consumer.assignment() == places(topic)
    assert consumer.subscription() == {topic}
    assert told.heard == [("assigned", (0, 1, 2, 3))]
    member = consumer.group_metadata()
    assert member.group_id == group
    assert member.member_epoch > 0


def _drain(consumer: Consumer) -> list[Any]:
    return [record for records in consumer.poll(10).values() for record in records]


def test_members_share_and_the_others_go_on_meanwhile(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    told = [Told(), Told(), Told()]
    first = make(topic, group_id=group, listener=told[0])
    settle(first)
    second = make(topic, group_id=group, listener=told[1])
    settle(first, second)
    third = make(topic, group_id=group, listener=told[2])
    settle(first, second, third)
    # Nothing is taken from somebody only to be given back.
    for listener in told:
        given, taken = set(), set()
        for what, numbers in listener.heard:
            (given if what == "assigned" else taken).update(numbers)
            assert what != "lost"
            assert not (what == "assigned" and taken & set(numbers))
    second.close()
    settle(first, third)
    first.close()
    settle(third)
    send(cluster, topic, 8)
    read: list[Any] = []
    poll_until(lambda: bool(read.extend(_drain(third))) or len(read) == 8)


def test_no_record_is_missed_or_read_twice_while_members_come_and_go(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    total = 2000
    sender = threading.Thread(target=send, args=(cluster, topic, total))
    read: list[bytes] = []
    members = [make(topic, group_id=group)]
    sender.start()
    for _ in range(3):
        read += [record.value for record in poll_until(_after(20), *members)]
        members.append(make(topic, group_id=group))
    for _ in range(3):
        read += [record.value for record in poll_until(_after(20), *members)]
        members.pop(0).close()
    sender.join()
    while len(read) < total:
        read += [record.value for record in poll_until(_after(5), *members)]
    assert sorted(map(int, read)) == list(range(total))


def _after(rounds: int) -> Callable[[], bool]:
    left = iter(range(rounds))
    return lambda: next(left, None) is None


def test_more_members_than_partitions(
    cluster: LocalCluster, make: Callable[..., Consumer], group: str
) -> None:
    narrow = create_topic(cluster.bootstrap, partitions=1)
    first, second = make(narrow, group_id=group), make(narrow, group_id=group)
    settle(first, second, owned=1)
    idle = first if not first.assignment() else second
    busy = second if idle is first else first
    busy.close()
    settle(idle, owned=1)


def test_a_pattern_follows_topics_that_come_later(
    cluster: LocalCluster, make: Callable[..., Consumer], group: str
) -> None:
    create_topic(cluster.bootstrap, name="metrics-1")
    create_topic(cluster.bootstrap, name="other-metrics")
    consumer = make(group_id=group)
    consumer.subscribe(pattern=r"metrics-\d+")
    poll_until(lambda: consumer.subscription() == {"metrics-1"}, consumer)
    create_topic(cluster.bootstrap, name="metrics-2")
    poll_until(lambda: consumer.subscription() == {"metrics-1", "metrics-2"}, consumer)
    delete_topic(cluster.bootstrap, "metrics-1")
    poll_until(lambda: consumer.subscription() == {"metrics-2"}, consumer)


def test_another_subscription_and_none(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    other = create_topic(cluster.bootstrap, partitions=2)
    told = Told()
    consumer = make(topic, group_id=group, listener=told)
    settle(consumer)
    consumer.subscribe([topic, other], listener=told)
    settle(consumer, owned=6)
    consumer.subscribe([other], listener=told)
    poll_until(lambda: consumer.assignment() == places(other, 0, 1), consumer)
    consumer.unsubscribe()
    assert consumer.assignment() == set()
    assert consumer.subscription() == set()
    heard = [what for what, _ in told.heard]
    assert heard == ["assigned", "assigned", "revoked", "revoked"]
    with Admin(cluster.bootstrap) as admin:
        assert admin.describe_consumer_groups([group])[0].members == []
    consumer.assign(sorted(places(topic, 0)))
    assert consumer.poll(0) == {}
    consumer.unsubscribe()
    consumer.subscribe([topic])
    settle(consumer)


def test_a_topic_that_does_not_exist_yet(
    cluster: LocalCluster, make: Callable[..., Consumer], group: str
) -> None:
    consumer = make("comes-later", group_id=group)
    wait_for_heartbeats(consumer, 1)
    consumer.poll(0)
    assert consumer.assignment() == set()
    create_topic(cluster.bootstrap, name="comes-later", partitions=2)
    settle(consumer, owned=2)


def test_a_topic_that_was_made_again_is_read_from_its_start(
    cluster: LocalCluster, make: Callable[..., Consumer], group: str
) -> None:
    name = create_topic(cluster.bootstrap, partitions=2)
    send(cluster, name, 10, 2)
    consumer = make(name, group_id=group)
    read: list[Any] = []
    poll_until(lambda: bool(read.extend(_drain(consumer))) or len(read) == 10)
    consumer.commit()
    delete_topic(cluster.bootstrap, name)
    poll_until(lambda: consumer.assignment() == set(), consumer)
    create_topic(cluster.bootstrap, name=name, partitions=2)
    send(cluster, name, 4, 2)
    poll_until(lambda: bool(read.extend(_drain(consumer))) or len(read) == 14)
    again = sorted((record.partition, record.offset) for record in read[10:])
    assert again == [(0, 0), (0, 1), (1, 0), (1, 1)]
    consumer.close()
    fresh = make(name, group_id=group)
    settle(fresh, owned=2)
    assert fresh.committed(TopicPartition(name, 0)) == 2


def test_static_members_come_back_to_what_they_had(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    told = Told()
    first = make(topic, group_id=group, group_instance_id="one", listener=told)
    second = make(topic, group_id=group, group_instance_id="two")
    settle(first, second)
    had, before = second.assignment(), list(told.heard)
    second.close()
    again = make(topic, group_id=group, group_instance_id="two")
    settle(first, again)
    assert again.assignment() == had
    assert told.heard == before, "nobody else noticed"


def test_slow_processing_is_not_evicted(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    told = Told()
    consumer = make(topic, group_id=group, listener=told)
    settle(consumer)
    epoch = consumer.group_metadata().member_epoch
    wait_for_heartbeats(consumer, 3 * SESSION_MS // 200)
    consumer.poll(0)
    assert consumer.group_metadata().member_epoch == epoch
    assert told.heard == [("assigned", (0, 1, 2, 3))]


def test_one_that_does_not_poll_leaves_and_is_told_why(
    cluster: LocalCluster,
    topic: str,
    group: str,
    make: Callable[..., Consumer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = SkippingClock()
    told = Told()
    with Consumer(
        cluster.bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        max_poll_interval_ms=60_000,
        clock=clock,
    ) as slow:
        slow.subscribe([topic], listener=told)
        settle(slow)
        other = make(topic, group_id=group)
        settle(slow, other)
        with caplog.at_level(logging.WARNING):
            clock.skipped_ms = 60_001
            settle(other)
        assert "max.poll.interval.ms (60000 ms)" in caplog.text
        with pytest.raises(CommitFailedError, match=r"max\.poll\.interval\.ms.*max_poll_records"):
            slow.commit()
        settle(slow, other)
        assert [what for what, _ in told.heard] == ["assigned", "revoked", "lost", "assigned"]
        slow.commit()


def test_one_that_was_removed_joins_again(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    told = Told()
    consumer = make(topic, group_id=group, listener=told)
    settle(consumer)
    with Admin(cluster.bootstrap) as admin:
        admin.remove_members_from_consumer_group(group)
    poll_until(lambda: len(told.heard) == 3, consumer)
    assert told.heard == [
        ("assigned", (0, 1, 2, 3)),
        ("lost", (0, 1, 2, 3)),
        ("assigned", (0, 1, 2, 3)),
    ]


def test_leaving_without_a_word(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    first, second = make(topic, group_id=group), make(topic, group_id=group)
    settle(first, second)
    second.close(leave_group=False)
    with Admin(cluster.bootstrap) as admin:
        assert len(admin.describe_consumer_groups([group])[0].members) == 2
    settle(first)


def test_a_coordinator_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as mortal:
        name = create_topic(mortal.bootstrap, partitions=4)
        told = Told()
        with Consumer(mortal.bootstrap, group_id="g", auto_offset_reset="earliest") as consumer:
            consumer.subscribe([name], listener=told)
            settle(consumer)
            epoch = consumer.group_metadata().member_epoch
            for round_ in range(3):
                send(mortal, name, 4)
                read: list[Any] = []
                poll_until(lambda read=read: bool(read.extend(_drain(consumer))) or len(read) == 4)
                for slot in mortal.partition_actor_slots():
                    mortal.kill_partition_actor(slot)
                consumer.commit()
                assert consumer.committed(TopicPartition(name, 0)) == round_ + 1
            assert consumer.group_metadata().member_epoch == epoch
            assert told.heard == [("assigned", (0, 1, 2, 3))]


def test_a_coordinator_with_copies_is_succeeded(tmp_path: Path) -> None:
    with (
        LocalCluster(tmp_path, nodes=3, partition_actors=1) as mortal,
        Admin(mortal.bootstrap) as admin,
        Consumer(mortal.bootstrap, group_id="g") as consumer,
    ):
        poll_until(lambda: len(admin.describe_cluster().brokers) == 3)
        name = create_topic(mortal.bootstrap)
        consumer.subscribe([name])
        settle(consumer, owned=1)
        before = consumer.group_metadata()
        place = TopicPartition(name, 0)

        def coordinator() -> PartitionMetadata:
            [described] = admin.describe_topics([CONSUMER_OFFSETS])
            return described.partitions[coordinator_partition("g", len(described.partitions))]

        for offset in range(1, 4):
            poll_until(lambda: len(coordinator().isr) == 3, consumer)
            consumer.commit({place: offset})
            mortal.kill_partition_actor(0, coordinator().leader_id)
            assert consumer.committed(place) == offset
            consumer.commit({place: offset + 10})
            assert consumer.committed(place) == offset + 10
        consumer.poll(0)
        assert consumer.group_metadata() == before


def test_closing_when_the_cluster_is_gone(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as short_lived:
        name = create_topic(short_lived.bootstrap)
        member = Consumer(short_lived.bootstrap, group_id="g", retry_backoff_ms=1)
        member.subscribe([name])
        settle(member, owned=1)
        late = Consumer(short_lived.bootstrap, group_id="g", retry_backoff_ms=1)
    late.subscribe([name])
    for consumer in (member, late):
        consumer.close(timeout_ms=100)
    ends = [each for each in threading.enumerate() if each.name.startswith("raykafka-heart")]
    for thread in ends:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in ends)


# --- listeners ------------------------------------------------------------------------------------


def test_a_listener_may_seek_and_commit(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    send(cluster, topic, 40)

    class Mover(ConsumerRebalanceListener):
        consumer: Consumer

        def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
            for place in assigned:
                assert self.consumer.position(place) == 0
                self.consumer.seek(place, 9)

        def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
            assert set(revoked) <= self.consumer.assignment()
            self.consumer.commit(dict.fromkeys(revoked, (7, "note")))

    listener = Mover()
    listener.consumer = make(group_id=group, enable_auto_commit=False)
    listener.consumer.subscribe([topic], listener=listener)
    read: list[Any] = []
    poll_until(lambda: bool(read.extend(_drain(listener.consumer))) or len(read) == 4)
    assert [record.offset for record in read] == [9] * 4
    listener.consumer.unsubscribe()
    found = listener.consumer.committed(TopicPartition(topic, 1), metadata=True)
    assert found == OffsetAndMetadata(7, "note")


def test_what_a_listener_raises_comes_out_of_poll(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    class Broken(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
            raise KeyError("broken")

    consumer = make(topic, group_id=group, listener=Broken())
    with pytest.raises(KeyError, match="broken"):
        settle(consumer)
    settle(consumer)


def test_a_listener_cannot_poll(make: Callable[..., Consumer], topic: str, group: str) -> None:
    class Recursive(ConsumerRebalanceListener):
        consumer: Consumer

        def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
            self.consumer.poll(0)

    listener = Recursive()
    listener.consumer = make(topic, group_id=group, listener=listener)
    with pytest.raises(IllegalStateError, match="cannot poll"):
        settle(listener.consumer)


@pytest.mark.parametrize("call", ["unsubscribe", "close"])
@pytest.mark.parametrize("when", ["on_partitions_assigned", "on_partitions_revoked"])
def test_a_listener_may_unsubscribe_and_close(
    make: Callable[..., Consumer], topic: str, group: str, when: str, call: str
) -> None:
    heard: list[set[TopicPartition]] = []

    def end(partitions: Collection[TopicPartition]) -> None:
        heard.append(set(partitions))
        if len(heard) < 10:  # a listener that is told again and again must end, too
            getattr(consumer, call)()

    listener = ConsumerRebalanceListener()
    setattr(listener, when, end)
    consumer = make(topic, group_id=group, listener=listener)
    try:
        if when == "on_partitions_assigned":
            poll_until(lambda: bool(heard), consumer)
        else:
            settle(consumer)
            getattr(consumer, call)()
    except ClientClosedError:
        assert call == "close"
    assert heard == [places(topic)]
    if call == "close":
        with pytest.raises(ClientClosedError):
            consumer.poll(0)
    else:
        assert not consumer.assignment()
        consumer.poll(0)


# --- offsets --------------------------------------------------------------------------------------


def test_a_group_goes_on_where_it_was(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    send(cluster, topic, 40)
    consumer = make(topic, group_id=group)
    read: list[Any] = []
    poll_until(lambda: bool(read.extend(_drain(consumer))) or len(read) == 40)
    assert consumer.committed(TopicPartition(topic, 0)) is None
    consumer.close()  # commits
    send(cluster, topic, 4)
    consumer = make(topic, group_id=group)
    read = []
    poll_until(lambda: bool(read.extend(_drain(consumer))) or len(read) == 4)
    assert {record.offset for record in read} == {10}
    assert consumer.committed(TopicPartition(topic, 0)) == 10


def test_polling_commits_what_came_before(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    send(cluster, topic, 4)
    consumer = make(topic, group_id=group, auto_commit_interval_ms=1, max_poll_records=4)
    place = TopicPartition(topic, 2)
    poll_until(lambda: consumer.committed(place) == 1, consumer)


def test_iteration_commits_in_the_middle_of_a_batch(
    cluster: LocalCluster, make: Callable[..., Consumer], group: str
) -> None:
    narrow = create_topic(cluster.bootstrap)
    with Producer(cluster.bootstrap, linger_ms=50) as producer:
        for number in range(1000):
            producer.send(narrow, b"%d" % number)
    consumer = make(narrow, group_id=group, auto_commit_interval_ms=1)
    for record in consumer:
        if record.offset == 10:
            wait_for_heartbeats(consumer, 2)
        if record.offset == 12:
            break
    committed = consumer.committed(TopicPartition(narrow, 0))
    assert committed in (11, 12)


def test_what_was_in_hand_when_an_exception_came_is_read_again(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    send(cluster, topic, 4)
    broken = make(topic, group_id=group)
    with pytest.raises(ZeroDivisionError), broken:
        1 / next(broken).offset
    again = make(topic, group_id=group)
    assert len(_drain_all(again, 4)) == 4


def test_a_consumer_that_is_dropped_is_no_member_for_ever(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    dropped = Consumer(cluster.bootstrap, group_id=group)
    dropped.subscribe([topic])
    settle(dropped)
    member, *sockets = dropped._group, dropped._metadata, dropped._connections
    del dropped
    gc.collect()
    settle(make(topic, group_id=group))
    assert member is not None
    member.positions.offsets.close()
    member.heartbeats.stop()
    for each in sockets:
        each.close()


def test_nothing_is_committed_without_being_asked_for(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    send(cluster, topic, 4)
    consumer = make(topic, group_id=group, enable_auto_commit=False)
    read: list[Any] = []
    poll_until(lambda: bool(read.extend(_drain(consumer))) or len(read) == 4)
    consumer.close()
    consumer = make(topic, group_id=group, enable_auto_commit=False)
    assert consumer.committed(TopicPartition(topic, 0)) is None


def test_commits_take_effect_in_order(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    consumer = make(topic, group_id=group, enable_auto_commit=False)
    settle(consumer)
    place = TopicPartition(topic, 0)
    done: list[tuple[int, RaykafkaError | None]] = []
    for offset in range(200):
        consumer.commit_async(
            {place: offset}, lambda offsets, error: done.append((offsets[place].offset, error))
        )
    consumer.commit({place: 500})
    assert consumer.committed(place) == 500
    consumer.poll(0)
    assert done == [(offset, None) for offset in range(200)]


def hold_commits(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The thread that commits waits for the event, or for half a second."""
    assert consumer._group is not None
    offsets, go = consumer._group.positions.offsets, threading.Event()
    send_now = offsets._send

    def send_late(*arguments: Any) -> Any:
        go.wait(0.5)
        return send_now(*arguments)

    monkeypatch.setattr(offsets, "_send", send_late)
    return go


def test_what_was_committed_before_closing_is_committed(
    make: Callable[..., Consumer], topic: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = make(topic, group_id=group, enable_auto_commit=False)
    other = make(topic, group_id=group, enable_auto_commit=False)
    settle(consumer, other)
    mine = min(consumer.assignment())
    left = hold_commits(consumer, monkeypatch)
    failed: list[RaykafkaError | None] = []
    consumer.commit_async({mine: 5}, lambda _, error: failed.append(error))
    assert consumer._group is not None
    heartbeats = consumer._group.heartbeats
    wait_idle = heartbeats.wait_idle

    def wait_and_tell(timeout_ms: int) -> bool:
        idle = wait_idle(timeout_ms)
        left.set()
        return idle

    monkeypatch.setattr(heartbeats, "wait_idle", wait_and_tell)
    consumer.close()
    assert failed == [None]
    assert other.committed(mine) == 5


def test_what_was_committed_before_a_partition_goes_is_committed(
    make: Callable[..., Consumer], topic: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = make(topic, group_id=group, enable_auto_commit=False)
    settle(consumer)
    given = hold_commits(consumer, monkeypatch)
    failed: list[RaykafkaError | None] = []
    consumer.commit_async(dict.fromkeys(places(topic), 5), lambda _, error: failed.append(error))
    other = make(topic, group_id=group, enable_auto_commit=False)
    settle(consumer, other)
    given.set()
    poll_until(lambda: bool(failed), consumer)
    assert failed == [None]
    assert [other.committed(place) for place in places(topic)] == [5] * 4


def test_a_commit_for_a_partition_of_another_member_is_refused_at_once(
    make: Callable[..., Consumer], topic: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = make(topic, group_id=group, enable_auto_commit=False)
    other = make(topic, group_id=group, enable_auto_commit=False)
    settle(consumer, other)
    mine, theirs = min(consumer.assignment()), min(other.assignment())
    with pytest.raises(CommitFailedError, match="belongs to member"):
        consumer.commit({theirs: 3})
    go = hold_commits(consumer, monkeypatch)  # so that several travel together
    outcomes: list[tuple[TopicPartition, RaykafkaError | None]] = []
    for place in (mine, theirs, mine):
        consumer.commit_async({place: 3}, lambda at, error: outcomes.append((*at, error)))
    go.set()
    consumer.commit({mine: 4})
    assert [(place, type(error)) for place, error in outcomes] == [
        (mine, type(None)),
        (theirs, CommitFailedError),
        (mine, type(None)),
    ]
    assert (consumer.committed(mine), consumer.committed(theirs)) == (4, None)


@pytest.mark.parametrize("offset", [None, 1.0, "5", True, -1, 1 << 63])
def test_what_is_no_offset_is_not_committed(
    make: Callable[..., Consumer], topic: str, group: str, offset: Any
) -> None:
    consumer = make(group_id=group)
    with pytest.raises(InvalidRequestError, match="an integer from 0"):
        consumer.commit({TopicPartition(topic, 0): offset})


def test_offsets_of_partitions_that_are_assigned_by_hand(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    send(cluster, topic, 40)
    place = TopicPartition(topic, 1)
    consumer = make(group_id=group)
    consumer.assign([place])
    assert len(_drain_all(consumer, 10)) == 10
    consumer.commit()
    other = make(group_id=group)
    other.assign([place])
    assert other.position(place) == 10
    other.seek(place, 3)
    assert other.position(place) == 3
    member = make(topic, group_id=group)
    settle(member)
    with pytest.raises(CommitFailedError, match="has members"):
        other.commit()


def _drain_all(consumer: Consumer, count: int) -> Sequence[Any]:
    read: list[Any] = []
    poll_until(lambda: bool(read.extend(_drain(consumer))) or len(read) >= count)
    return read


def test_no_committed_offset_and_no_policy(
    make: Callable[..., Consumer], topic: str, group: str
) -> None:
    consumer = make(topic, group_id=group, auto_offset_reset="none")
    with pytest.raises(NoOffsetForPartitionError):
        poll_until(lambda: False, consumer)


def test_a_commit_of_somebody_who_was_removed(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    send(cluster, topic, 4)
    consumer = make(topic, group_id=group, enable_auto_commit=False)
    read: list[Any] = []
    poll_until(lambda: bool(read.extend(_drain(consumer))) or len(read) == 4)
    with Admin(cluster.bootstrap) as admin:
        admin.remove_members_from_consumer_group(group)
    with pytest.raises(CommitFailedError, match="poll"):
        consumer.commit()
    failed: list[RaykafkaError | None] = []
    consumer.commit_async(callback=lambda _, error: failed.append(error))
    poll_until(lambda: bool(failed), consumer)
    assert isinstance(failed[0], CommitFailedError)


# --- refusals -------------------------------------------------------------------------------------


def test_without_a_group(cluster: LocalCluster, make: Callable[..., Consumer], topic: str) -> None:
    consumer = make(group_id=None)
    for call in (
        lambda: consumer.subscribe([topic]),
        consumer.commit,
        consumer.commit_async,
        lambda: consumer.committed(TopicPartition(topic, 0)),
        consumer.group_metadata,
        consumer.enforce_rebalance,
    ):
        with pytest.raises(InvalidGroupIdError, match="give group_id a name"):
            call()
    consumer.assign(sorted(places(topic)))
    assert consumer.poll(0) == {}


def test_subscribe_and_assign_exclude_each_other(
    make: Callable[..., Consumer], topic: str, group: str
) -> None:
    consumer = make(group_id=group)
    consumer.assign(sorted(places(topic)))
    with pytest.raises(IllegalStateError, match="unsubscribe"):
        consumer.subscribe([topic])
    consumer.unsubscribe()
    consumer.subscribe([topic])
    with pytest.raises(IllegalStateError, match="unsubscribe"):
        consumer.assign([])
    with pytest.raises(IllegalStateError, match="not to both"):
        consumer.subscribe([topic], pattern="t.*")
    with pytest.raises(InvalidRegularExpressionError):
        consumer.subscribe(pattern="(")
    with pytest.raises(InvalidRequestError, match="a list of topics"):
        consumer.subscribe(topic)
    with pytest.raises(InvalidRequestError):
        consumer.commit({TopicPartition(topic, 0): -1})
    consumer.close()
    with pytest.raises(ClientClosedError):
        consumer.subscribe([topic])


def test_a_group_id_that_is_no_text(make: Callable[..., Consumer], topic: str) -> None:
    consumer = make(topic, group_id="g\ud800")
    with pytest.raises(InvalidRequestError, match="UTF-8"):
        poll_until(lambda: False, consumer)


def test_the_coordinators_refusal_comes_out_of_poll(
    cluster: LocalCluster, make: Callable[..., Consumer], topic: str, group: str
) -> None:
    consumer = make(topic, group_id=group, group_remote_assignor="unheard-of")
    with pytest.raises(RaykafkaError, match="unheard-of"):
        poll_until(lambda: False, consumer)
    with pytest.raises(RaykafkaError, match="unheard-of"):
        consumer.poll(0)
    consumer.unsubscribe()
    assert consumer.poll(0) == {}
