"""Kafka as a peer, without a broker: configurations, command lines, what the tools print."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from bench.measuring.verification import VoidRunError, join_parts, verify_ends
from bench.peers import aiokafka, confluent, jars, kafka, kafka_python, kafka_tools
from bench.peers.api import NotOfferedError, Options, Topic

PRODUCED = """\
Warmup first 1000000 records. Steady state results will print after the complete test summary.
984497 records sent, 196899.4 records/sec (18.78 MB/sec), 1091.6 ms avg latency, 1586.0 ms max latency.
3000000 records sent, 834028.356964 records/sec (79.54 MB/sec), 21.54 ms avg latency, 285.00 ms max latency, 12 ms 50th, 105 ms 95th, 131 ms 99th, 138 ms 99.9th.
2000000 steady state records sent, 994530.084535 records/sec (94.85 MB/sec), 25.16 ms avg latency, 150.00 ms max latency, 13 ms 50th, 118 ms 95th, 132 ms 99th, 139 ms 99.9th.
"""  # noqa: E501
CONSUMED = """\
2026-11-27 03:04:02:000, 0, 19.0735, 38.1390, 200000, 399916.0000, 40, 60, 77.8346, 816155.1020
2026-11-27 03:04:02:500, 0, 190.7349, 189.8545, 2000000, 1990768.9243, 0, 500, 189.8545, 1990768.9243
2026-11-27 03:04:03:000, 0, 381.4697, 337.0100, 4000000, 3533806.0000, 0, 500, 337.0100, 3533806.0000
2026-11-27 03:04:03:500, 0, 572.2046, 339.7005, 6000000, 3562017.9641, 0, 500, 339.7005, 3562017.9641
"""  # noqa: E501


class TestBroker:
    def node(self, number: int = 1) -> kafka.Node:
        return kafka.Node(number, 1000 + number, 2000 + number, Path(f"/data/broker-{number}"))

    def settings(self, text: str) -> dict[str, str]:
        return dict(line.split("=", 1) for line in text.splitlines())

    def test_one_broker_is_its_own_quorum(self) -> None:
        node = self.node()
        settings = self.settings(node.server_properties([node], {}))
        assert settings["process.roles"] == "broker,controller"
        assert settings["controller.quorum.voters"] == "1@127.0.0.1:2001"
        assert settings["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1001"
        assert settings["log.dirs"] == "/data/broker-1/data"
        assert settings["offsets.topic.replication.factor"] == "1"
        assert settings["min.insync.replicas"] == "1"

    def test_three_brokers_keep_three_copies_of_everything(self) -> None:
        nodes = [self.node(number) for number in (1, 2, 3)]
        texts = [node.server_properties(nodes, {}) for node in nodes]
        found = [self.settings(text) for text in texts]
        assert {each["controller.quorum.voters"] for each in found} == {
            "1@127.0.0.1:2001,2@127.0.0.1:2002,3@127.0.0.1:2003"
        }
        assert [each["node.id"] for each in found] == ["1", "2", "3"]
        assert all(each["transaction.state.log.replication.factor"] == "3" for each in found)
        assert all(each["transaction.state.log.min.isr"] == "2" for each in found)

    def test_settings_can_be_overridden(self) -> None:
        node = self.node()
        text = node.server_properties([node], {"num.partitions": "7", "num.io.threads": "2"})
        assert self.settings(text)["num.partitions"] == "7"
        assert self.settings(text)["num.io.threads"] == "2"

    def test_every_fsync_policy_has_its_settings(self) -> None:
        assert kafka.FSYNC["batch"] == {"flush.messages": "1"}
        assert kafka.FSYNC["interval"] == {"flush.ms": "1000"}
        assert kafka.FSYNC["none"] == {}

    def test_free_ports_differ(self) -> None:
        assert len(set(kafka.free_ports(6))) == 6

    def test_more_copies_than_brokers_are_not_offered(self, tmp_path: Path) -> None:
        with pytest.raises(NotOfferedError):
            kafka.Kafka().start(tmp_path, copies=4)

    def test_what_was_never_started_can_be_stopped(self) -> None:
        peer = kafka.Kafka()
        peer.stop()
        peer.stop()
        assert peer.pids() == []

    def test_a_failed_start_leaves_nothing_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def command(main: str, *_: str, **__: object) -> list[str]:
            works = main.endswith("StorageTool")
            return [sys.executable, "-c", "" if works else "import sys; sys.exit('no memory')"]

        monkeypatch.setattr(kafka, "java_command", command)
        peer = kafka.Kafka()
        with pytest.raises(RuntimeError, match="no memory"):
            peer.start(tmp_path)
        assert peer.pids() == []

    def test_a_failed_format_says_why(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def command(*_: str, **__: object) -> list[str]:
            return [sys.executable, "-c", "import sys; sys.exit('disk full')"]

        monkeypatch.setattr(kafka, "java_command", command)
        with pytest.raises(RuntimeError, match="disk full"):
            kafka.Kafka().start(tmp_path, copies=3)


class TestJars:
    def pom(self, folder: Path) -> Path:
        pom = folder / "pom.xml"
        pom.write_text("<project><kafka.version>9.8.7</kafka.version></project>")
        return pom

    def program(self, folder: Path, name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{script}\n")
        path.chmod(0o755)

    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The only folder in which programs are found."""
        programs = tmp_path / "programs"
        programs.mkdir()
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.delenv("JAVA_HOME", raising=False)
        return programs

    def test_the_version_is_the_one_in_the_pom(self, tmp_path: Path) -> None:
        assert jars.kafka_version(self.pom(tmp_path)) == "9.8.7"
        assert jars.kafka_version().startswith("4.")

    def test_java_versions_are_told_apart(self) -> None:
        assert jars.java_version('openjdk version "17.0.15" 2025-04-15') == 17
        assert jars.java_version('java version "1.8.0_392"') == 8
        assert jars.java_version('openjdk version "25" 2025-09-16') == 25
        assert jars.java_version("command not found") is None

    def test_java_is_missing(self, path: Path, tmp_path: Path) -> None:
        text = jars.missing(self.pom(tmp_path), tmp_path / "cache")
        assert text is not None
        assert text.startswith("java is not installed")
        assert "openjdk-17-jre-headless" in text

    def test_java_is_too_old(self, path: Path, tmp_path: Path) -> None:
        self.program(path, "java", "print('openjdk version \"11.0.2\"')")
        text = jars.missing(self.pom(tmp_path), tmp_path / "cache")
        assert text is not None
        assert text.startswith("java is 11, 17 or later is needed")

    def test_maven_is_missing(self, path: Path, tmp_path: Path) -> None:
        self.program(path, "java", "print('openjdk version \"21.0.2\"')")
        text = jars.missing(self.pom(tmp_path), tmp_path / "cache")
        assert text is not None
        assert "Debian: maven" in text

    def test_maven_cannot_fetch(self, path: Path, tmp_path: Path) -> None:
        self.program(path, "java", "print('openjdk version \"21.0.2\"')")
        self.program(path, "mvn", "print('[ERROR] Unknown host'); raise SystemExit(1)")
        text = jars.missing(self.pom(tmp_path), tmp_path / "cache")
        assert text is not None
        assert text.endswith("Unknown host")

    def test_jars_are_fetched_once_for_each_pom(self, path: Path, tmp_path: Path) -> None:
        self.program(path, "java", "print('openjdk version \"21.0.2\"')")
        self.program(
            path,
            "mvn",
            "import pathlib, sys\n"
            "folder = pathlib.Path(sys.argv[-1].split('=')[1]); folder.mkdir()\n"
            "(folder / 'kafka.jar').touch()",
        )
        pom, cache = self.pom(tmp_path), tmp_path / "cache"
        assert jars.missing(pom, cache) is None
        first = jars.class_path(pom, cache)
        assert Path(first).parent.joinpath("kafka.jar").exists()
        assert (cache / ".gitignore").read_text() == "*\n"
        (path / "mvn").unlink()
        assert jars.missing(pom, cache) is None
        pom.write_text(pom.read_text() + "\n")
        assert jars.class_path(pom, cache) != first
        assert "maven" in str(jars.missing(pom, cache))


