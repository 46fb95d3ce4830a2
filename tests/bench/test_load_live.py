"""The load runner against a raykafka that lives in this process: real sockets, real workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.load import runner
from bench.load.runner import Settings
from bench.load.workload import parse
from bench.peers.api import Client, Peer
from bench.peers.raykafka import CLIENTS, Raykafka
from raykafka.testing.local_cluster import LocalCluster


class LocalPeer(Raykafka):
    """raykafka without Ray and without processes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster: LocalCluster | None = None

    def start(self, folder: Path, copies: int = 1) -> None:
        self._folder = folder
        self.cluster = LocalCluster(folder)
        self.cluster.start()

    def stop(self) -> None:
        if self.cluster is not None:
            self.cluster.stop()

    def version(self) -> str:
        return "local"

    def pids(self) -> list[int]:
        return []


class LocalRegistry:
    """Names of the test's own."""

    def client(self, name: str) -> Client:
        return {client.name: client for client in CLIENTS}[name]

    def peer(self, name: str) -> Peer:
        assert name == "raykafka"
        return LocalPeer()


def run(tmp_path: Path, client: str, settings: Settings | None = None, **fields: Any) -> Any:
    workload = parse(
        {
            "name": "a test",
            "topics": 1,
            "partitionsPerTopic": 4,
            "messageSize": 100,
            "useRandomizedPayloads": True,
            "randomBytesRatio": 0.5,
            "randomizedPayloadPoolSize": 1000,
            "subscriptionsPerTopic": 1,
            "consumerPerSubscription": 1,
            "producersPerTopic": 1,
            "producerRate": 500,
            "testDurationMinutes": 1,
            **fields,
        },
        "test",
    )
    settings = settings or Settings(minutes=0.02)
    (result,) = runner.run_workload(
        workload, [client], tmp_path, settings, registry=LocalRegistry(), tell=lambda _: None
    )
    assert json.loads(next(tmp_path.glob("*.json")).read_text())["workload"] == "a test"
    assert result["void"] is None
    assert result["missing"] is None
    return result


def test_paced_load_with_shared_subscriptions_is_verified_and_timed(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        "raykafka",
        consumerPerSubscription=3,
        subscriptionsPerTopic=2,
        producersPerTopic=2,
    )
    # On a busy machine the last sends of the schedule are not made in time.
    assert 0 < result["records"] <= 600
    assert sum(result["consumeRate"]) > 0
    assert sum(result["publishRate"]) > 0
    assert result["aggregatedPublishLatency50pct"] > 0
    assert result["aggregatedEndToEndLatencyMax"] >= result["aggregatedEndToEndLatency50pct"] > 0
    assert result["latencyMeasured"]
    assert "testDurationMinutes: 1 in the file, 0.02 here" in result["overrides"]


@pytest.mark.parametrize("client", ["raykafka", "raykafka tables"])
@pytest.mark.parametrize("apart", [False, True])
def test_unlimited_load_sends_what_the_producers_managed_before(
    tmp_path: Path, client: str, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MOST_BYTES", 2_000_000)
    settings = Settings(minutes=0.005, apart=apart)
    result = run(
        tmp_path, client, settings, producerRate=10_000_000, keyDistributor="KEY_ROUND_ROBIN"
    )
    assert result["records"] == 10_000
    assert "10000 records instead of" in result["shortened"]
    assert result["publishRate"][0] > 0
    assert result["consumeRate"][0] > 0
    assert not result["latencyMeasured"]


def test_backlog_is_built_drained_and_told_apart(tmp_path: Path) -> None:
    backlog = 3000 * 100 / 2**30
    result = run(tmp_path, "raykafka", producerRate=4000, consumerBacklogSizeGB=backlog)
    stages = result["backlogStages"]
    assert result["backlogDrained"]
    assert stages["building"]["seconds"] > 0.5
    assert stages["after"]["publishRate"] > 0


def test_paced_load_with_keys_is_named_as_missing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="takes no key"):
        run(tmp_path, "raykafka", keyDistributor="RANDOM_NANO")
