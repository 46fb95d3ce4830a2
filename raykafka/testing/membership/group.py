"""A topic that is written to, a group that reads it, and what may be done to both."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

from raykafka.client.admin import Admin, NewTopic
from raykafka.client.producer import Producer
from raykafka.clock import SystemClock
from raykafka.errors import IllegalStateError, RaykafkaError
from raykafka.internal_topics import CONSUMER_OFFSETS, coordinator_partition
from raykafka.model import TopicPartition
from raykafka.testing.local_cluster import LocalCluster
from raykafka.testing.membership.checking import FOREVER
from raykafka.testing.membership.worker import LOST, POLLED, Event, run_member

TOPIC: Final = "work"
GROUP: Final = "workers"
SESSION_MS: Final = 1_500
LATE_MS: Final = 3_000
"""How long a member that was paused may take to hear that it has lost everything."""
_STEP_S: Final = 0.02
_SPAWN: Final = multiprocessing.get_context("spawn")


class Member:
    """A process of the group, and what it has told so far."""

    def __init__(self, name: str, cluster: LocalCluster, instance_id: str = "") -> None:
        ours, theirs = _SPAWN.Pipe()
        self.name = name
        self.pipe: Connection = ours
        self.events: list[Event] = []
        self.stopped: list[tuple[int, int]] = []
        self._clock = SystemClock()
        self.process = _SPAWN.Process(
            target=run_member,
            args=(cluster.bootstrap, TOPIC, GROUP, instance_id, theirs),
            daemon=True,
        )
        self.process.start()
        theirs.close()

    def hear(self) -> None:
        """Take what it has told."""
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.poll():
                self.events.append(self.pipe.recv())

    @property
    def owned(self) -> tuple[int, ...]:
        """What it owned when it polled last."""
        polled = (event for event in reversed(self.events) if event.what == POLLED)
        last = next(polled, None)
        return () if last is None else last.partitions

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process."""
        if self.process.pid is not None:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        at_ms = self._clock.monotonic_ms()
        self.signal(signal.SIGKILL)
        self.process.join()
        self.hear()
        self.stopped.append((at_ms, FOREVER))

    def pause(self) -> None:
        """SIGSTOP."""
        self.stopped.append((self._clock.monotonic_ms(), FOREVER))
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT; it may be late to hear what has happened meanwhile."""
        began_ms, _ = self.stopped.pop()
        self.stopped.append((began_ms, self._clock.monotonic_ms() + LATE_MS))
        self.signal(signal.SIGCONT)

    def heard_of_loss(self) -> None:
        """A pause ends for the record when the member says that it has lost everything."""
        if self.stopped and self.stopped[-1][1] != FOREVER:
            began_ms, until_ms = self.stopped[-1]
            losses = [e.at_ms for e in self.events if e.what == LOST and e.at_ms >= began_ms]
            self.stopped[-1] = (began_ms, min([until_ms, *losses]))

    def leave(self) -> None:
        """Ask it to leave, and wait until it has."""
        with contextlib.suppress(OSError):
            self.pipe.send("leave")
        while self.process.is_alive():  # it cannot end while its pipe is full
            self.hear()
            self.process.join(_STEP_S)
        self.hear()


class Group:
    """Three brokers, one topic under load, and the members."""

    def __init__(self, directory: str, partitions: int) -> None:
        self.partitions = partitions
        self.cluster = LocalCluster(
            directory,
            nodes=3,
            partition_actors=1,
            configs={
                "group.consumer.session.timeout.ms": str(SESSION_MS),
                "group.consumer.heartbeat.interval.ms": "300",
            },
        )
        self.members: list[Member] = []
        self.gone: list[Member] = []
        self.problems: list[str] = []
        self._names = 0
        self._clock = SystemClock()
        self._waiting = threading.Event()
        self._committed: dict[int, int] = {}
        self._producing = threading.Thread(target=self._produce, daemon=True)
        self.admin: Admin

    def __enter__(self) -> Group:
        self.cluster.start()
        self.admin = Admin(self.cluster.bootstrap)
        topic = NewTopic(TOPIC, num_partitions=self.partitions, replication_factor=1)
        self.admin.create_topics([topic])
        self._producing.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._waiting.set()
        self._producing.join()
        for member in self.members:
            member.kill()
        self.admin.close()
        self.cluster.stop()

    # --- what may be done -------------------------------------------------------------------------

    def join(self) -> Member:
        """One more member."""
        self._names += 1
        member = Member(f"member-{self._names}", self.cluster)
        self.members.append(member)
        return member

    def remove(self, member: Member, end: Callable[[], None]) -> None:
        """One member less."""
        end()
        self.members.remove(member)
        self.gone.append(member)

    def kill_coordinator(self) -> None:
        """Kill the partition actor that leads the group's partition."""
        [topic] = self.admin.describe_topics([CONSUMER_OFFSETS])
        number = coordinator_partition(GROUP, len(topic.partitions))
        with contextlib.suppress(IllegalStateError):  # it may be dead already
            self.cluster.kill_partition_actor(0, topic.partitions[number].leader_id)

    # --- what is looked at ------------------------------------------------------------------------

    def hear(self) -> None:
        """Take what the members have told, and look at what is committed."""
        for member in self.members:
            member.hear()

    def owners(self) -> dict[int, str]:
        """Who owns each partition, as members said last; none where two do."""
        found: dict[int, str] = {}
        for member in self.members:
            for partition in member.owned:
                if partition in found:
                    return {}
                found[partition] = member.name
        return found

    @property
    def is_settled(self) -> bool:
        """Whether every partition has one owner, and everybody has as many, or one more."""
        owners = self.owners()
        if len(owners) != self.partitions:
            return False
        counts = [len(member.owned) for member in self.members]
        return max(counts) - min(counts) <= 1

    def wait_settled(self, timeout_s: float) -> int | None:
        """Wait for it; the monotonic time when it was so, None when it took too long."""
        deadline_ms = self._clock.monotonic_ms() + int(timeout_s * 1000)
        while self._clock.monotonic_ms() < deadline_ms:
            self.hear()
            if self.is_settled:
                return self._clock.monotonic_ms()
            self._waiting.wait(_STEP_S)
        return None

    def wait(self, seconds: float) -> None:
        """Let things go on."""
        deadline_ms = self._clock.monotonic_ms() + int(seconds * 1000)
        while self._clock.monotonic_ms() < deadline_ms:
            self.hear()
            self._waiting.wait(_STEP_S)

    def check_committed(self) -> None:
        """Committed offsets never go back."""
        try:
            found = self.admin.list_consumer_group_offsets(GROUP)
        except RaykafkaError:
            return
        for partition in range(self.partitions):
            offset = found.get(TopicPartition(TOPIC, partition))
            now = -1 if offset is None else offset.offset
            before = self._committed.get(partition, -1)
            if now < before:
                self.problems.append(
                    f"partition {partition}: offset {before} was committed, then {now}"
                )
            self._committed[partition] = max(now, before)

    def _produce(self) -> None:
        with Producer(self.cluster.bootstrap, linger_ms=5) as producer:
            number = 0
            while not self._waiting.is_set():
                for partition in range(self.partitions):
                    number += 1
                    producer.send(TOPIC, b"%d" % number, partition=partition)
                self._waiting.wait(0.05)
