"""Opens, re-configures and deletes replicas as the controller says.

What touches the disk runs in a thread, a few replicas at a time, so that the loop goes on serving
the others while a thousand are opened in one call. Calls are taken one after the other: an
assignment and its successor never overlap.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from raykafka.actors.ports import AssignmentResult, PartitionAssignment, PartitionRemoval
from raykafka.actors.replicas.flushing import Flusher
from raykafka.actors.replicas.following import Following
from raykafka.actors.replicas.outlets import Outlets
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.replicas.replica_set import ReplicaSet
from raykafka.clock import Clock
from raykafka.config import BrokerConfig, TopicConfig
from raykafka.errors import (
    DiskFullError,
    FencedLeaderEpochError,
    IllegalStateError,
    KafkaStorageError,
    LogDamagedError,
    RaykafkaError,
    UnknownTopicIdError,
)
from raykafka.log.schema import UNTYPED_SCHEMA, deserialize_schema, storage_schema
from raykafka.model import PartitionId
from raykafka.replication.leader import ReplicaMachine
from raykafka.replication.role import Role
from raykafka.storage.api import SegmentStore
from raykafka.storage.checkpoints import CHECKPOINT_FILE, Checkpoint, decode
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog

_SLICE = 32
"""Replicas that one trip to the thread opens or deletes."""


class Settings(NamedTuple):
    """What a topic's settings and schemas mean here; one object for all of its partitions."""

    config: TopicConfig
    log_config: LogConfig
    schemas: tuple[pa.Schema, ...]


Opened = tuple[PartitionAssignment, Settings, PartitionLog]
Refused = tuple[PartitionAssignment, RaykafkaError]


