"""From the start of a process to the first acknowledged record, on an empty folder.

``python -m bench.headline.cold_start NAME FOLDER`` is the process that is timed: a program that
starts a cluster, makes a topic, sends one record and stops the cluster again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import raykafka
from bench.headline.session import Session
from bench.peers.kafka import Kafka
from raykafka import NewTopic

_ACKNOWLEDGED = "acknowledged"
_TIMEOUT_S = 90


def alone(session: Session) -> None:
    """Nothing runs yet: Kafka's broker, and a raykafka that has to start Ray."""
    _kafka(session)
    with session.attempt("cold start, raykafka"):
        session.say("cold start: raykafka and Ray")
        session.record("cold start/raykafka", _first_ack(_fresh(session)))


def joining(session: Session) -> None:
    """Ray runs already; Kafka's broker is started beside it as well."""
    session.peer("raykafka")  # whose Ray the new cluster joins
    _kafka(session)
    with session.attempt("cold start, raykafka on a running Ray"):
        session.say("cold start: raykafka, Ray running")
        session.record("cold start/raykafka, Ray running", _first_ack(_fresh(session)))


def _fresh(session: Session) -> Path:
    folder = session.folder / f"cold-{time.monotonic_ns()}"
    folder.mkdir()
    return folder


def _kafka(session: Session) -> None:
    """Until its first answered request; formatting its storage before that does not count."""
    kafka = Kafka()
    if kafka.missing() is not None:
        return
    with session.attempt("cold start, kafka"):
        session.say("cold start: kafka")
        try:
            kafka.start(_fresh(session))
            session.record("cold start/kafka", kafka.ready_s)
        finally:
            kafka.stop()


def _first_ack(folder: Path) -> float:
    """Seconds until a fresh process says that its first record was acknowledged."""
    command = [sys.executable, "-m", "bench.headline.cold_start", folder.name, str(folder)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.decode().strip() == _ACKNOWLEDGED:
                elapsed = time.perf_counter() - start
                process.communicate(timeout=_TIMEOUT_S)
                return elapsed
        _, complaint = process.communicate(timeout=_TIMEOUT_S)
    raise RuntimeError(f"the cluster did not start:\n{complaint.decode()[-2000:]}")


def main() -> None:
    name, folder = sys.argv[1:]
    cluster = raykafka.start(f"{name}-{os.getpid()}", data_dir=folder)
    try:
        with cluster.admin() as admin, cluster.producer() as producer:
            admin.create_topics([NewTopic("first", num_partitions=1)])
            producer.send("first", b"record").get(30)
            print(_ACKNOWLEDGED, flush=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
