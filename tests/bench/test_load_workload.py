"""Workload files of the OpenMessaging Benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.load.workload import Workload, WorkloadError, load, parse

ROOT = Path(__file__).parents[2]
FIELDS: dict[str, Any] = {
    "name": "1 producer / 1 consumer on 1 topic",
    "topics": 1,
    "partitionsPerTopic": 10,
    "messageSize": 1024,
    "payloadFile": "payload/payload-1Kb.data",
    "subscriptionsPerTopic": 1,
    "producersPerTopic": 1,
    "consumerPerSubscription": 1,
    "producerRate": 10000,
    "consumerBacklogSizeGB": 0,
    "testDurationMinutes": 5,
}


def parsed(**changes: Any) -> Workload:
    return parse({**FIELDS, **changes}, "file")


def test_defaults_are_those_of_the_benchmark() -> None:
    workload = parsed()
    assert workload.keyDistributor == "NO_KEY"
    assert not workload.keyed
    assert workload.warmupDurationMinutes == 1
    assert workload.backlogDrainRatio == 1
    assert workload.random_share == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"partitionPerTopic": 1}, "no such field: partitionPerTopic; there are name, topics"),
        ({"topics": 0}, "topics must be at least 1"),
        ({"topics": True}, "topics must be of type int"),
        ({"messageSize": "1 KB"}, "messageSize must be of type int, not '1 KB'"),
        ({"messageSize": 8}, "messageSize must be at least 20"),
        ({"producerRate": -1}, "producerRate must not be negative"),
        ({"testDurationMinutes": 0}, "testDurationMinutes must be above 0"),
        ({"keyDistributor": "ROUND"}, "keyDistributor must be one of NO_KEY, KEY_ROUND_ROBIN"),
        ({"payloadFile": None}, "give a payloadFile, or useRandomizedPayloads: true"),
        ({"payloadFile": "payload/mine.data"}, "none of OMB's"),
        ({"messageSize": 100}, "has 1024 bytes, messageSize says 100"),
        ({"useRandomizedPayloads": True}, "randomizedPayloadPoolSize must be at least 1"),
        ({"randomBytesRatio": 1.5}, "randomBytesRatio must lie between 0 and 1"),
        ({"consumerBacklogSizeGB": 1, "producerRate": 0}, "a backlog needs a producerRate"),
        ({"consumerBacklogSizeGB": 1, "producerRate": 10_000_000}, "a backlog needs"),
    ],
)
def test_what_cannot_be_run_is_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(WorkloadError, match=complaint):
        parsed(**changes)


def test_fields_without_default_must_be_there() -> None:
    fields = {name: value for name, value in FIELDS.items() if name != "producerRate"}
    with pytest.raises(WorkloadError, match="file: give producerRate"):
        parse(fields, "file")


def test_changed_fields_are_checked_again() -> None:
    assert parsed().changed({"partitionsPerTopic": 3}).partitionsPerTopic == 3
    with pytest.raises(WorkloadError, match="no such field"):
        parsed().changed({"partitions": 3})


def test_random_payloads_are_random_as_far_as_the_ratio_says() -> None:
    workload = parsed(
        useRandomizedPayloads=True, randomBytesRatio=0.5, randomizedPayloadPoolSize=1000
    )
    assert workload.random_share == 0.5


def test_files_that_are_no_workloads_are_named(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(WorkloadError, match="must hold fields"):
        load(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(WorkloadError, match="is not YAML"):
        load(tmp_path / "broken.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "bench/workloads").glob("*.yaml")), ids=str)
def test_our_own_files_can_be_read(path: Path) -> None:
    assert load(path).name
