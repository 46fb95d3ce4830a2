"""The log under a replica of a quorum, as its node and its machine need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from raykafka.actors.quorum.files import QuorumState, Snapshot
from raykafka.errors import LogDamagedError
from raykafka.quorum.log_state import LogState
from raykafka.quorum.messages import OffsetAndEpoch
from raykafka.quorum.voters import Voter, VotersAt, VoterSet


class LogBatch(NamedTuple):
    """Records that were written together."""

    offset: int
    epoch: int
    records: list[bytes]
    is_control: bool = False
    """Whether this is an encoded ``VoterSet``, which no service sees."""

    @property
    def end_offset(self) -> int:
        """Behind the last record."""
        return self.offset + len(self.records)


class MachineLog(Protocol):
    """Records, the vote and the newest snapshot; blocking, used by one thread at a time."""

    state: QuorumState | None
    """What this replica has voted; None where it never has."""
    snapshot: Snapshot | None
    """The newest snapshot, None where the log has its beginning."""

    @property
    def start(self) -> OffsetAndEpoch:
        """Where the snapshot ends and the log begins."""

    @property
    def end_offset(self) -> int:
        """Offset of the next record."""

    @property
    def epochs(self) -> Sequence[tuple[int, int]]:
        """Epochs in the log, and where they begin."""

    def replay(self, start: int, end: int) -> Iterator[LogBatch]:
        """The log from ``start`` to before ``end``, as it was written; ``LogDamagedError``."""

    def append(self, records: Sequence[bytes], epoch: int, now_ms: int) -> None:
        """Write all of ``records`` as one batch or, raising, none."""

    def append_voters(self, voters: VoterSet, epoch: int, now_ms: int) -> None:
        """Write a control batch."""

    def read(self, start: int, max_bytes: int, end: int) -> tuple[bytes, int]:
        """Whole batches as they stand in the log, at least one, and where they end."""

    def check(self, data: bytes, start: int, end: int) -> None:
        """Raise ``CorruptMessageError`` unless ``data`` is what ``read`` gives from there to there.

        May be called in any thread.
        """

    def append_fetched(self, data: bytes, start: int, now_ms: int) -> None:
        """Write what ``read`` gave another replica, from ``start`` on: the log's end."""

    def truncate_to(self, end: int) -> None:
        """Cut the log where a batch ends."""

    def save_state(self, state: QuorumState) -> None:
        """Make the vote durable."""

    def save_snapshot(self, snapshot: Snapshot, now_ms: int) -> None:
        """Make a snapshot of what the log says durable, and delete what it stands for."""

    def install_snapshot(self, snapshot: Snapshot) -> None:
        """Make a snapshot durable that stands in the place of the whole log."""

    def flush(self) -> None:
        """Make everything appended durable."""

    def close(self) -> None:
        """Close cleanly."""


def encode_voters(voters: VoterSet) -> bytes:
    """The record of a control batch."""
    return msgspec.msgpack.encode(voters)


def decode_voters(data: bytes) -> VoterSet:
    """The reverse of ``encode_voters``."""
    return msgspec.msgpack.decode(data, type=VoterSet)


def initial_state(
    log: MachineLog, replica_id: int, may_found: bool, new_directory_id: Callable[[], str]
) -> tuple[QuorumState, LogState]:
    """What the disk says at the start, and who votes. A new disk gets its identity.

    An empty log that may not found a quorum belongs to an observer. Raises ``LogDamagedError`` for
    a log whose vote is gone: it could be given twice.
    """
    voters = [] if log.snapshot is None else [_voters_of(log.snapshot)]
    voters += [
        VotersAt(batch.offset, decode_voters(batch.records[0]))
        for batch in log.replay(log.start.offset, log.end_offset)
        if batch.is_control
    ]
    state = log.state
    if state is None:
        if voters:
            raise LogDamagedError(
                "the log is there, but not the file that says what this replica has voted; restore"
                " it, or, while a majority of the other voters lives, remove the whole directory:"
                " they fill it again"
            )
        founds = may_found or log.end_offset > 0  # a log without voters is older than quorums are
        state = QuorumState(new_directory_id(), founding=founds)
        log.save_state(state)
    if not voters and state.founding:
        voters = [VotersAt(-1, VoterSet((Voter(replica_id, state.directory_id),)))]
    log.flush()
    return state, LogState(log.start, log.end_offset, log.epochs, voters)


def _voters_of(snapshot: Snapshot) -> VotersAt:
    return VotersAt(snapshot.last.offset - 1, snapshot.voters)
