"""Topic commands: what is refused, by which error, and that one bad item leaves the rest alone."""

from __future__ import annotations

from typing import Any

import pytest
from controller_kit import Cluster, topic

from raykafka import errors
from raykafka.controller.commands import (
    AddSchema,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    FenceBroker,
    PartitionsToCreate,
    ReportReplicas,
    TopicAnswer,
)
from raykafka.controller.topics import MAX_PARTITIONS, validate_topic_name
from raykafka.model import PartitionId


@pytest.fixture
def cluster() -> Cluster:
    return Cluster.started(brokers=1, slots=2)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 249, "...", "__consumer_offsets"])
def test_legal_names(name: str) -> None:
    validate_topic_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\0b", "a b", "ä", "a\n", "x" * 250, "__cluster_metadata"],
)
def test_illegal_names(name: str) -> None:
    with pytest.raises(errors.InvalidTopicError):
        validate_topic_name(name)


def test_a_new_topic_is_led_by_the_running_actors_of_its_slots(cluster: Cluster) -> None:
    (answer,) = cluster.do(CreateTopics([topic("t", 4)]))
    assert (answer.error, answer.num_partitions) == (None, 4)
    state = cluster.image.topics[answer.topic_id]
    assert [partition.slots for partition in state.partitions] == [(0,), (1,), (0,), (1,)]
    assert {partition.leader for partition in state.partitions} == {0}
    assert not any(partition.online for partition in state.partitions), "nobody has opened them"


def test_each_bad_topic_fails_alone(cluster: Cluster) -> None:
    cluster.do(CreateTopics([topic("there")]))
    wanted = {
        "there": errors.TopicAlreadyExistsError,
        "bad/name": errors.InvalidTopicError,
        "twice": errors.InvalidRequestError,
        "none": errors.InvalidPartitionsError,
        "many": errors.InvalidPartitionsError,
        "copies": errors.InvalidReplicationFactorError,
        "zero": errors.InvalidReplicationFactorError,
        "key": errors.InvalidConfigError,
        "value": errors.InvalidConfigError,
        "column": errors.InvalidConfigError,
        "huge": errors.InvalidConfigError,
        "good": type(None),
    }
    answers = cluster.do(
        CreateTopics(
            [
                topic("there"),
                topic("bad/name"),
                topic("twice"),
                topic("twice"),
                topic("none", 0),
                topic("many", MAX_PARTITIONS + 1),
                topic("copies")._replace(replication_factor=2),
                topic("zero")._replace(replication_factor=0),
                topic("key", configs={"retention.msec": "1"}),
                topic("value", configs={"retention.ms": "soon"}),
                topic("column", configs={"key.column": "id"}),
                topic("huge", configs={"max.message.bytes": str(1 << 29)}),
                topic("good"),
            ]
        )
    )
    assert {answer.name: type(answer.error) for answer in answers} == wanted
    assert set(cluster.image.topic_ids) == {"there", "good"}


def test_a_request_has_an_upper_bound(cluster: Cluster) -> None:
    wanted = [topic("a", MAX_PARTITIONS - 5), topic("b", 6), topic("c", 5)]
    answers = cluster.do(CreateTopics(wanted, validate_only=True))
    kinds = [type(answer.error) for answer in answers]
    assert kinds == [type(None), errors.PolicyViolationError, type(None)]


def test_messages_say_what_is_wrong(cluster: Cluster) -> None:
    answers = cluster.do(
        CreateTopics(
            [
                topic("key", configs={"retention.msec": "1"}),
                topic("copies")._replace(replication_factor=3),
            ]
        )
    )
    key, copies = (str(answer.error) for answer in answers)
    assert "retention.msec" in key
    assert "retention.ms" in key
    assert "3 needs as many brokers, 1 are alive" in copies


def test_without_a_live_broker_nothing_is_created() -> None:
    cluster = Cluster()
    (answer,) = cluster.do(CreateTopics([topic("t")]))
    assert isinstance(answer.error, errors.InvalidReplicationFactorError)
    assert "0 are alive" in str(answer.error)


def test_validate_only_changes_nothing(cluster: Cluster) -> None:
    before = cluster.image
    (answer,) = cluster.do(CreateTopics([topic("t", 3)], validate_only=True))
    assert answer == TopicAnswer("t", "", 3)
    assert cluster.image is before


