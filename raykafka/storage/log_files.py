"""The small files of one log: its checkpoint and the snapshots of its producers."""

from __future__ import annotations

from collections.abc import Sequence

from raykafka.errors import (
    CorruptMessageError,
    InconsistentTopicIdError,
    LogDamagedError,
)
from raykafka.log.producers import ProducerStates
from raykafka.model import PartitionId, TopicId
from raykafka.storage.api import SegmentStore
from raykafka.storage.checkpoints import (
    CHECKPOINT_FILE,
    Checkpoint,
    ProducerSnapshot,
    decode,
    encode,
    parse_snapshot_name,
    snapshot_name,
)
from raykafka.storage.segments import Segments

_SNAPSHOTS_KEPT = 2
_TEMPORARY = ".tmp"


class LogFiles:
    """Reads and writes what stands beside the segments in a log's directory."""

    __slots__ = (
        "_durable",
        "_store",
        "_topic",
        "_unsynced_snapshot",
        "_written",
        "directory",
        "high_watermark",
        "name",
        "partition",
    )

    def __init__(
        self, store: SegmentStore, directory: str, topic: str, partition: PartitionId
    ) -> None:
        self._store = store
        self.directory = directory
        self._topic = topic
        self.partition = partition
        self.name = f"{topic}-{partition.partition}"
        """What messages call the log."""
        self.high_watermark = 0
        """What the next checkpoint says of it."""
        self._written: Checkpoint | None = None
        self._durable = False
        self._unsynced_snapshot = ""

    def path(self, name: str) -> str:
        """Where a file of the log stands in the store."""
        return f"{self.directory}/{name}"

    def names(self) -> list[str]:
        """Names of all files; those of interrupted publications are deleted."""
        names = [path[len(self.directory) + 1 :] for path in self._store.list(self.path(""))]
        for name in names:
            if name.endswith(_TEMPORARY):
                self._store.delete(self.path(name))
        return [name for name in names if not name.endswith(_TEMPORARY)]

    def delete_all(self) -> None:
        """Delete every file; the checkpoint goes last, since it says whose the directory is."""
        for path in sorted(self._store.list(self.path("")), key=self._is_checkpoint):
            self._store.delete(path)

    # --- checkpoint -------------------------------------------------------------------------------

    def read_checkpoint(self) -> Checkpoint:
        """The checkpoint, which is there.

        Raises ``LogDamagedError``, ``UnsupportedVersionError``, or ``InconsistentTopicIdError``.
        """
        path = self.path(CHECKPOINT_FILE)
        checkpoint = decode(self._content(path), Checkpoint, path)
        found = PartitionId(TopicId(checkpoint.topic_id), checkpoint.partition)
        if found != self.partition:
            raise InconsistentTopicIdError(
                f"{self.directory} belongs to partition {found.partition} of topic id "
                f"{found.topic_id}, not to {self.partition.partition} of "
                f"{self.partition.topic_id}; move it out of the log directory"
            )
        self._written = checkpoint
        self.high_watermark = checkpoint.high_watermark
        return checkpoint

    def write_checkpoint(self, segments: Segments, flushed_offset: int, *, durable: bool) -> None:
        """Write how the log stands, unless the file says so already; raises ``DiskFullError``."""
        view, active = segments.view, segments.active
        self.write_marks(
            view.log_start_offset,
            flushed_offset,
            view.log_end_offset,
            active.base_offset,
            active.size_bytes > 0,
            durable=durable,
        )

    def write_marks(
        self,
        log_start_offset: int,
        flushed_offset: int,
        log_end_offset: int,
        active_base_offset: int,
        active_created: bool,
        *,
        durable: bool,
    ) -> None:
        """Write how the log is going to stand; see ``Checkpoint`` and ``write_checkpoint``."""
        checkpoint = Checkpoint(
            self._topic,
            self.partition.topic_id,
            self.partition.partition,
            log_start_offset,
            flushed_offset,
            log_end_offset,
            active_base_offset,
            active_created,
            min(self.high_watermark, log_end_offset),
        )
        if checkpoint == self._written and self._durable >= durable:
            return
        self._store.publish(self.path(CHECKPOINT_FILE), encode(checkpoint), durable=durable)
        self._written = checkpoint
        self._durable = durable

    def sync_directory(self) -> None:
        """Make deletions durable."""
        self._store.flush(self.path(CHECKPOINT_FILE))

    def delete_checkpoint(self) -> None:
        """Delete it; without one a log begins at its first segment."""
        self._written = None
        self._store.delete(self.path(CHECKPOINT_FILE))

    # --- producers --------------------------------------------------------------------------------

    def read_producers(
        self, names: Sequence[str], up_to: int, problems: list[str]
    ) -> tuple[int, ProducerStates]:
        """The newest good snapshot at or below offset ``up_to``, and that offset; -1 for none.

        What is wrong with newer ones is added to ``problems``. Those behind ``up_to`` are deleted:
        a power cut took the batches that they were made from.
        """
        offsets = [offset for offset in map(parse_snapshot_name, names) if offset is not None]
        for offset in sorted(offsets, reverse=True):
            path = self.path(snapshot_name(offset))
            if offset > up_to:
                self._store.delete(path)
                continue
            try:
                snapshot = decode(self._content(path), ProducerSnapshot, path)
                states = ProducerStates.from_plain(snapshot.producers, snapshot.transactions)
            except (LogDamagedError, CorruptMessageError) as error:
                problems.append(str(error))
                continue
            if (snapshot.topic_id, snapshot.partition) == tuple(self.partition):
                self._unsynced_snapshot = path
                return offset, states
        return -1, ProducerStates()

    def write_producers(self, offset: int, producers: ProducerStates) -> None:
        """Keep their state at ``offset``, and the snapshot before it in case of damage."""
        snapshot = ProducerSnapshot(
            offset,
            self.partition.topic_id,
            self.partition.partition,
            producers.to_plain(),
            producers.transactions.to_plain(),
        )
        path = self.path(snapshot_name(offset))
        self._store.publish(path, encode(snapshot), durable=False)
        self._unsynced_snapshot = path
        names = [path[len(self.directory) + 1 :] for path in self._store.list(self.path(""))]
        offsets = sorted(each for each in map(parse_snapshot_name, names) if each is not None)
        for old in offsets[:-_SNAPSHOTS_KEPT]:
            self._store.delete(self.path(snapshot_name(old)))

    def delete_producers(self, behind: int) -> None:
        """Delete the snapshots behind an offset: they tell of batches that are to go."""
        self._unsynced_snapshot = ""
        for path in self._store.list(self.path("")):
            offset = parse_snapshot_name(path[len(self.directory) + 1 :])
            if offset is not None and offset > behind:
                self._store.delete(path)

    def sync_producers(self) -> None:
        """Make the newest snapshot durable: before the batches go that it was made from."""
        if self._unsynced_snapshot:
            self._store.flush(self._unsynced_snapshot)
            self._unsynced_snapshot = ""

    def _is_checkpoint(self, path: str) -> bool:
        return path == self.path(CHECKPOINT_FILE)

    def _content(self, path: str) -> memoryview:
        return self._store.read(path, 0, self._store.size(path))
