"""Incremental configuration: set, delete, refuse by name, and where a value comes from."""

from __future__ import annotations

import pytest
from controller_kit import Cluster, topic

from raykafka import errors
from raykafka.controller.commands import (
    AlterConfigs,
    CreateTopics,
    ResourceToAlter,
    SettingChange,
)
from raykafka.controller.configs import describe_configs


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster.started(static={"log.segment.bytes": "1000000"})
    cluster.do(CreateTopics([topic("t", configs={"retention.ms": "5000"})]))
    return cluster


def alter(
    cluster: Cluster, type_: str, name: str, *changes: SettingChange
) -> errors.RaykafkaError | None:
    (answer,) = cluster.do(AlterConfigs([ResourceToAlter(type_, name, changes)]))
    assert answer is None or isinstance(answer, errors.RaykafkaError)
    return answer


def described(cluster: Cluster, type_: str, name: str) -> dict[str, tuple[str, str]]:
    settings = describe_configs(cluster.image, cluster.settings, type_, name)
    return {setting.name: (setting.value, setting.source) for setting in settings}


def test_set_and_delete_on_a_topic(cluster: Cluster) -> None:
    version = cluster.topic("t").settings_version
    assert alter(cluster, "topic", "t", SettingChange("retention_ms", "7")) is None
    assert cluster.topic("t").configs == {"retention.ms": "7"}
    assert cluster.topic("t").settings_version == version + 1
    assert alter(cluster, "topic", "t", SettingChange("retention.ms", op="delete")) is None
    assert cluster.topic("t").configs == {}
    before = cluster.image
    assert alter(cluster, "topic", "t", SettingChange("retention.ms", op="delete")) is None
    assert cluster.image is before, "no change, no record"


@pytest.mark.parametrize("name", ["retention.ms", "retention.bytes"])
def test_what_coordinators_have_written_does_not_expire(cluster: Cluster, name: str) -> None:
    kept = {"retention.ms": "-1", "retention.bytes": "-1"}
    internal = topic("__transaction_state", configs=kept)._replace(internal=True)
    cluster.do(CreateTopics([internal]))
    for change in (SettingChange(name, "1000"), SettingChange(name, op="delete")):
        answer = alter(cluster, "topic", "__transaction_state", change)
        assert isinstance(answer, errors.InvalidConfigError)
        assert name in answer.message
    assert cluster.topic("__transaction_state").configs == kept
    assert alter(cluster, "topic", "__transaction_state", SettingChange("fsync", "batch")) is None


@pytest.mark.parametrize(
    ("type_", "name", "change", "error", "named"),
    [
        ("topic", "t", SettingChange("retention.mss", "1"), errors.InvalidConfigError, "mss"),
        ("topic", "t", SettingChange("fsync", "often"), errors.InvalidConfigError, "fsync"),
        ("topic", "t", SettingChange("key.column", "a"), errors.InvalidConfigError, "key.column"),
        ("topic", "t", SettingChange("fsync", op="append"), errors.InvalidRequestError, "append"),
        (
            "topic",
            "t",
            SettingChange("max.message.bytes", str(1 << 29)),
            errors.InvalidConfigError,
            "socket.request.max.bytes",
        ),
        ("topic", "u", SettingChange("fsync", "none"), errors.UnknownTopicOrPartitionError, "'u'"),
        ("group", "t", SettingChange("fsync", "none"), errors.InvalidRequestError, "group"),
        ("broker", "9", SettingChange("log.fsync", "none"), errors.BrokerIdNotRegisteredError, "9"),
        ("broker", "x", SettingChange("log.fsync", "none"), errors.BrokerIdNotRegisteredError, "x"),
        ("broker", "", SettingChange("max.connections", "1"), errors.InvalidConfigError, "started"),
        ("broker", "0", SettingChange("num.partitions", "1"), errors.InvalidConfigError, "cluster"),
        (
            "broker",
            "",
            SettingChange("message.max.bytes", str(1 << 29)),
            errors.InvalidConfigError,
            "socket.request.max.bytes",
        ),
    ],
)
def test_refusals_name_the_culprit_and_change_nothing(
    cluster: Cluster,
    type_: str,
    name: str,
    change: SettingChange,
    error: type[errors.RaykafkaError],
    named: str,
) -> None:
    before = cluster.image
    answer = alter(cluster, type_, name, change)
    assert type(answer) is error
    assert named in str(answer)
    assert cluster.image is before


def test_all_changes_of_a_resource_or_none(cluster: Cluster) -> None:
    answers = cluster.do(
        AlterConfigs(
            [
                ResourceToAlter(
                    "topic",
                    "t",
                    [SettingChange("segment.ms", "9"), SettingChange("retention.ms", "soon")],
                ),
                ResourceToAlter("broker", "", [SettingChange("num.partitions", "3")]),
            ]
        )
    )
    assert [type(answer) for answer in answers] == [errors.InvalidConfigError, type(None)]
    assert "segment.ms" not in cluster.topic("t").configs
    (created,) = cluster.do(CreateTopics([topic("defaulted", -1)]))
    assert created.num_partitions == 3


def test_the_same_key_or_resource_twice_is_refused(cluster: Cluster) -> None:
    twice = alter(
        cluster,
        "topic",
        "t",
        SettingChange("retention.ms", "1"),
        SettingChange("retention_ms", "2"),
    )
    assert isinstance(twice, errors.InvalidRequestError)
    resource = ResourceToAlter("topic", "t", [SettingChange("retention.ms", "1")])
    answers = cluster.do(AlterConfigs([resource, resource]))
    assert [type(answer) for answer in answers] == [errors.InvalidRequestError] * 2


def test_validate_only_changes_nothing(cluster: Cluster) -> None:
    before = cluster.image
    resource = ResourceToAlter("topic", "t", [SettingChange("retention.ms", "1")])
    assert cluster.do(AlterConfigs([resource], validate_only=True)) == [None]
    assert cluster.image is before


def test_sources_tell_where_a_value_comes_from(cluster: Cluster) -> None:
    alter(cluster, "broker", "", SettingChange("log.fsync", "batch"))
    alter(cluster, "broker", "0", SettingChange("log.roll.ms", "60000"))
    topic_settings = described(cluster, "topic", "t")
    assert topic_settings["retention.ms"] == ("5000", "topic")
    assert topic_settings["fsync"] == ("batch", "cluster")
    assert topic_settings["segment.bytes"] == ("1000000", "cluster")
    assert topic_settings["cleanup.policy"] == ("delete", "default")
    broker = described(cluster, "broker", "0")
    assert broker["log.roll.ms"] == ("60000", "broker")
    assert broker["log.fsync"] == ("batch", "cluster")
    assert broker["log.segment.bytes"] == ("1000000", "cluster")
    assert described(cluster, "broker", "")["log.roll.ms"][1] == "default"


def test_running_actors_are_told_of_changed_defaults_only(cluster: Cluster) -> None:
    assert cluster.settings.topic_overrides(cluster.image, 0) == {}
    alter(cluster, "broker", "0", SettingChange("log.roll.ms", "60000"))
    assert cluster.settings.topic_overrides(cluster.image, 0) == {"segment.ms": "60000"}
    assert cluster.settings.topic_overrides(cluster.image, 1) == {}
    alter(cluster, "broker", "0", SettingChange("log.roll.ms", op="delete"))
    assert cluster.settings.topic_overrides(cluster.image, 0) == {}
    assert cluster.image.broker_configs == {}
