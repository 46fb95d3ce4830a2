"""The example programs, the notebook and the cluster file are run or checked as they stand."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pyarrow as pa
import pytest
import yaml
from nbclient import NotebookClient
from ray.autoscaler._private.util import prepare_config, validate_config

from raykafka import Cluster, NewTopic
from raykafka.testing.local_cluster import LocalCluster

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(program: Path, tmp_path: Path, documents_home: Path) -> None:
    # With a Ray of its own, as on a machine where none runs.
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if program.stem == "flights":
        for word in ("SIGKILL", "recovered", "follower", "verified", "memory-mapped"):
            assert word in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, documents_home: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not any(out.output_type == "error" for out in printed)


@pytest.mark.slow
def test_a_benchmark_runs(tmp_path: Path, documents_home: Path) -> None:
    rows = tmp_path / "rows.json"
    command = [
        sys.executable,
        "-m",
        "bench.floor",
        "one-record",
        "--runs",
        "1",
        "--json",
        str(rows),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(rows.read_text())["rows"]
    assert [row["name"] for row in found] == ["one record, acked, p50", "one record, acked, p99"]
    assert all(row["ours"] > 0 and row["theirs"] > 0 for row in found)


@pytest.mark.slow
def test_the_headline_runs(tmp_path: Path, documents_home: Path) -> None:
    """One case of `make bench`; where Kafka is not installed its figures are missing, no more."""
    command = [sys.executable, "-m", "bench", "headline", "one-record", "--runs", "1"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "headline.json").read_text())
    measured = [row["row"] for row in rows if row["ours"] is not None]
    assert measured == [
        "one-record ack, p50", "one-record ack, p99",
        "one record end to end, p50", "one record end to end, p99",
    ]  # fmt: skip
    run = json.loads((tmp_path / "headline-run.json").read_text())
    assert run["void"] == []
    assert all(row["theirs"] or run["missing"] for row in rows if row["row"] in measured)


def test_cluster_file_is_what_ray_accepts() -> None:
    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    validate_config(config)
    assert config["cluster_name"] == "raykafka"


@pytest.fixture(scope="module")
def flights() -> Any:
    spec = importlib.util.spec_from_file_location("flights", ROOT / "examples" / "flights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestFlightsVerification:
    """``make demo`` must fail when the log differs from the source in any way."""

    SOURCE = pa.table(
        {
            "tailnum": ["N1", "N2", None, "N1", "N2", None],
            "dep_delay": pa.array([1, None, 3, 4, 5, 6], pa.int32()),
        }
    )

    def verify(self, flights: Any, folder: Path, *stored: list[int]) -> None:
        """Store these rows of the source, then verify the log against it."""
        with LocalCluster(folder) as local:
            cluster = Cluster("local", local.bootstrap)
            topic = NewTopic(
                "flights", 4, topic_configs={"key.column": "tailnum"}, schema=self.SOURCE.schema
            )
            with cluster.admin() as admin:
                admin.create_topics([topic])
            with cluster.producer() as producer:
                for rows in stored:
                    producer.send_table("flights", self.SOURCE.take(rows)).get(30)
            flights.verify(cluster, self.SOURCE)

    def test_what_was_stored_as_it_was_passes(self, flights: Any, tmp_path: Path) -> None:
        self.verify(flights, tmp_path, [0, 1, 2], [3, 4, 5])

    @pytest.mark.parametrize(
        ("stored", "complaint"),
        [
            ([0, 1, 2, 3, 4], "the log holds 5 flights"),
            ([0, 1, 2, 3, 4, 5, 5], "the log holds 7 flights"),
            ([0, 1, 2, 3, 3, 5], "their order does"),
            ([3, 1, 2, 0, 4, 5], "their order does"),
            ([0, 1, 2, 3, 4, 2], "without a tail number"),
        ],
    )
    def test_a_difference_is_noticed(
        self, flights: Any, tmp_path: Path, stored: list[int], complaint: str
    ) -> None:
        with pytest.raises(flights.Mismatch, match=complaint):
            self.verify(flights, tmp_path, stored)


class TestAtomicCheckpoint:
    """Wherever the trainer of the example is killed, its file and its offsets agree afterwards."""

    @pytest.fixture
    def example(self) -> Any:
        path = ROOT / "examples" / "atomic_checkpoint.py"
        spec = importlib.util.spec_from_file_location("atomic_checkpoint", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def test_a_kill_at_every_step(
        self, example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with LocalCluster(tmp_path / "data") as local:
            cluster = Cluster("local", local.bootstrap)
            assert example.run(cluster, local.data_dir, tmp_path / "checkpoint.json") == 0
        told = capsys.readouterr().out
        for step in example.STEPS:
            assert f"then killed when {step}" in told
        assert "committed what the file says" in told
        assert "took back what the file does not know" in told

    def test_a_file_that_went_its_own_way_is_noticed(self, example: Any, tmp_path: Path) -> None:
        with LocalCluster(tmp_path / "data") as local:
            cluster = Cluster("local", local.bootstrap)
            path = tmp_path / "checkpoint.json"
            path.write_text('{"weights": [0.0, 0.0], "offset": 100, "transaction": null}')
            assert example.run(cluster, local.data_dir, path) == 1
