"""``raykafka broker``, ``partition`` and ``rebalance`` against three brokers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raykafka.cli.main import app
from raykafka.testing.local_cluster import LocalCluster

Run = Callable[..., Result]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, nodes=3, partition_actors=1) as running:
        yield running


@pytest.fixture
def run(cluster: LocalCluster) -> Run:
    def invoke(*arguments: str, stdin: str | bytes = b"", exit_code: int = 0) -> Result:
        command = [*arguments, "--name", cluster.data_dir]
        result = CliRunner().invoke(app, command, input=stdin)
        assert result.exit_code == exit_code, result.output
        return result

    wait_for_brokers(invoke, 3)
    return invoke


def wait_for_brokers(run: Run, count: int) -> None:
    deadline = time.monotonic() + 30
    while sum(b["state"] == "alive" and b["alive_slots"] for b in brokers(run)) != count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def brokers(run: Run) -> list[dict[str, int]]:
    found: list[dict[str, int]] = json.loads(run("broker", "list", "--json").stdout)
    return found


def described(run: Run, topic: str) -> list[dict[str, object]]:
    details = json.loads(run("topic", "describe", topic, "--json").stdout)
    found: list[dict[str, object]] = details["partitions"]
    return found


def test_topics_and_brokers_are_described(run: Run, cluster: LocalCluster) -> None:
    run("topic", "create", "t", "--replica-assignment", "0:1:2,1:2:0")
    run("topic", "create", "u", "--replica-assignment", "0-1", exit_code=2)
    parts = described(run, "t")
    assert [part["replicas"] for part in parts] == [[0, 1, 2], [1, 2, 0]]
    assert [part["leader"] for part in parts] == [0, 1]
    table = run("topic", "describe", "t").stdout
    assert "eligible" in table
    assert "0, 1, 2" in table
    assert [(b["broker_id"], b["replicas"], b["leaders"]) for b in brokers(run)] == [
        (0, 2, 1),
        (1, 2, 1),
        (2, 2, 0),
    ]
    assert "out of sync" in run("broker", "list").stdout
    assert json.loads(run("topic", "list", "--json").stdout)[0]["health"] == "ok"
    cluster.stop_node(2)
    deadline = time.monotonic() + 30
    while "2 under-replicated" not in run("topic", "list").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_plan_is_shown_written_and_applied(run: Run, tmp_path: Path) -> None:
    run("topic", "create", "t", "--replica-assignment", "0,0")
    run("produce", "t", stdin=b"a\nb\n")
    file = tmp_path / "plan.json"
    shown = run("partition", "reassign", "plan", "t", "-b", "1,2", "-r", "2", "-o", str(file))
    assert "2 partitions change" in shown.stdout
    assert [part["replicas"] for part in described(run, "t")] == [[0], [0]], "a plan does nothing"
    document = json.loads(file.read_text())
    assert {tuple(sorted(p["replicas"])) for p in document["partitions"]} == {(1, 2)}
    assert "nothing moves" in run("partition", "reassign", "status").stderr
    assert json.loads(run("partition", "reassign", "status", "--json").stdout) == []

    run("partition", "reassign", "apply", str(file), stdin="n\n", exit_code=1)
    applied = run("partition", "reassign", "apply", str(file), "--yes", "--throttle", "100000000")
    assert "moved 2 partitions" in applied.stderr
    assert {len(part["isr"]) for part in described(run, "t")} == {2}  # type: ignore[arg-type]
    assert len(run("consume", "t", "--from-beginning").stdout.split()) == 2
    told = run("partition", "reassign", "cancel", "--json").stdout
    assert json.loads(told) == {"cancelled": 0}


@pytest.mark.parametrize("text", ["", "[]", '{"partitions": [{"topic": "t"}]}'])
def test_what_is_no_plan_is_refused(run: Run, text: str) -> None:
    result = run("partition", "reassign", "apply", "-", stdin=text, exit_code=1)
    assert "reassign plan --json" in result.stderr


def test_refusals_say_what_to_do(run: Run) -> None:
    run("topic", "create", "t", "-r", "3")
    result = run("partition", "reassign", "plan", "t", "-b", "0,7", exit_code=1)
    assert "[7]" in result.stderr
    assert (
        "no broker ids" in run("partition", "reassign", "plan", "t", "-b", "x", exit_code=2).stderr
    )
    assert "add a broker" in run("broker", "drain", "2", "--yes", exit_code=1).stderr
    assert "--rolling" in run("broker", "restart", exit_code=2).stderr
    assert "known are" in run("broker", "restart", "9", exit_code=1).stderr
    assert "TOPIC:NUMBER" in run("partition", "elect-leaders", "t", exit_code=2).stderr
    waits = ("partition", "reassign", "apply", "-", "--no-wait", "--throttle", "1")
    assert "throttled.rate" in run(*waits, exit_code=2).stderr


def test_elections(run: Run) -> None:
    run("topic", "create", "t", "--replica-assignment", "0:1")
    assert "leaders of 0 partitions" in run("partition", "elect-leaders").stderr
    found = run("partition", "elect-leaders", "t:0", "--unclean", "--yes", "--json").stdout
    assert json.loads(found) == {"elected": []}
    run("partition", "elect-leaders", "--unclean", stdin="n\n", exit_code=1)


def test_brokers_are_restarted_drained_and_decommissioned(run: Run, cluster: LocalCluster) -> None:
    run("topic", "create", "t", "-p", "3", "-r", "2", "-c", "min.insync.replicas=1")
    assert "restarted brokers 0, 1, 2" in run("broker", "restart", "--rolling").stderr
    assert [b["incarnation"] for b in brokers(run)] == [2, 2, 2]
    assert json.loads(run("broker", "restart", "1", "--json").stdout) == {"restarted": [1]}

    cluster.add_node()
    wait_for_brokers(run, 4)
    assert "--execute" in run("rebalance").stderr
    plan = json.loads(run("rebalance", "--json").stdout)
    assert plan["partitions"]
    run("rebalance", "--execute", stdin="n\n", exit_code=1)
    run("rebalance", "--execute", "--yes", "--quiet", "--timeout", "30")
    assert sorted(b["replicas"] for b in brokers(run)) == [1, 1, 2, 2]
    assert "nothing to move" in run("rebalance").stderr

    shown = json.loads(run("broker", "drain", "0", "--plan", "--json").stdout)
    moved = json.loads(run("broker", "drain", "0", "--yes", "--json").stdout)
    assert moved["moved"] == len(shown["partitions"])
    assert brokers(run)[0]["state"] == "draining"
    assert "takes new replicas" in run("broker", "resume", "0").stderr
    gone = run("broker", "decommission", "0", "--yes", "--timeout", "30").stderr
    assert "can be shut down" in gone
    assert [b["broker_id"] for b in brokers(run)] == [1, 2, 3]
