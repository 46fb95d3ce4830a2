"""Many logs in one process: what an idle one costs, and how fast a thousand open."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

from raykafka.model import PartitionId
from raykafka.storage.local_store import LocalStore
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog
from tests.storage.batches import NOW, PARTITION, make_batch
from tests.storage.logs import append

LOGS = 1000
CONFIG = LogConfig()


def open_logs(store: LocalStore) -> list[PartitionLog]:
    return [
        PartitionLog.open(
            store,
            f"t-{number}",
            PartitionId(PARTITION.topic_id, number),
            "t",
            CONFIG,
            (),
            now_ms=NOW,
        )
        for number in range(LOGS)
    ]


def test_a_thousand_logs(tmp_path: Path) -> None:
    """The limits are several times what was measured: machines that run tests are busy."""
    store = LocalStore(str(tmp_path))
    open_logs(LocalStore(str(tmp_path / "warm-up")))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    logs = open_logs(store)
    fresh = (tracemalloc.get_traced_memory()[0] - before) / LOGS
    for log in logs:
        for _ in range(3):
            append(log, make_batch(partition=log._reader._partition))
    idle = (tracemalloc.get_traced_memory()[0] - before) / LOGS
    tracemalloc.stop()
    assert fresh < 20_000
    assert idle < 20_000
    assert len(os.listdir("/proc/self/fd")) < 350
    store.close()

    started = time.process_time()
    logs = open_logs(LocalStore(str(tmp_path)))
    assert time.process_time() - started < 3
    assert sum(log.log_end_offset for log in logs) == 3 * LOGS
    assert all(log.recovered.clean for log in logs)
