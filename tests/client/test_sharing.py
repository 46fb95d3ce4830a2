"""Share groups at the leaders: leases, acknowledgements, dead letters, and what outlives a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from share_kit import ShareGroupAdmin, ShareMember
from wire_kit import wait_until

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.errors import (
    InvalidConfigError,
    InvalidRecordStateError,
)
from raykafka.model import TopicPartition
from raykafka.protocol.share_messages import AcknowledgementBatch
from raykafka.testing.local_cluster import LocalCluster

MakeMember = Callable[[str], ShareMember]


def accepted(first: int, last: int, kind: int = 1) -> AcknowledgementBatch:
    return AcknowledgementBatch(first, last, bytes([kind]))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, partition_actors=1) as running:
        with Admin(running.bootstrap) as admin:
            admin.create_topics([NewTopic("t"), NewTopic("dead")])
        yield running


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[ShareGroupAdmin]:
    made = ShareGroupAdmin(cluster)
    made.configure(**{"share.auto.offset.reset": "earliest"})
    yield made
    made.close()


@pytest.fixture
def member(cluster: LocalCluster, admin: ShareGroupAdmin) -> Iterator[MakeMember]:
    made: list[ShareMember] = []

    def make(name: str) -> ShareMember:
        made.append(ShareMember(cluster, name))
        return made[-1]

    yield make
    for each in made:
        each.close()


def produce(cluster: LocalCluster, start: int, end: int) -> None:
    with Producer(cluster.bootstrap, acks="all") as producer:
        for number in range(start, end):
            producer.send("t", b"%d" % number, headers=[("n", b"%d" % number)])
        producer.flush(20)


def test_members_share_a_partition_and_what_is_done_is_not_delivered_again(
    cluster: LocalCluster, admin: ShareGroupAdmin, member: MakeMember
) -> None:
    produce(cluster, 0, 10)
    a, b = member("a"), member("b")
    assert list(a.fetch(4)) == [0, 1, 2, 3]
    assert b.fetch(100) == {n: (b"%d" % n, 1) for n in range(4, 10)}
    assert a.acknowledge(AcknowledgementBatch(0, 3, b"\x01\x02\x01\x01")) == (0, "")
    assert b.fetch(100) == {1: (b"1", 2)}
    code, message = a.acknowledge(accepted(1, 1))
    assert code == InvalidRecordStateError.code
    assert "not acquired by this member" in message
    assert b.fetch(5, 0, [accepted(1, 1), accepted(4, 9)]) == {}
    assert [each.start_offset for each in admin.offsets()] == [10]


def test_a_member_that_waits_gets_what_is_produced_or_given_back(
    cluster: LocalCluster, admin: ShareGroupAdmin, member: MakeMember
) -> None:
    a, b = member("a"), member("b")
    assert a.fetch(5, 10) == {}
    produce(cluster, 0, 2)
    assert sorted(a.fetch(5) | a.fetch(5, 50)) == [0, 1]
    a.close()  # as a killed process does
    assert b.fetch(1) == {0: (b"0", 2)}
    assert b.acknowledge(release=True) == (0, "")
    c = member("c")
    assert c.fetch(5) == {0: (b"0", 2), 1: (b"1", 2)}


def test_leases_end_and_settings_change_while_the_group_works(
    cluster: LocalCluster, admin: ShareGroupAdmin, member: MakeMember
) -> None:
    admin.configure(**{"share.record.lock.duration.ms": "400"})
    produce(cluster, 0, 3)
    a, b = member("a"), member("b")
    assert len(a.fetch(3)) == 3
    assert b.fetch(3) == {n: (b"%d" % n, 2) for n in range(3)}
    assert a.acknowledge(accepted(0, 2))[0] == InvalidRecordStateError.code
    admin.configure(**{"share.record.lock.duration.ms": "30000"})
    assert b.acknowledge(accepted(0, 0)) == (0, "")
    assert b.acknowledge(accepted(1, 2, kind=4)) == (0, "")  # renewed, for longer now
    assert a.fetch(3, 700) == {}
    with pytest.raises(InvalidConfigError):
        admin.configure(**{"share.record.lock.duration.ms": "soon"})
    with pytest.raises(InvalidConfigError, match="topic of coordinators"):
        admin.configure(**{"errors.deadletterqueue.topic.name": "__consumer_offsets"})


def test_what_was_acknowledged_outlives_the_leader_and_its_coordinator(
    cluster: LocalCluster, admin: ShareGroupAdmin, member: MakeMember
) -> None:
    produce(cluster, 0, 20)
    a = member("a")
    assert len(a.fetch(10)) == 10
    assert a.acknowledge(accepted(0, 2), accepted(5, 6), accepted(8, 9, kind=2)) == (0, "")
    b = member("b")
    cluster.kill_partition_actor(0)
    found = b.fetch_again()
    left = [3, 4, 7, 8, 9, *range(10, 20)]
    assert sorted(found) == left
    assert {found[offset][1] for offset in (8, 9)} == {2}


def test_what_is_rejected_or_fails_too_often_goes_to_the_dead_letter_topic(
    cluster: LocalCluster, admin: ShareGroupAdmin, member: MakeMember
) -> None:
    admin.configure(
        **{"share.delivery.count.limit": "2", "errors.deadletterqueue.topic.name": "dead"}
    )
    produce(cluster, 0, 3)
    a = member("a")
    assert len(a.fetch(3)) == 3
    assert a.acknowledge(accepted(0, 0, kind=3), accepted(1, 1), accepted(2, 2, kind=2))[0] == 0
    assert a.fetch(3) == {2: (b"2", 2)}
    assert a.acknowledge(accepted(2, 2, kind=2)) == (0, "")
    with Consumer(cluster.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("dead", 0)])
        letters = []
        while len(letters) < 2:
            for records in consumer.poll(5000).values():
                letters += list(records)
    by_value = {letter.value: dict(letter.headers) for letter in letters}
    assert by_value[b"0"] == {
        "n": b"0",
        "__dlq.errors.topic": b"t",
        "__dlq.errors.partition": b"0",
        "__dlq.errors.offset": b"0",
        "__dlq.errors.group": b"workers",
        "__dlq.errors.delivery.count": b"1",
        "__dlq.errors.message": b"Offset rejected by client.",
    }
    assert by_value[b"2"]["__dlq.errors.delivery.count"] == b"2"
    wait_until(lambda: [e.start_offset for e in admin.offsets()] == [3], "all three to be done")
