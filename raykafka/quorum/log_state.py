"""What the quorum machine knows of its replica's log: offsets, epochs and voters, no records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raykafka.errors import IllegalStateError
from raykafka.log.epochs import LeaderEpochCache
from raykafka.quorum.messages import EpochRun, OffsetAndEpoch
from raykafka.quorum.voters import Voter, VotersAt, VoterSet


class LogState:
    """A log from ``start`` (where the snapshot ends) to ``end_offset``."""

    __slots__ = ("_epochs", "_voters", "end_offset", "flushed_offset", "generation", "start")

    def __init__(
        self,
        start: OffsetAndEpoch,
        end_offset: int,
        epochs: Iterable[tuple[int, int]],
        voters: Iterable[VotersAt],
    ) -> None:
        """``voters`` are the sets in the snapshot and in the log, the oldest first; what the log
        holds is durable.
        """
        self.start = start
        self.end_offset = end_offset
        self.flushed_offset = end_offset
        self.generation = 0
        """How many times the log was cut or replaced; see ``Flushed``."""
        self._epochs = LeaderEpochCache(epochs)
        self._voters = list(voters) or [VotersAt(-1, VoterSet())]

    @property
    def last(self) -> OffsetAndEpoch:
        """The end and the epoch of the last record."""
        return OffsetAndEpoch(self.end_offset, self.epoch_before(self.end_offset))

    @property
    def voters(self) -> VotersAt:
        """The newest voters, committed or not: they count from the moment they are appended."""
        return self._voters[-1]

    @property
    def has_voters(self) -> bool:
        """Whether the log or its snapshot names the voters."""
        return self.voters.offset >= 0

    def move_voter(self, voter: Voter) -> None:
        """Note where a voter listens now; the next record with voters will say so."""
        offset, voters = self.voters
        if voters.holds(voter.key):
            self._voters[-1] = VotersAt(offset, voters.with_voter(voter))

    def voters_between(self, start: int, end: int) -> tuple[VotersAt, ...]:
        """Voter sets whose records stand from ``start`` to before ``end``."""
        return tuple(at for at in self._voters if start <= at.offset < end)

    def voters_at(self, end: int) -> VoterSet:
        """The voters that a log ending at ``end`` names."""
        return next(at.voters for at in reversed(self._voters) if at.offset < end)

    def epoch_before(self, offset: int) -> int:
        """Epoch of the record before ``offset``, which lies within the log."""
        if offset <= self.start.offset:
            return self.start.epoch
        return int(self._epochs.epoch_for(offset - 1))

    def runs(self, start: int, end: int) -> tuple[EpochRun, ...]:
        """The epochs of the records from ``start`` to before ``end``."""
        if start >= end:
            return ()
        first = EpochRun(int(self._epochs.epoch_for(start)), start)
        later = [EpochRun(*entry) for entry in self._epochs.entries]
        return (first, *(run for run in later if start < run.start_offset < end))

    def epoch_end(self, epoch: int) -> OffsetAndEpoch:
        """The newest epoch at or below ``epoch``, and where it ends."""
        last = self.last
        if epoch >= last.epoch:
            return last
        found = self._epochs.end_offset_for(epoch, self.end_offset)
        if found.epoch < 0 or self._epochs.epoch_for(found.end_offset - 1) != found.epoch:
            return self.start  # older than every record that is left
        return OffsetAndEpoch(found.end_offset, found.epoch)

    def is_matched(self, previous: OffsetAndEpoch) -> bool:
        """Whether the record before ``previous.offset`` is the same one here."""
        if previous.offset < self.start.offset:
            return True  # what a snapshot replaced was committed, so every leader has it
        if previous.offset > self.end_offset:
            return False
        return self.epoch_before(previous.offset) == previous.epoch

    def matched_end(self, runs: Sequence[EpochRun], end: int) -> int:
        """Up to where the records that ``runs`` describe are in this log already."""
        for run, run_end in zip(runs, _ends(runs, end), strict=True):
            start = max(run.start_offset, self.start.offset)
            if start >= run_end:
                continue
            if start >= self.end_offset or self._epochs.epoch_for(start) != run.epoch:
                return start
            here = self.epoch_end(run.epoch).offset
            if here < run_end:
                return here
        return end

    def append(self, runs: Sequence[EpochRun], end: int, voters: Iterable[VotersAt] = ()) -> None:
        """Records have been added; their first offset is the old end."""
        for run, run_end in zip(runs, _ends(runs, end), strict=True):
            if run_end > self.end_offset:
                self._epochs.assign(run.epoch, max(run.start_offset, self.end_offset))
        self._voters.extend(at for at in voters if at.offset >= self.end_offset)
        self.end_offset = end

    def truncate_to(self, end: int) -> None:
        """The log is cut; raises ``IllegalStateError`` where the snapshot would be."""
        self.forget(end)
        self.generation += 1

    def forget(self, end: int) -> None:
        """Records from ``end`` on were never written."""
        if end < self.start.offset:
            raise IllegalStateError(f"the log cannot be cut to {end}, it begins at {self.start}")
        self.end_offset = end
        self.flushed_offset = min(self.flushed_offset, end)
        self._epochs.truncate_to(end)
        kept = [at for at in self._voters if at.offset < end]
        self._voters = kept or [VotersAt(-1, VoterSet())]

    def start_at(self, snapshot: OffsetAndEpoch) -> None:
        """What is before the snapshot's end is gone."""
        self._epochs.truncate_before(snapshot.offset)
        if self.end_offset == snapshot.offset:
            self._epochs = LeaderEpochCache()
        self._voters = self._voters_from(snapshot.offset)
        self.start = snapshot

    def replace(self, snapshot: OffsetAndEpoch, voters: VoterSet) -> None:
        """The snapshot is all there is; it is not durable yet."""
        self.start = snapshot
        self.end_offset = snapshot.offset
        self.flushed_offset = 0
        self.generation += 1
        self._epochs = LeaderEpochCache()
        self._voters = [VotersAt(snapshot.offset - 1, voters)]

    def _voters_from(self, offset: int) -> list[VotersAt]:
        base = VotersAt(offset - 1, self.voters_at(offset))
        return [base, *(at for at in self._voters if at.offset >= offset)]


def _ends(runs: Sequence[EpochRun], end: int) -> list[int]:
    return [*(following.start_offset for following in runs[1:]), end] if runs else []