class TestTools:
    def test_the_producer_reports_what_came_after_the_warm_up(self) -> None:
        run = kafka_tools.read_produced(PRODUCED, 3_000_000, 100)
        assert run.records_per_s == 994530.084535
        assert run.overall_per_s == 834028.356964
        assert run.megabytes_per_s == pytest.approx(99.4530)
        assert run.seconds == pytest.approx(3.597, abs=0.001)
        assert run.latency_ms == {"p50": 13, "p95": 118, "p99": 132, "p99.9": 139}

    @pytest.mark.parametrize("text", ["", PRODUCED.splitlines()[2], PRODUCED + PRODUCED])
    def test_an_unfinished_producer_reports_nothing(self, text: str) -> None:
        with pytest.raises(ValueError, match="printed no result"):
            kafka_tools.read_produced(text, 3_000_000, 100)

    def test_the_producer_must_have_sent_all(self) -> None:
        with pytest.raises(ValueError, match="printed no result"):
            kafka_tools.read_produced(PRODUCED, 3_000_001, 100)

    def test_the_consumer_reports_what_came_after_the_warm_up(self) -> None:
        run = kafka_tools.read_consumed(CONSUMED, 7_000_000)
        assert run.records_per_s == pytest.approx(4e6)
        assert run.megabytes_per_s == pytest.approx(400, rel=1e-4)
        assert run.overall_per_s == pytest.approx(6e6 / 1.56)
        assert run.seconds == pytest.approx(7 / 6 * 1.56)

    def test_a_consumer_that_gave_up_reports_nothing(self) -> None:
        text = f"WARNING: {kafka_tools._INCOMPLETE} of records: timeout (10000 ms) exceeded."
        with pytest.raises(ValueError, match="did not get 7000000"):
            kafka_tools.read_consumed(CONSUMED + text, 7_000_000)

    @pytest.mark.parametrize("lines", [0, 1])
    def test_too_few_records_give_no_rate(self, lines: int) -> None:
        text = "\n".join(CONSUMED.splitlines()[:lines])
        with pytest.raises(ValueError, match="too few"):
            kafka_tools.read_consumed(text, 7_000_000)

    def test_command_lines(self) -> None:
        produce = kafka_tools.producer_arguments("h:1", "t", 1000, 100, Options(acks="1"))
        assert produce[:4] == ["--bootstrap-server", "h:1", "--topic", "t"]
        assert produce[produce.index("--warmup-records") + 1] == "200"
        assert {"acks=1", "linger.ms=5", "batch.size=1000000"} <= set(produce)
        consume = kafka_tools.consumer_arguments("h:1", "t", 1000)
        assert consume[consume.index("--num-records") + 1] == "1000"

    def test_a_log_that_did_not_grow_voids_the_run(self) -> None:
        with pytest.raises(VoidRunError):
            verify_ends({0: 5, 1: 4}, 10)

    def test_single_records_are_not_offered(self) -> None:
        with pytest.raises(NotOfferedError):
            kafka_tools.CLIENT.producer("h:1", Topic("t"), Options())
        with pytest.raises(NotOfferedError):
            kafka_tools.CLIENT.consumer("h:1", Topic("t"), Options())