def test_defaults_come_from_the_cluster() -> None:
    cluster = Cluster.started(static={"num.partitions": "7"})
    (answer,) = cluster.do(CreateTopics([topic("t", -1)]))
    assert answer.num_partitions == 7


def test_partitions_only_grow(cluster: Cluster) -> None:
    cluster.do(CreateTopics([topic("t", 3)]))
    command = CreatePartitions(
        [
            PartitionsToCreate("t", 5),
            PartitionsToCreate("gone", 5),
        ]
    )
    grown, unknown = cluster.do(command)
    assert grown.num_partitions == 5
    assert isinstance(unknown.error, errors.UnknownTopicOrPartitionError)
    for count in (5, 4, MAX_PARTITIONS + 1):
        (answer,) = cluster.do(CreatePartitions([PartitionsToCreate("t", count)]))
        assert isinstance(answer.error, errors.InvalidPartitionsError), count
    assert len(cluster.topic("t").partitions) == 5


def test_a_deleted_name_is_free_once_its_replicas_are_gone(cluster: Cluster) -> None:
    (created,) = cluster.do(CreateTopics([topic("t", 3)]))
    deleted, unknown = cluster.do(DeleteTopics(["t", "other"]))
    assert deleted.error is None
    assert isinstance(unknown.error, errors.UnknownTopicOrPartitionError)

    (again,) = cluster.do(CreateTopics([topic("t")]))
    assert isinstance(again.error, errors.TopicAlreadyExistsError)
    assert "being deleted" in str(again.error)

    cluster.do(ReportReplicas(0, 0, 1, {}, [PartitionId(created.topic_id, p) for p in (0, 1, 2)]))
    assert set(cluster.image.removals) == {PartitionId(created.topic_id, 1)}, "slot 1 has it"
    cluster.do(ReportReplicas(0, 1, 1, {}, [PartitionId(created.topic_id, 1)]))
    (again,) = cluster.do(CreateTopics([topic("t")]))
    assert again.error is None
    assert again.topic_id != created.topic_id


def test_schemas_are_added_one_after_the_other(cluster: Cluster) -> None:
    cluster.do(CreateTopics([topic("typed", schema=b"s0"), topic("untyped")]))
    assert cluster.do(AddSchema("typed", 1, b"s1")) == 1
    refused: list[tuple[Any, type[Exception]]] = [
        (AddSchema("typed", 1, b"other"), errors.InvalidUpdateVersionError),
        (AddSchema("untyped", 0, b"s"), errors.UnsupportedSchemaChangeError),
        (AddSchema("none", 0, b"s"), errors.UnknownTopicOrPartitionError),
    ]
    for command, error in refused:
        with pytest.raises(error):
            cluster.do(command)
    assert cluster.topic("typed").schemas == (b"s0", b"s1")
    assert cluster.topic("typed").settings_version == 1


def test_replicas_by_hand() -> None:
    cluster = Cluster.started(brokers=3)
    cluster.lose(2)
    cluster.do(FenceBroker(2, 1))
    (answer,) = cluster.do(CreateTopics([topic("t", assignments=[[1, 0], [0, 1]])]))
    assert (answer.error, answer.num_partitions) == (None, 2)
    assert [p.replicas for p in cluster.topic("t").partitions] == [(1, 0), (0, 1)]
    assert [p.leader for p in cluster.topic("t").partitions] == [1, 0]
    refused = {
        "twice": [[0, 0]],
        "unknown": [[0, 9]],
        "fenced": [[0, 2]],
        "none": [[]],
        "uneven": [[0, 1], [0]],
    }
    wanted = [topic(name, assignments=brokers) for name, brokers in refused.items()]
    for answer in cluster.do(CreateTopics(wanted)):
        assert type(answer.error) is errors.InvalidReplicaAssignmentError, answer
    both = topic("both", assignments=[[0]])._replace(num_partitions=1)
    (answer,) = cluster.do(CreateTopics([both]))
    assert type(answer.error) is errors.InvalidRequestError

    (answer,) = cluster.do(CreatePartitions([PartitionsToCreate("t", 3, [[1, 0]])]))
    assert answer.error is None
    assert cluster.topic("t").partitions[2].replicas == (1, 0)
    for brokers in ([[1]], [[0, 1], [1, 0]]):
        (answer,) = cluster.do(CreatePartitions([PartitionsToCreate("t", 4, brokers)]))
        assert type(answer.error) is errors.InvalidReplicaAssignmentError
