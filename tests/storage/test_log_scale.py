"""Many logs in one process: what an idle one costs, and how fast a thousand open."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from raykafka.model import PartitionId
from raykafka.storage import segments
from raykafka.storage.local_store import LocalStore
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog
from tests.storage.batches import NOW, PARTITION, make_batch
from tests.storage.logs import append, append_values, open_log, read_values

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


def test_a_reopened_log_with_more_index_rows_than_are_kept_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every segment's index alone may be more than what is kept."""
    monkeypatch.setattr(segments, "_INDEX_ROWS_KEPT", 5)
    store, config = LocalStore(str(tmp_path)), LogConfig()
    log = open_log(store, config)
    for number in range(40):
        append_values(log, b"%d" % number)
        if number % 8 == 7:
            log.roll(NOW)
    log.close()
    log = open_log(store, config)
    for start in (0, 0, 35, 3, 17, 9, 39, 0):
        wanted = {number: b"%d" % number for number in range(start, 40)}
        assert read_values(log, start) == wanted
    loaded = [segment for segment in log._segments.items[:-1] if segment.index is not None]
    assert len(loaded) == 1, "the memory of indexes is bounded"
