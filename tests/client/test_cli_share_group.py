"""``raykafka share-group`` and ``consume --share-group`` on a local cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raykafka.cli.main import app
from raykafka.client.share_consumer import ShareConsumer
from raykafka.testing.local_cluster import LocalCluster

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    path: Path = tmp_path_factory.mktemp("cli-share")
    with LocalCluster(path) as running:
        yield running


@pytest.fixture
def run(cluster: LocalCluster) -> Run:
    def invoke(*arguments: str, stdin: str = "", exit_code: int = 0) -> Result:
        command = [*arguments, "--name", cluster.data_dir]
        result = CliRunner().invoke(app, command, input=stdin)
        assert result.exit_code == exit_code, result.output
        return result

    return invoke


def test_a_share_group_from_its_settings_to_its_end(cluster: LocalCluster, run: Run) -> None:
    run("topic", "create", "jobs", "--partitions", "1")
    run("produce", "jobs", stdin="a\nb\nc\n")
    shown = run("share-group", "alter", "w", "--set", "share.auto.offset.reset=earliest")
    assert "earliest" in shown.stdout
    bad = run("share-group", "alter", "w", "--set", "share.auto.offset.rest=x", exit_code=1)
    assert 'did you mean "share.auto.offset.reset"?' in bad.stderr
    assert run("consume", "jobs", "--share-group", "w", "--count", "2").stdout == "a\nb\n"
    listed = json.loads(run("share-group", "list", "--json").stdout)
    assert [(each["group_id"], each["members"]) for each in listed] == [("w", 0)]
    described = json.loads(run("share-group", "describe", "w", "--json").stdout)
    assert described["configs"] == {"share.auto.offset.reset": "earliest"}
    assert [(e["start_offset"], e["lag"]) for e in described["offsets"]] == [(2, 1)]
    assert "jobs-0" in run("share-group", "describe", "w").stdout
    assert run("consume", "jobs", "--share-group", "w").stdout == "c\n"

    plan = run("share-group", "reset", "w", "--to-offset", "1")
    assert "nothing was changed" in plan.stderr
    run("share-group", "reset", "w", "--to-offset", "1", "--execute")
    assert run("consume", "jobs", "--share-group", "w").stdout == "b\nc\n"

    with ShareConsumer(cluster.bootstrap, group_id="w") as member:
        member.subscribe(["jobs"])
        member.poll(200)
        refused = run("share-group", "reset", "w", "--to", "earliest", "--execute", exit_code=1)
        assert "NonEmptyGroupError" in refused.stderr
        refused = run("share-group", "delete", "w", "--yes", exit_code=1)
        assert "NonEmptyGroupError" in refused.stderr
    refused = run("group", "delete", "w", "--yes", exit_code=1)  # its state would be left behind
    assert "InvalidGroupIdError" in refused.stderr
    run("share-group", "delete", "w", "--yes")
    gone = run("share-group", "describe", "w", exit_code=1)
    assert "GroupIdNotFoundError" in gone.stderr


def test_what_contradicts_itself_is_refused(run: Run) -> None:
    run("topic", "create", "t", "--partitions", "1")
    for arguments in (
        ("consume", "t", "--share-group", "w", "--group", "g"),
        ("consume", "t", "--share-group", "w", "--from-beginning"),
        ("consume", "t", "--share-group", "w", "--committed"),
        ("share-group", "reset", "w"),
        ("share-group", "alter", "w"),
    ):
        run(*arguments, exit_code=2)
    assert "does not exist" in run("consume", "no", "--share-group", "w", exit_code=1).stderr
