"""The active controller dies at every single write of a command: nothing is ever half applied."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raykafka.client.admin import Admin, NewTopic
from raykafka.controller.invariants import validate
from raykafka.errors import KafkaStorageError, TopicAlreadyExistsError
from raykafka.storage.local_store import LocalStore
from raykafka.testing.local_actors import LocalController
from raykafka.testing.local_cluster import LocalCluster

QUICK = {
    "controller.quorum.fetch.timeout.ms": "400",
    "controller.quorum.election.timeout.ms": "400",
}
WRITES = ("append", "flush", "publish")


class Failpoint:
    """Kills the active controller at its n-th write from now on, before or after it is done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._lock = threading.Lock()
        self._left = 0
        self._after = False
        self.victim: LocalController | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.hit = ""
        for name in WRITES:
            patch.setattr(LocalStore, name, self._guarded(name, getattr(LocalStore, name)))

    def arm(self, cluster: LocalCluster, write: int, *, after: bool) -> None:
        async def find() -> None:
            active = [port for port in cluster._actors.controllers() if port.shell.is_active]
            self.victim, self._loop = active[-1], asyncio.get_running_loop()

        cluster._run(find())
        self._left, self._after, self.hit = write, after, ""

    def disarm(self) -> None:
        self._left = -1

    def _guarded(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def write(store: LocalStore, path: str, *args: Any, **settings: Any) -> Any:
            if not self._is_hit(store, f"{name} {path}"):
                return original(store, path, *args, **settings)
            result = original(store, path, *args, **settings) if self._after else None
            self._kill()
            if not self._after:
                raise KafkaStorageError("killed before the write")
            return result

        return write

    def _is_hit(self, store: LocalStore, what: str) -> bool:
        with self._lock:
            victim = self.victim
            if victim is None or victim.shell._parts is None:
                return False
            if store is not victim.shell._parts.home._store:
                return False
            self._left -= 1
            if self._left:
                return False
            self.hit = what
            return True

    def _kill(self) -> None:
        """Returns when the process is on its way out: nothing more of it reaches anybody."""
        dying = threading.Event()
        victim, loop = self.victim, self._loop
        assert victim is not None
        assert loop is not None

        def kill() -> None:
            parts = victim.shell._parts
            if parts is not None:
                parts.shell.node._closed = True
            victim.kill()
            dying.set()

        loop.call_soon_threadsafe(kill)
        assert dying.wait(10)


def until(condition: Callable[[], Any], timeout_s: float = 20) -> None:
    waiting = threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        waiting.wait(0.02)


def images(cluster: LocalCluster) -> list[Any]:
    async def read() -> list[Any]:
        return [port.shell._parts.shell.view for port in cluster._actors.controllers()]  # type: ignore[union-attr]

    found: list[Any] = cluster._run(read())
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, nodes=3, partition_actors=1, configs=QUICK) as cluster:
        until(lambda: cluster.voters() == [0, 1, 2])
        yield cluster


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_write_of_a_topic_s_creation(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    failpoint = Failpoint(monkeypatch)
    created: list[str] = []
    with Admin(cluster.bootstrap) as admin:
        for write in range(1, 7):
            name = f"topic-{write}"
            until(lambda: len(cluster.voters()) == 3)
            failpoint.arm(cluster, write, after=after)
            # The first attempt may be committed, and its answer die with the controller.
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics([NewTopic(name, num_partitions=3, replication_factor=3)])
            created.append(name)
            killed = bool(failpoint.hit)
            failpoint.disarm()
            until(lambda: _is_active(cluster))
            for image in images(cluster):
                validate(image)
                for topic in image.topics.values():
                    assert len(topic.partitions) == 3, "half a topic"
            assert sorted(admin.list_topics()) == sorted(created)
            if killed:
                _restart(cluster, failpoint)
    until(lambda: len({str(image.topics) for image in images(cluster)}) == 1)


def _is_active(cluster: LocalCluster) -> bool:
    return bool(cluster.voters())


def _restart(cluster: LocalCluster, failpoint: Failpoint) -> None:
    """As Ray does with a process that has died."""

    async def start() -> None:
        victim = failpoint.victim
        assert victim is not None
        await victim.wait_dead()
        if cluster._actors.find(victim.name) is not None:
            return  # voter 0 came back before a leader was elected, and looked for the others
        again = cluster._actors.create_controller(victim.shell.spec, victim.node_id)
        await again.shell.start()

    cluster._run(start())
