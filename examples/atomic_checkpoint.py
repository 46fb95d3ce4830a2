"""A checkpoint and the offsets it was trained on, changed together or not at all.

    python examples/atomic_checkpoint.py

A trainer reads samples, learns from them, and keeps two things: a checkpoint file, and its offsets
in a consumer group. Both must say the same, wherever the trainer dies. A transaction in two phases
does that: prepare the offsets, write the file with the transaction's handle inside, commit. After
a crash the file decides: it names the transaction that waits, or it does not know of it yet.

The program kills its trainer with SIGKILL at every step and starts it again. In the end the weights
must be, to the last bit, those of a trainer that was never killed; if not it ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

import raykafka
from raykafka import NewTopic, PreparedTransaction, TopicPartition
from raykafka.model import ConsumerGroupMetadata

SAMPLES = TopicPartition("samples", 0)
TRAINER = "trainer"
COUNT = 1000
BATCH = 100
RATE = 0.05
STEPS = ("trained", "begun", "offsets", "prepared", "written", "renamed", "committed")
"""Where a trainer can die, in the order of one round."""


# --- the model: one weight, one bias, learned one sample after the other --------------------------


def learn(weights: list[float], batch: pa.Table) -> list[float]:
    slope, bias = weights
    for x, y in zip(batch["x"].to_pylist(), batch["y"].to_pylist(), strict=True):
        error = y - (slope * x + bias)
        slope, bias = slope + RATE * error * x, bias + RATE * error
    return [slope, bias]


def samples() -> pa.Table:
    numbers = random.Random(7)
    xs = [numbers.uniform(-1, 1) for _ in range(COUNT)]
    return pa.table({"x": xs, "y": [3 * x - 1 + numbers.gauss(0, 0.1) for x in xs]})


# --- the checkpoint -------------------------------------------------------------------------------


def load(path: Path) -> dict[str, Any]:
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    return {"weights": [0.0, 0.0], "offset": 0, "transaction": None}


def save(path: Path, checkpoint: dict[str, Any], die: Death) -> None:
    """All of it or nothing, also when the power fails."""
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        json.dump(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    die("written")
    fresh.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    die("renamed")


class Death:
    """Ends this process at a step, in its second round there."""

    def __init__(self, step: str | None) -> None:
        self.step = step
        self.rounds = 0

    def __call__(self, step: str) -> None:
        if step == self.step:
            self.rounds += 1
            if self.rounds == 2:
                os.kill(os.getpid(), signal.SIGKILL)


# --- the trainer ----------------------------------------------------------------------------------


def finish(producer: raykafka.Producer, checkpoint: dict[str, Any]) -> str:
    """Take over from a trainer that died: its last transaction goes the way of the file."""
    waiting = producer.init_transactions(keep_prepared=True)
    if waiting is None:
        return "nothing was left open"
    if checkpoint["transaction"] == waiting.to_json():
        producer.commit_transaction()
        return "committed what the file says"
    producer.abort_transaction()
    return "took back what the file does not know"


def train(cluster: raykafka.Cluster, path: Path, die: Death) -> None:
    checkpoint = load(path)
    with cluster.producer(
        transactional_id=TRAINER, transaction_two_phase_commit_enable=True
    ) as producer:
        outcome = finish(producer, checkpoint)
        with cluster.consumer(
            group_id=TRAINER,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",  # waits for offsets that are being committed
        ) as consumer:
            consumer.assign([SAMPLES])
            committed = consumer.committed(SAMPLES) or 0
            print(f"{outcome}: file at {checkpoint['offset']}, group at {committed}")
            if committed != checkpoint["offset"]:
                sys.exit("the checkpoint and the committed offset do not agree")
            while consumer.position(SAMPLES) < COUNT:
                batch = consumer.poll_table(timeout_ms=1000, max_records=BATCH)
                if batch is not None:
                    weights = learn(checkpoint["weights"], batch)
                    die("trained")
                    checkpoint = keep(producer, path, weights, consumer.position(SAMPLES), die)


def keep(
    producer: raykafka.Producer, path: Path, weights: list[float], offset: int, die: Death
) -> dict[str, Any]:
    """Weights and offset, together."""
    producer.begin_transaction()
    die("begun")
    producer.send_offsets_to_transaction({SAMPLES: offset}, ConsumerGroupMetadata(TRAINER))
    die("offsets")
    handle: PreparedTransaction = producer.prepare_transaction()
    die("prepared")
    checkpoint = {"weights": weights, "offset": offset, "transaction": handle.to_json()}
    save(path, checkpoint, die)
    producer.commit_transaction()
    die("committed")
    return checkpoint


# --- the demonstration ----------------------------------------------------------------------------


def demonstrate() -> int:
    with tempfile.TemporaryDirectory() as folder:
        data_dir, path = os.path.join(folder, "data"), Path(folder, "checkpoint.json")
        with raykafka.start("checkpoint", data_dir=data_dir) as cluster:
            return run(cluster, data_dir, path)


def run(cluster: raykafka.Cluster, data_dir: str, path: Path) -> int:
    source = samples()
    with cluster.admin() as admin, cluster.producer() as producer:
        admin.create_topics([NewTopic(SAMPLES.topic, 1, schema=source.schema)])
        producer.send_table(SAMPLES.topic, source).get(30)
    for step in (*STEPS, None):
        words = [sys.executable, __file__, "--train", data_dir, str(path)]
        words += ["--die-at", step] if step else []
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        expected = -signal.SIGKILL if step else 0
        end = f"killed when {step}" if step else "done"
        print(f"{done.stdout.strip()}; then {end}")
        if done.returncode != expected:
            print(done.stderr)
            return 1
    learned, direct = load(path), learn([0.0, 0.0], source)
    print(f"learned {learned['weights']} from {learned['offset']} samples; directly {direct}")
    return 0 if (learned["weights"], learned["offset"]) == (direct, COUNT) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs=2, metavar=("DATA_DIR", "FILE"), help="be the trainer")
    parser.add_argument("--die-at", choices=STEPS)
    arguments = parser.parse_args()
    if not arguments.train:
        return demonstrate()
    data_dir, path = arguments.train
    train(raykafka.connect(data_dir), Path(path), Death(arguments.die_at))
    return 0


if __name__ == "__main__":
    sys.exit(main())
