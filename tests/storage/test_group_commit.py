"""Flushes in threads: batched, one per log at a time, errors delivered."""

from __future__ import annotations

import queue
import threading

import pytest

from raykafka.errors import KafkaStorageError, RaykafkaError
from raykafka.storage.group_commit import GroupCommit


class Log:
    """Counts flushes; each waits until the test lets it go on."""

    def __init__(self) -> None:
        self.end = 0
        self.started: queue.Queue[int] = queue.Queue()
        self.go_on: queue.Queue[Exception | None] = queue.Queue()
        self.concurrent = 0
        self.worst = 0

    def flush(self) -> int:
        end = self.end
        self.concurrent += 1
        self.worst = max(self.worst, self.concurrent)
        self.started.put(end)
        error = self.go_on.get(timeout=10)
        self.concurrent -= 1
        if error is not None:
            raise error
        return end


@pytest.fixture
def results() -> queue.Queue[tuple[Log, int | RaykafkaError]]:
    return queue.Queue()


@pytest.fixture
def commit(results: queue.Queue[tuple[Log, int | RaykafkaError]]) -> GroupCommit[Log]:
    return GroupCommit(lambda log, result: results.put((log, result)))


def test_appends_during_a_flush_share_the_next_one(
    commit: GroupCommit[Log], results: queue.Queue[tuple[Log, int | RaykafkaError]]
) -> None:
    log = Log()
    log.end = 1
    commit.request(log)
    assert log.started.get(timeout=10) == 1
    for end in range(2, 50):
        log.end = end
        commit.request(log)
    log.go_on.put(None)
    assert results.get(timeout=10) == (log, 1)
    assert log.started.get(timeout=10) == 49
    log.go_on.put(None)
    assert results.get(timeout=10) == (log, 49)
    commit.close()
    assert log.started.empty()
    assert log.worst == 1


def test_logs_do_not_wait_for_each_other(
    commit: GroupCommit[Log], results: queue.Queue[tuple[Log, int | RaykafkaError]]
) -> None:
    slow, quick = Log(), Log()
    commit.request(slow)
    slow.started.get(timeout=10)
    quick.go_on.put(None)
    commit.request(quick)
    assert results.get(timeout=10) == (quick, 0)
    slow.go_on.put(None)
    assert results.get(timeout=10) == (slow, 0)
    commit.close()


def test_errors_are_delivered_and_the_threads_live_on(
    commit: GroupCommit[Log], results: queue.Queue[tuple[Log, int | RaykafkaError]]
) -> None:
    log = Log()
    for error in (KafkaStorageError("disk"), ValueError("a bug")):
        log.go_on.put(error)
        commit.request(log)
        _, result = results.get(timeout=10)
        assert isinstance(result, KafkaStorageError)
    log.go_on.put(None)
    commit.request(log)
    assert results.get(timeout=10) == (log, 0)
    commit.close()


def test_close_finishes_what_was_requested(
    results: queue.Queue[tuple[Log, int | RaykafkaError]],
) -> None:
    others = set(threading.enumerate())
    commit: GroupCommit[Log] = GroupCommit(lambda log, result: results.put((log, result)))
    assert set(threading.enumerate()) - others
    logs = [Log() for _ in range(20)]
    for log in logs:
        log.go_on.put(None)
        commit.request(log)
    commit.close()
    assert {id(results.get_nowait()[0]) for _ in logs} == {id(log) for log in logs}
    with pytest.raises(KafkaStorageError, match="closed"):
        commit.request(logs[0])
    assert not set(threading.enumerate()) - others
