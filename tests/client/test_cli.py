"""The command line against real servers on a local cluster."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from raykafka.cli.main import app
from raykafka.client.consumer import Consumer
from raykafka.client.producer import Producer
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster

Run = Callable[..., Result]
COLUMNS = "id: int64 not null, name: string, at: timestamp[ms]"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("cli")) as running:
        yield running


@pytest.fixture
def run(cluster: LocalCluster) -> Run:
    def invoke(*arguments: str, stdin: str | bytes = b"", exit_code: int = 0) -> Result:
        command = [*arguments, "--name", cluster.data_dir]
        result = CliRunner().invoke(app, command, input=stdin)
        assert result.exit_code == exit_code, result.output
        return result

    return invoke


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name).strip("-")


def records(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_lines_go_in_and_come_out(run: Run, topic: str) -> None:
    created = run("topic", "create", topic, "--partitions", "1")
    assert created.stdout == ""
    assert f"created topic {topic} with 1 partition\n" in created.stderr
    written = run("produce", topic, stdin=b"hello\n\xff\xfe\nworld")
    assert "3 records written" in written.stderr
    assert run("consume", topic).stdout_bytes == b"hello\n\xff\xfe\nworld\n"
    assert run("consume", topic, "--from-beginning", "--count", "1").stdout == "hello\n"


def test_json_output_has_everything(run: Run, topic: str) -> None:
    run("topic", "create", topic)
    run("produce", topic, "--key-separator", "=", stdin=b"k=v\n")
    assert "1 record written" in run("produce", topic, stdin=b"\xff\n").stderr
    first, second = records(run("consume", topic, "--json"))
    assert first["timestamp"] > 1_600_000_000_000  # type: ignore[operator]
    del first["timestamp"]
    assert first == {
        "topic": topic, "partition": 0, "offset": 0, "key": "k", "headers": [], "value": "v",
    }  # fmt: skip
    assert second["key"] is None
    assert second["value"] == {"base64": "/w=="}


def test_tombstones_and_headers_are_shown(run: Run, topic: str, cluster: LocalCluster) -> None:
    run("topic", "create", topic)
    with Producer(cluster.bootstrap) as producer:
        producer.send(topic, key=b"k", value=None, headers=[("trace", b"1")]).get(30)
    (record,) = records(run("consume", topic, "--json"))
    assert record["value"] is None
    assert record["headers"] == [{"key": "trace", "value": "1"}]
    assert run("consume", topic).stdout == "null\n"


def test_typed_topics_take_json_csv_and_parquet(run: Run, topic: str, tmp_path: Path) -> None:
    run("topic", "create", topic, "--columns", COLUMNS, "--key-column", "id")
    run("produce", topic, stdin='{"id": 1, "name": "a\\tb", "at": "2013-01-01 05:00:00"}\n')
    (tmp_path / "a.csv").write_text("id,name\n2,\n")
    run("produce", topic, str(tmp_path / "a.csv"))
    parquet.write_table(pa.table({"id": [3], "name": ["c"]}), tmp_path / "a.parquet")
    run("produce", topic, str(tmp_path / "a.parquet"))
    assert run("consume", topic).stdout == (
        "id\tname\tat\n1\ta\\tb\t2013-01-01T05:00:00\n2\t\t\n3\tc\t\n"
    )
    found = records(run("consume", topic, "--json", "--columns", "name"))
    assert [record["value"] for record in found] == [
        {"name": "a\tb"},
        {"name": None},
        {"name": "c"},
    ]
    assert [record["key"] for record in found] == ["1", "2", "3"]
    with_meta = run("consume", topic, "--meta", "--count", "1").stdout.splitlines()
    assert with_meta[0].split("\t") == ["partition", "offset", "time", "key", "id", "name", "at"]


def test_keys_decide_on_the_partition(run: Run, topic: str) -> None:
    run("topic", "create", topic, "--partitions", "4")
    lines = "".join(f'{{"user": "u{n % 9}", "n": {n}}}\n' for n in range(200))
    run("produce", topic, "--format", "json", "--key", "user", stdin=lines)
    found = records(run("consume", topic, "--json"))
    assert len(found) == 200
    places: dict[object, set[object]] = {}
    for record in found:
        places.setdefault(record["key"], set()).add(record["partition"])
    assert len(places) == 9
    assert all(len(partitions) == 1 for partitions in places.values())
    only = records(run("consume", topic, "--json", "--partition", "2"))
    assert {record["partition"] for record in only} <= {2}
    assert len(only) == sum(record["partition"] == 2 for record in found)


def test_a_file_larger_than_a_chunk(run: Run, topic: str, tmp_path: Path) -> None:
    run("topic", "create", topic)
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"line {n}\n" for n in range(25_000)))
    written = run("produce", topic, str(file), "--json", "-X", "compression.type=lz4")
    assert json.loads(written.stdout)["records"] == 25_000
    assert run("consume", topic).stdout == file.read_text()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "0123"), (("--from-offset", "earliest"), "0123"), (("--from-offset", "2"), "23"),
        (("--from-offset", "-1"), "3"), (("--from-offset", "-99"), "0123"),
        (("--from-offset", "latest"), ""), (("--from-time", "1h"), "0123"),
        (("--from-time", "2100-01-01T00:00:00Z"), ""), (("--from-time", "0"), "0123"),
        (("--from-offset", "1", "--count", "2"), "12"),
    ],
)  # fmt: skip
def test_where_to_start(run: Run, options: tuple[str, ...], expected: str) -> None:
    run("topic", "create", "starts", "--if-not-exists")
    if not run("consume", "starts").stdout:
        run("produce", "starts", stdin="0\n1\n2\n3\n")
    assert "".join(run("consume", "starts", *options).stdout.split()) == expected


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_an_offset_that_no_partition_has(run: Run, topic: str, follow: tuple[str, ...]) -> None:
    run("topic", "create", topic, "-p", "2", "--if-not-exists")
    run("produce", topic, "--partition", "1", stdin="0\n1\n")
    told = run("consume", topic, "--from-offset", "99", *follow, exit_code=1)
    assert f"no partition has offset 99; {topic}-1 goes furthest and ends at 2" in told.stderr
    assert run("consume", topic, "--from-offset", "1").stdout == "1\n"


def test_following_shows_what_arrives(run: Run, topic: str, cluster: LocalCluster) -> None:
    run("topic", "create", topic)
    run("produce", topic, stdin="before\n")
    results: list[Result] = []
    follower = threading.Thread(
        target=lambda: results.append(run("consume", topic, "--follow", "--count", "2"))
    )
    follower.start()
    with Producer(cluster.bootstrap) as producer:
        producer.send(topic, b"after").get(30)
    follower.join(30)
    assert [result.stdout for result in results] == ["before\nafter\n"]


def test_what_arrives_later_is_not_waited_for(
    run: Run, topic: str, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("topic", "create", topic)
    run("produce", topic, stdin="1\n2\n")
    real = Consumer.end_offsets

    def grow(self: Consumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        ends = real(self, partitions)
        with Producer(cluster.bootstrap) as producer:
            producer.send(topic, b"3").get(30)
        return ends

    monkeypatch.setattr(Consumer, "end_offsets", grow)
    assert run("consume", topic).stdout == "1\n2\n"


def test_topics_are_listed_and_described(run: Run, topic: str) -> None:
    run("topic", "create", topic, "-p", "2", "-c", "retention.ms=60000", "--columns", COLUMNS)
    run("produce", topic, stdin='{"id": 1}\n{"id": 2}\n')
    (listed,) = [t for t in json.loads(run("topic", "list", "--json").stdout) if t["name"] == topic]
    assert (listed["partitions"], listed["records"], listed["typed"]) == (2, 2, True)
    assert listed["health"] == "ok"
    described = json.loads(run("topic", "describe", topic, "--json").stdout)
    assert described["columns"][0] == {"name": "id", "type": "int64", "nullable": False}
    assert described["configs"]["retention.ms"] == {"value": "60000", "source": "topic"}
    assert sum(part["log_end_offset"] for part in described["partitions"]) == 2
    shown = run("topic", "describe", topic).stdout
    assert "at: timestamp[ms]" in shown
    assert re.search(r"retention\.ms +60000 +topic", shown)
    assert topic in run("topic", "list").stdout


def test_topics_are_altered(run: Run, topic: str) -> None:
    run("topic", "create", topic, "--columns", COLUMNS)
    run("topic", "alter", topic, "-c", "retention.ms=5000", "-c", "fsync=batch")
    run("topic", "alter", topic, "--delete-config", "fsync")
    run("topic", "add-partitions", topic, "3")
    run("topic", "add-columns", topic, "city: string")
    described = json.loads(run("topic", "describe", topic, "--json").stdout)
    assert described["configs"]["retention.ms"]["value"] == "5000"
    assert described["configs"]["fsync"] == {"value": "none", "source": "default"}
    assert len(described["partitions"]) == 3
    assert described["columns"][-1]["name"] == "city"


def test_changes_are_told_as_json(run: Run, topic: str) -> None:
    def told(*command: str) -> dict[str, object]:
        result = run("topic", *command, "--json")
        assert result.stderr == ""
        return json.loads(result.stdout)  # type: ignore[no-any-return]

    run("topic", "create", topic, "--columns", COLUMNS)
    changed = told("alter", topic, "-c", "fsync=batch", "-d", "retention.ms")
    assert changed == {"topic": topic, "changed": ["fsync", "retention.ms"]}
    assert told("add-partitions", topic, "3") == {"topic": topic, "partitions": 3}
    added = told("add-columns", topic, "city: string")
    assert added == {"topic": topic, "added": ["city"], "schema_id": 1}
    assert told("delete", topic, "--yes") == {"deleted": [topic]}


def test_deleting_asks_first(run: Run, topic: str) -> None:
    run("topic", "create", topic)
    run("topic", "delete", topic, stdin="n\n", exit_code=1)
    assert topic in run("topic", "list").stdout
    run("topic", "delete", topic, "--yes")
    assert topic not in run("topic", "list").stdout


def test_status(run: Run, cluster: LocalCluster) -> None:
    found = json.loads(run("status", "--json").stdout)
    assert found["cluster_name"] == "local"
    assert {actor["role"] for actor in found["actors"]} == {"controller", "broker", "partition"}
    assert found["offline_partitions"] == 0  # also what has its default is there
    assert found["brokers"][0]["alive"] is True
    assert all("partitions" in actor for actor in found["actors"])
    assert f" {os.getpid()} " in run("status").stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("consume", "nowhere"), "topic nowhere does not exist"),
        (("produce", "nowhere"), "'nowhere' does not exist"),
        (("topic", "describe", "nowhere"), "'nowhere' does not exist"),
        (("topic", "create", "../x"), "../x"),
        (("topic", "create", "y", "-c", "retention.msx=1"), 'did you mean "retention.ms"?'),
        (("topic", "create", "y", "-c", "retention.ms=week"), "must be an integer"),
        (("topic", "create", "y", "--columns", "id int"), "name: type"),
        (("topic", "create", "y", "-r", "9"), "eplication"),
        (("topic", "create", "refused"), "already exists"),
        (("topic", "add-partitions", "refused", "2"), "partition"),
        (("topic", "add-columns", "refused", "x: string"), "refused"),
        (("consume", "refused", "-p", "7"), "has partitions 0 to 2"),
        (("consume", "refused", "--columns", "x"), "x"),
        (("produce", "refused", "-X", "lingerms=3"), "did you mean"),
    ],
)  # fmt: skip
def test_refusals_end_with_1_and_say_why(run: Run, command: tuple[str, ...], message: str) -> None:
    run("topic", "create", "refused", "-p", "3", "--if-not-exists")
    run("produce", "refused", stdin="x\n")
    result = run(*command, stdin="x\n", exit_code=1)
    assert result.stdout == ""
    assert message in result.stderr
    assert re.search(r"^Error: .* \[\w+Error\]$", result.stderr, re.MULTILINE | re.DOTALL)
    assert "Traceback" not in result.stderr


def test_rows_that_do_not_fit_change_nothing(run: Run, topic: str) -> None:
    run("topic", "create", topic, "--columns", COLUMNS)
    refused = run("produce", topic, stdin='{"id": 1}\n{"id": "x"}\n', exit_code=1)
    assert "lines 1 to 2" in refused.stderr
    wrong_column = run("produce", topic, "--format", "csv", stdin="id,nome\n1,x\n", exit_code=1)
    assert "nome" in wrong_column.stderr
    missing = run("produce", topic, "--format", "csv", stdin="name\nx\n", exit_code=1)
    assert "id" in missing.stderr
    assert run("consume", topic).stdout == ""


@pytest.mark.parametrize(
    "command",
    [
        ("consume", "t", "--from-offset", "soon"), ("consume", "t", "--from-time", "soon"),
        ("consume", "t", "--from-beginning", "--from-offset", "1"), ("consume", "t", "-c", "0"),
        ("produce", "t", "--key", "a", "--key-separator", ":"), ("produce", "t", "/no/such/file"),
        ("produce", "t", "--format", "xml"), ("produce", "t", "-X", "novalue"),
        ("topic", "alter", "t"), ("topic", "create", "t", "-p", "0"), ("topic", "delete"),
    ],
)  # fmt: skip
def test_wrong_calls_end_with_2(run: Run, command: tuple[str, ...]) -> None:
    assert "Usage: " in run(*command, exit_code=2).stderr


def test_a_cluster_that_does_not_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["status", "--name", str(tmp_path)])
    assert result.exit_code == 1
    assert "ClusterUnreachableError" in result.stderr