class TestClients:
    CLIENTS = (*confluent.CLIENTS, kafka_python.CLIENT, *aiokafka.CLIENTS, kafka_tools.CLIENT)

    @pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
    def test_a_missing_package_is_named(
        self, client: confluent.ConfluentClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        text = client.missing()
        assert text is not None
        assert "pip install" in text
        assert client.peer == "kafka"

    def test_names_differ(self) -> None:
        assert len({client.name for client in self.CLIENTS}) == len(self.CLIENTS)

    def test_importing_the_clients_loads_no_client_library(self) -> None:
        code = (
            "import sys; from bench.peers import aiokafka, confluent, kafka_python, kafka_tools\n"
            "sys.exit(any(n in sys.modules for n in ('confluent_kafka', 'kafka', 'aiokafka')))"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=jars.POM.parents[1])

    def test_only_acks_of_all_copies_are_idempotent(self) -> None:
        settings = confluent.producer_settings("h:1", Options())
        assert settings["acks"] == "all"
        assert settings["enable.idempotence"] is True
        assert not confluent.producer_settings("h:1", Options(acks="1"))["enable.idempotence"]

    def test_extra_settings_win(self) -> None:
        options = Options(linger_ms=7, extra={"fetch.wait.max.ms": 9, "batch.size": 10})
        assert confluent.producer_settings("h:1", options)["linger.ms"] == 7
        assert confluent.producer_settings("h:1", options)["batch.size"] == 10
        assert confluent.consumer_settings("h:1", options)["fetch.wait.max.ms"] == 9

    def test_parts_of_a_partition_are_joined_in_order(self) -> None:
        parts = join_parts([(1, [b"a"]), (0, [b"b"]), (1, [b"c", b"d"])])
        assert {part.partition: part.values for part in parts} == {
            0: [b"b"],
            1: [b"a", b"c", b"d"],
        }


def test_a_cluster_id_is_never_taken_for_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([b"\xf8" + bytes(15), b"\x01" + bytes(15)])  # the first begins with a hyphen
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(bytes=next(drawn)))
    assert kafka._cluster_id().startswith("AQAA")