class Assigner:
    """Turns assignments into replicas of one partition actor."""

    def __init__(
        self,
        replicas: ReplicaSet,
        store: SegmentStore,
        outlets: Outlets,
        flusher: Flusher,
        following: Following,
        clock: Clock,
        config: BrokerConfig,
        local_id: int,
        *,
        intact: bool = True,
    ) -> None:
        """Whoever opens, cuts or closes logs has the turn of ``following``.

        Where the directory is not ``intact``, a log that was opened before may be gone: a power cut
        takes a log away that had never been forced to the disk. Where others may lead, it is made
        anew only as a copy of theirs.
        """
        self._replicas = replicas
        self._store = store
        self._outlets = outlets
        self._flusher = flusher
        self._following = following
        self._clock = clock
        self._config = config
        self._local_id = local_id
        self._intact = intact
        self._closed = False
        self._waiting = 0
        """Calls that wait for their turn, or have it."""
        self._settings_of = functools.lru_cache(maxsize=256)(self._parse)

    async def assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        """One result per removal, then one per assignment; errors stand in the results."""
        if not removals and not self._waiting and all(map(self._is_mere_news, assignments)):
            return await self._assign(assignments, [])  # waits for nothing on its way
        self._waiting += 1
        try:
            async with self._following.catch_up.first_turn():
                return await self._assign(assignments, removals)
        finally:
            self._waiting -= 1

    def _is_mere_news(self, assignment: PartitionAssignment) -> bool:
        """Whether only who is in sync is new: no log is touched, so that no copy has to interrupt
        its turn for it.
        """
        replica = self._replicas.get(assignment.partition)
        if replica is None or replica.rebuilding or replica.log.damaged:
            return False
        before = replica.assignment
        return before == dataclasses.replace(
            assignment,
            isr=before.isr,
            elr=before.elr,
            opened_before=before.opened_before,
            partition_epoch=before.partition_epoch,
        )

    async def _assign(
        self, assignments: Sequence[PartitionAssignment], removals: Sequence[PartitionRemoval]
    ) -> list[AssignmentResult]:
        if self._closed:
            raise IllegalStateError("the partition actor has stopped")
        results = await self._remove(removals)
        missing = []
        for assignment in assignments:
            replica = self._replicas.get(assignment.partition)
            if replica is None:
                missing.append(assignment)
            else:
                results.append(await self._update(replica, assignment))
        for start in range(0, len(missing), _SLICE):
            results += await self._open(missing[start : start + _SLICE])
        return results

    async def close(self) -> None:
        """Let the call that is under way finish and take no more."""
        async with self._following.catch_up.first_turn():
            self._closed = True

    async def _open(self, assignments: Sequence[PartitionAssignment]) -> list[AssignmentResult]:
        loop = asyncio.get_running_loop()
        return [
            self._begin(*opened) if len(opened) == 3 else self._fail(*opened)
            for opened in await loop.run_in_executor(None, self._open_logs, assignments)
        ]

    def _open_logs(self, assignments: Sequence[PartitionAssignment]) -> list[Opened | Refused]:
        """Runs in a thread; touches nothing but the store."""
        now_ms = self._clock.now_ms()
        found: list[Opened | Refused] = []
        for assignment in assignments:
            try:
                settings = self._settings(assignment)
                log = PartitionLog.open(
                    self._store,
                    log_directory(assignment.topic, assignment.partition),
                    assignment.partition,
                    assignment.topic,
                    settings.log_config,
                    settings.schemas,
                    now_ms=now_ms,
                    must_exist=self._must_exist(assignment),
                )
                self._mend(log, assignment)
            except Exception as error:  # noqa: BLE001  # one log must not take its neighbours down
                found.append((assignment, as_storage_error(error, assignment)))
            else:
                found.append((assignment, settings, log))
        return found

    def _must_exist(self, assignment: PartitionAssignment) -> bool:
        others = {*assignment.isr, *assignment.elr} - {self._local_id}
        return assignment.opened_before and (self._intact or bool(others))

    def _mend(self, log: PartitionLog, assignment: PartitionAssignment) -> None:
        """Cut what cannot be read, or trusted, off a copy that is not counted on; blocks.

        It is copied again from the leader. A copy that is counted on is never cut: others in sync
        take its part first. Raises ``LogDamagedError`` to bring that about; and the error of a
        write or fsync that failed before, after which no other one can be believed, while nobody
        else has what is in the log.
        """
        failed = self._replicas.failed(assignment.partition)
        if assignment.leader_id != self._local_id and not assignment.opened_before:
            if failed is not None and failed.in_use:
                log.truncate_to(log.flushed_offset)
            while log.damaged:  # a cut reads what it leaves, and may meet more of it
                log.truncate_to(log.damaged[0][0])
        elif failed is not None and failed.in_use:
            raise failed.error
        elif log.damaged and {*assignment.isr, *assignment.elr} - {self._local_id}:
            raise LogDamagedError(
                f"this copy of {assignment.topic}-{assignment.partition.partition} is damaged at "
                f"offsets {log.damaged}; it is copied again from one that is in sync"
            )

    def _begin(
        self, assignment: PartitionAssignment, settings: Settings, log: PartitionLog
    ) -> AssignmentResult:
        replica = Replica(
            assignment,
            settings.config,
            settings.schemas,
            log,
            self._new_machine(log),
            self._outlets,
        )
        self._take_role(replica, assignment)
        self._flush_rest(replica)
        self._replicas.add(replica)
        return _succeeded(replica)

    def _new_machine(self, log: PartitionLog) -> ReplicaMachine:
        machine = ReplicaMachine(self._local_id, lag_max_ms=self._config.replica_lag_time_max_ms)
        machine.high_watermark = log.high_watermark
        return machine

    def _flush_rest(self, replica: Replica) -> None:
        """Flush what nobody else is going to ask for: no append may follow."""
        if replica.flushes and replica.log.flushed_offset < replica.log.log_end_offset:
            self._flusher.request(replica)

    def _take_role(self, replica: Replica, assignment: PartitionAssignment) -> None:
        """Lead, follow, or wait for a leader; raises ``FencedLeaderEpochError``."""
        now_ms = self._clock.monotonic_ms()
        if assignment.leader_id == self._local_id:
            self._outlets.throttle.rate = assignment.throttled_rate
            self._following.stop(replica)
            replica.lead(assignment, now_ms=now_ms)
            return
        if assignment.leader is None:
            self._following.stop(replica)
        if assignment.leader_epoch > replica.leader_epoch or replica.machine.role is Role.OFFLINE:
            replica.follow(assignment, now_ms=now_ms)
        self._following.throttle.rate = assignment.throttled_rate
        if assignment.leader is not None:
            self._following.follow(replica, assignment.leader)

    def _fail(self, assignment: PartitionAssignment, error: RaykafkaError) -> AssignmentResult:
        self._replicas.fail(assignment, error)
        return _failed(assignment, error)

    async def _update(self, replica: Replica, assignment: PartitionAssignment) -> AssignmentResult:
        """Take a newer epoch or changed settings over; nothing happens when neither is new."""
        if assignment.leader_epoch < replica.leader_epoch:
            return _failed(
                assignment,
                FencedLeaderEpochError(
                    f"{assignment.topic}-{assignment.partition.partition} is led in epoch "
                    f"{replica.leader_epoch}; epoch {assignment.leader_epoch} is over"
                ),
            )
        try:
            before = replica.assignment
            if (before.configs, before.schemas) != (assignment.configs, assignment.schemas):
                settings = self._settings(assignment)
                replica.log.reconfigure(settings.log_config, settings.schemas)
                replica.configure(assignment, settings.config, settings.schemas)
                self._flush_rest(replica)
                self._following.acknowledge(replica)
            replica.assignment = assignment
            if replica.log.damaged and not assignment.opened_before:
                if assignment.leader_id == self._local_id:
                    self._mend(replica.log, assignment)  # it cuts nothing
                else:
                    await self._mend_in_use(replica, assignment)
            self._take_role(replica, assignment)
        except RaykafkaError as error:
            return _failed(assignment, error)
        return _succeeded(replica)

    async def _mend_in_use(self, replica: Replica, assignment: PartitionAssignment) -> None:
        """Raises what the cut does, or the error of a flush that failed meanwhile."""
        self._take_out_of_use(replica, replica.being_cut())
        replica.rebuilding = True
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self._mend, replica.log, assignment)
        except KafkaStorageError as error:
            if not isinstance(error, DiskFullError):
                self._following.on_log_failed(replica, error)
            raise
        finally:
            replica.rebuilding = False
        failed = self._replicas.failed(assignment.partition)
        if failed is not None:
            raise failed.error
        # What was committed may be gone: as after a restart, nothing is known of it.
        replica.machine = self._new_machine(replica.log)

    def _take_out_of_use(self, replica: Replica, error: RaykafkaError) -> None:
        """Nobody copies, flushes or serves it any more; who waits for it is told ``error``."""
        self._flusher.forget(replica)
        self._following.stop(replica)
        replica.resign(error, now_ms=self._clock.monotonic_ms())

    async def _remove(self, removals: Sequence[PartitionRemoval]) -> list[AssignmentResult]:
        replicas = []
        for removal in removals:
            replica = self._replicas.remove(removal.partition)
            if replica is not None:
                error = UnknownTopicIdError(f"topic {removal.topic} has been deleted")
                self._take_out_of_use(replica, error)
            replicas.append((removal, replica))
        loop = asyncio.get_running_loop()
        results: list[AssignmentResult] = []
        for start in range(0, len(replicas), _SLICE):
            part = replicas[start : start + _SLICE]
            results += await loop.run_in_executor(None, self._delete_logs, part)
        return results

    def _delete_logs(
        self, replicas: Sequence[tuple[PartitionRemoval, Replica | None]]
    ) -> list[AssignmentResult]:
        """Runs in a thread; nobody else knows these replicas any more."""
        results = []
        for removal, replica in replicas:
            try:
                if replica is not None:
                    replica.log.delete()
                else:
                    delete_log(
                        self._store,
                        log_directory(removal.topic, removal.partition),
                        removal.partition,
                    )
            except Exception as error:  # noqa: BLE001  # see _open_logs
                problem = _wrapped(
                    error, f"could not delete {log_directory(removal.topic, removal.partition)}"
                )
                results.append(
                    AssignmentResult(removal.partition, -1, -1, problem.code, problem.message)
                )
            else:
                results.append(AssignmentResult(removal.partition, -1))
        return results

    def _settings(self, assignment: PartitionAssignment) -> Settings:
        return self._settings_of(
            tuple(sorted(assignment.configs.items())), tuple(assignment.schemas)
        )

    def _parse(self, configs: tuple[tuple[str, str], ...], schemas: tuple[bytes, ...]) -> Settings:
        config = TopicConfig.parse(dict(configs), self._config.topic_defaults)
        parsed = tuple(storage_schema(deserialize_schema(schema)) for schema in schemas)
        log_config = LogConfig.of(config, self._config.producer_id_expiration_ms)
        return Settings(config, log_config, parsed or (UNTYPED_SCHEMA,))


