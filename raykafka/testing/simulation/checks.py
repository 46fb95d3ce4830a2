"""What must hold after every step, and once everything has healed: design.md, section 9.

The checks look into the actors as nobody could in production, and change nothing there. The model
they check against is the committed log of each partition: what some leader's high watermark has
passed, batch by batch. Once a batch is in there, every replica that claims to have committed that
offset must have the same one, for ever.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from raykafka.errors import RaykafkaError, error_for
from raykafka.log.batch_header import BatchHeader, verify
from raykafka.model import PartitionId
from raykafka.protocol.messages import FetchedPartition
from raykafka.replication.role import Role
from raykafka.testing.simulation.hosts import Process
from raykafka.testing.simulation.world import World


class Violation(Exception):
    """An invariant did not hold; the message says which, where and when."""


class ProducedBatch(NamedTuple):
    """One batch as its producer made it; sent again it is the same."""

    producer: int
    partition: int
    first: int
    """Number of its first record, and its base sequence."""
    records: int
    crc: int
    message: bytes


class Committed(NamedTuple):
    """One batch of the committed log."""

    base_offset: int
    next_offset: int
    epoch: int
    crc: int
    producer_id: int
    first: int


@dataclass
class _Partition:
    """The model of one partition."""

    log: list[Committed] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    end: int = 0
    crcs: dict[int, int] = field(default_factory=dict)
    """Base offset of every committed batch, by its crc."""
    next_sequence: dict[int, int] = field(default_factory=dict)
    leaders: dict[int, str] = field(default_factory=dict)
    """Who led, by epoch."""
    acknowledged: dict[int, int] = field(default_factory=dict)
    """Base offset of every acknowledged batch, by its crc."""
    unread: int = 0
    """Committed up to here by a leader whose copy a flipped bit has made unreadable."""
    committing_epoch: int = -1
    """Newest epoch whose leader has committed something."""


class _Replica(NamedTuple):
    """What was last seen of one life of a replica."""

    epoch: int
    high_watermark: int
    is_leader: bool


class Checks:
    """The model of a topic and everything that is known to be wrong."""

    def __init__(self, world: World, topic: str, partitions: int, min_insync_replicas: int) -> None:
        self.topic = topic
        self.sent: dict[int, ProducedBatch] = {}
        """Every batch that a producer has made, by its crc."""
        self.sends = 0
        self.reads = 0
        self.acknowledgements = 0
        self._world = world
        self._min_insync_replicas = min_insync_replicas
        self._partitions = [_Partition() for _ in range(partitions)]
        self._metadata: dict[tuple[int, int], tuple[int, str]] = {}

    # --- the actors -------------------------------------------------------------------------------

    def watch_partition_actor(self, process: Process) -> None:
        """Check the replicas of a new partition actor after each of its turns."""
        known: dict[int, tuple[Any, _Replica]] = {}

        def look() -> None:
            for replica in process.shell._replicas:
                if replica.topic != self.topic:
                    continue
                machine = replica.machine
                now = _Replica(
                    machine.leader_epoch, machine.high_watermark, machine.role is Role.LEADER
                )
                number = replica.partition.partition
                before = known.get(number)
                if before is None or before[0] is not machine or before[1] != now:
                    was = before[1] if before is not None and before[0] is machine else None
                    self._on_changed(process, replica, was, now)
                    known[number] = (machine, now)

        process.loop.after_turn = look

    def _on_changed(
        self, process: Process, replica: Any, before: _Replica | None, now: _Replica
    ) -> None:
        number = replica.partition.partition
        partition = self._partitions[number]
        where = f"{process.name} {self.topic}-{number}"
        if before is not None:
            if now.epoch < before.epoch:
                self._fail(f"{where}: the leader epoch went back from {before.epoch} to {now}")
            if now.high_watermark < before.high_watermark:
                self._fail(f"{where}: the high watermark went back: {before}, then {now}")
        if now.is_leader:
            leader = partition.leaders.setdefault(now.epoch, process.name)
            if leader != process.name:
                self._fail(f"{where} leads in epoch {now.epoch}, and so did {leader}")
        passed = 0 if before is None else before.high_watermark
        if now.high_watermark > passed:
            if now.is_leader and before is not None and before.is_leader:
                partition.committing_epoch = max(partition.committing_epoch, now.epoch)
                in_sync = len(replica.machine.isr)
                if in_sync < self._min_insync_replicas:
                    self._fail(f"{where}: {now} was committed with {in_sync} replicas in sync")
            try:
                self._on_committed(where, partition, replica, passed, now.high_watermark)
            except RaykafkaError as error:
                if not process.host.disk.flipped:
                    self._fail(f"{where} cannot be read: {error}")
                partition.unread = max(partition.unread, now.high_watermark)

    def _on_committed(
        self, where: str, partition: _Partition, replica: Any, start: int, end: int
    ) -> None:
        """A replica says that what is between the offsets is committed."""
        log = replica.log
        if end > log.log_end_offset:
            self._fail(f"{where}: high watermark {end} is behind the log's end")
        first = max(start, log.log_start_offset)
        for header in batches_between(log, replica.partition, first, end):
            if header.base_offset < partition.end:
                known = committed_at(partition, header.base_offset)
                if (known.base_offset, known.epoch, known.crc) != (
                    header.base_offset,
                    header.leader_epoch,
                    header.crc,
                ):
                    self._fail(f"{where}: {header} is in the place of the committed {known}")
                continue
            if header.base_offset != partition.end:
                self._fail(f"{where}: nothing is committed between {partition.end} and {header}")
            self._append(where, partition, header)

    def _append(self, where: str, partition: _Partition, header: BatchHeader) -> None:
        if header.crc in partition.crcs:
            self._fail(f"{where}: {header} was committed at {partition.crcs[header.crc]} before")
        if header.crc not in self.sent:
            self._fail(f"{where}: nobody has sent the committed {header}")
        expected = partition.next_sequence.get(header.producer_id, 0)
        if header.base_sequence != expected:
            self._fail(f"{where}: {header} does not follow sequence {expected} of its producer")
        partition.next_sequence[header.producer_id] = header.base_sequence + header.record_count
        partition.crcs[header.crc] = header.base_offset
        partition.starts.append(header.base_offset)
        partition.log.append(
            Committed(
                header.base_offset,
                header.next_offset,
                header.leader_epoch,
                header.crc,
                header.producer_id,
                header.base_sequence,
            )
        )
        partition.end = header.next_offset

    # --- the clients ------------------------------------------------------------------------------

    def on_send(self, batch: ProducedBatch) -> None:
        """A producer has made a batch."""
        self.sends += 1
        self.sent[batch.crc] = batch

    def on_acknowledged(self, batch: ProducedBatch, base_offset: int) -> None:
        """A producer was told that a batch is committed."""
        self.acknowledgements += 1
        partition = self._partitions[batch.partition]
        partition.acknowledged[batch.crc] = base_offset
        where = f"{self.topic}-{batch.partition}"
        if batch.crc not in partition.crcs and base_offset < partition.unread:
            return  # the other copies will show it
        if batch.crc not in partition.crcs:
            self._fail(f"{where}: {_brief(batch)} was acknowledged at {base_offset} uncommitted")
        if partition.crcs[batch.crc] != base_offset:
            self._fail(
                f"{where}: {_brief(batch)} was acknowledged at {base_offset}, but it is at "
                f"{partition.crcs[batch.crc]}"
            )

    def on_refused(self, batch: ProducedBatch, error: RaykafkaError) -> None:
        """A producer was told that a batch will never be taken."""
        self._fail(f"{self.topic}-{batch.partition}: {_brief(batch)} was refused: {error!r}")

    def committing_epoch(self, partition: int) -> int:
        """The newest epoch in which something was committed; a fetch takes note of it."""
        return self._partitions[partition].committing_epoch

    def on_fetched(
        self, partition: int, fetched: FetchedPartition, epoch: int, committing: int
    ) -> None:
        """An answer to a fetch for ``epoch``, sent when ``committing`` was the newest one."""
        if fetched.error_code:
            raise error_for(fetched.error_code, fetched.error_message)
        model = self._partitions[partition]
        if fetched.high_watermark > max(model.end, model.unread):
            self._fail(
                f"{self.topic}-{partition}: a reader is told of high watermark "
                f"{fetched.high_watermark}, {model.end} is committed"
            )
        if epoch < committing:
            self._fail(
                f"{self.topic}-{partition}: a reader is served by the leader of epoch {epoch}, "
                f"and that of epoch {committing} had committed something before it asked"
            )

    def on_read(self, consumer: int, partition: int, position: int, header: BatchHeader) -> None:
        """A consumer at ``position`` has read a batch."""
        self.reads += 1
        model = self._partitions[partition]
        where = f"consumer {consumer} at {self.topic}-{partition} offset {position}"
        if header.base_offset > position:
            self._fail(f"{where} is skipped to {header.base_offset}")
        if header.base_offset >= model.end:
            if header.base_offset < model.unread:
                return
            self._fail(f"{where} reads {header}, and {model.end} is committed")
        known = committed_at(model, header.base_offset)
        if known.crc != header.crc:
            self._fail(f"{where} reads {header} in the place of the committed {known}")

    def on_unreadable(self, partition: int, position: int, error: RaykafkaError) -> None:
        """A consumer was told that its position is outside of the log."""
        self._fail(f"{self.topic}-{partition}: offset {position} cannot be read: {error}")

    # --- the end ----------------------------------------------------------------------------------

    def check_acknowledged(self) -> None:
        """Every acknowledged batch is still where it was said to be."""
        for number, partition in enumerate(self._partitions):
            for crc, offset in partition.acknowledged.items():
                if partition.crcs.get(crc) != offset:
                    self._fail(f"{self.topic}-{number}: the batch acknowledged at {offset} is gone")

    def ends(self) -> list[int]:
        """End of the committed log, by partition."""
        return [partition.end for partition in self._partitions]

    def check_log(self, name: str, replica: Any, *, flipped: bool) -> None:
        """A replica in sync, once everything has healed: it has the whole committed log.

        Where a bit was ``flipped`` it may be one that nobody has read yet.
        """
        number, log = replica.partition.partition, replica.log
        partition = self._partitions[number]
        where = f"{name} {self.topic}-{number}"
        if log.log_end_offset < partition.end:
            self._fail(f"{where} ends at {log.log_end_offset}, {partition.end} is committed")
        try:
            headers = batches_between(log, replica.partition, log.log_start_offset, partition.end)
        except RaykafkaError as error:
            if not flipped:
                self._fail(f"{where} cannot be read: {error}")
            return
        for header in headers:
            known = committed_at(partition, header.base_offset)
            if (header.base_offset, header.leader_epoch, header.crc) != (
                known.base_offset,
                known.epoch,
                known.crc,
            ):
                self._fail(f"{where}: {header} is in the place of the committed {known}")

    def _fail(self, what: str) -> None:
        violation = f"at {self._world.now:.6f} s: {what}"
        self._world.violations.append(violation)
        raise Violation(violation)


def committed_at(partition: _Partition, offset: int) -> Committed:
    """The committed batch that holds ``offset``."""
    return partition.log[bisect_right(partition.starts, offset) - 1]


def batches_between(log: Any, partition: PartitionId, start: int, end: int) -> list[BatchHeader]:
    """The headers of a log's batches from ``start`` up to ``end``.

    Raises ``CorruptMessageError`` for one that is not as it was written: a log believes what its
    own process wrote, whatever has become of it on the disk.
    """
    found = []
    while start < end:
        for message in log.read(start, max_bytes=1 << 20, up_to=end):
            header = verify(message, partition)
            found.append(header)
            start = header.next_offset
    return found


def _brief(batch: ProducedBatch) -> str:
    return f"batch {batch.first} of producer {batch.producer}"