def delete_log(store: SegmentStore, directory: str, partition: PartitionId) -> None:
    """Delete the files of a log that is not open, if they are that partition's.

    A directory of a younger topic with the same name is left alone.
    """
    paths = store.list(directory + "/")
    marker = f"{directory}/{CHECKPOINT_FILE}"
    if marker in paths:
        content = store.read(marker, 0, store.size(marker))
        checkpoint = decode(content, Checkpoint, marker)
        if (checkpoint.topic_id, checkpoint.partition) != partition:
            return
        # Last, so that a deletion that is cut short can be recognised and finished.
        paths.remove(marker)
        paths.append(marker)
    for path in paths:
        store.delete(path)


def log_directory(topic: str, partition: PartitionId) -> str:
    """Directory of a partition's log below the log directory, as in Kafka."""
    return f"{topic}-{partition.partition}"


def as_storage_error(error: Exception, assignment: PartitionAssignment) -> RaykafkaError:
    """What requests to a replica are answered with after its log failed with ``error``."""
    return _wrapped(error, f"the log of {assignment.topic}-{assignment.partition.partition} failed")


def _wrapped(error: Exception, what: str) -> RaykafkaError:
    if isinstance(error, RaykafkaError):
        return error
    return KafkaStorageError(f"{what}: {error!r}; check the disk and restart the broker")


def _succeeded(replica: Replica) -> AssignmentResult:
    return AssignmentResult(replica.partition, replica.leader_epoch, replica.log.log_end_offset)


def _failed(assignment: PartitionAssignment, error: RaykafkaError) -> AssignmentResult:
    return AssignmentResult(
        assignment.partition, assignment.leader_epoch, -1, error.code, error.message
    )
