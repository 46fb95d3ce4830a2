"""Which leader epoch wrote which part of the log (Kafka's ``LeaderEpochFileCache``, KIP-101).

A follower that comes back asks where the epoch of its last batch ended in the leader's log, and
cuts what it has beyond that point; the high watermark alone would not tell. It asks with every
request to copy (KIP-595): ``find_divergence`` is the leader's answer, ``truncation_offset`` what
the follower does with one, until there is none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from raykafka.model import NO_LEADER_EPOCH, LeaderEpoch

UNDEFINED_OFFSET = -1


class EpochEntry(NamedTuple):
    """A leader epoch and the first offset that it wrote."""

    epoch: int
    start_offset: int


class EpochEnd(NamedTuple):
    """The largest known epoch at or below the one asked for, and the offset behind its last record;
    both -1 where the log cannot tell.
    """

    epoch: int
    end_offset: int


class LeaderEpochCache:
    """Epochs in ascending order, each with a larger start offset than the one before."""

    __slots__ = ("_epochs", "_starts")

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []
        for epoch, start_offset in entries:
            self.assign(epoch, start_offset)

    @property
    def entries(self) -> list[EpochEntry]:
        """What ``__init__`` takes; to be kept in a checkpoint."""
        return [EpochEntry(*pair) for pair in zip(self._epochs, self._starts, strict=True)]

    @property
    def latest_epoch(self) -> LeaderEpoch:
        """-1 while nothing has been assigned."""
        return LeaderEpoch(self._epochs[-1]) if self._epochs else NO_LEADER_EPOCH

    def assign(self, epoch: int, start_offset: int) -> None:
        """Notes that ``epoch`` writes from ``start_offset`` on.

        Nothing happens where the epoch is the latest one already. Entries that contradict the new
        one (an epoch or a start offset that is not smaller) are removed, as in Kafka: they come
        from records that have been truncated. Raises ``ValueError`` for a negative epoch or offset.
        """
        if epoch < 0 or start_offset < 0:
            raise ValueError(f"epoch {epoch} cannot start at offset {start_offset}")
        if self._epochs and self._epochs[-1] == epoch and self._starts[-1] <= start_offset:
            return
        while self._epochs and (self._epochs[-1] >= epoch or self._starts[-1] >= start_offset):
            self._epochs.pop()
            self._starts.pop()
        self._epochs.append(epoch)
        self._starts.append(start_offset)

    def end_offset_for(self, epoch: int, log_end_offset: int) -> EpochEnd:
        """Where ``epoch`` ended, as Kafka's ``OffsetsForLeaderEpoch`` answers.

        For the latest epoch that is the log end offset; for one older than all known ones it is the
        first known start offset; for one newer than all it is undefined.
        """
        position = bisect_right(self._epochs, epoch)
        if position and self._epochs[position - 1] == epoch == self._epochs[-1]:
            return EpochEnd(epoch, log_end_offset)
        if epoch < 0 or position == len(self._epochs):
            return EpochEnd(NO_LEADER_EPOCH, UNDEFINED_OFFSET)
        if not position:
            return EpochEnd(epoch, self._starts[0])
        return EpochEnd(self._epochs[position - 1], self._starts[position])

    def epoch_for(self, offset: int) -> LeaderEpoch:
        """The epoch that wrote ``offset``; -1 where it lies before all entries."""
        position = bisect_right(self._starts, offset)
        return LeaderEpoch(self._epochs[position - 1]) if position else NO_LEADER_EPOCH

    def truncate_to(self, end_offset: int) -> None:
        """Forgets epochs that begin at or behind a new log end offset."""
        while self._starts and self._starts[-1] >= end_offset:
            self._epochs.pop()
            self._starts.pop()

    def truncate_before(self, start_offset: int) -> None:
        """Forgets epochs that end before a new log start offset; the one that holds it begins there
        from now on.
        """
        keep = bisect_right(self._starts, start_offset) - 1
        if keep >= 0:
            del self._epochs[:keep], self._starts[:keep]
            self._starts[0] = start_offset


def find_divergence(
    leader: LeaderEpochCache, log_end_offset: int, last_fetched_epoch: int, fetch_offset: int
) -> EpochEnd | None:
    """Whether a follower that ends at ``fetch_offset`` with a batch of ``last_fetched_epoch`` (-1:
    none) has what the leader's log, which ends at ``log_end_offset``, does not have.

    None where it can go on from there. Else the leader's largest epoch at or below the follower's,
    -1 for none, and where that ended (Kafka's ``divergingEpoch``). The follower may know an epoch
    above all of the leader's, which knows its own only once it has written in it: that is where
    this differs from ``end_offset_for``.
    """
    if last_fetched_epoch < 0 or leader.latest_epoch < 0:
        # One of the two is empty: only what lies behind the leader's end can be wrong.
        end = EpochEnd(NO_LEADER_EPOCH, log_end_offset)
        return end if fetch_offset > log_end_offset else None
    if last_fetched_epoch > leader.latest_epoch:
        return EpochEnd(leader.latest_epoch, log_end_offset)
    end = leader.end_offset_for(last_fetched_epoch, log_end_offset)
    if end.epoch == last_fetched_epoch and fetch_offset <= end.end_offset:
        return None
    return end


def truncation_offset(follower: LeaderEpochCache, log_end_offset: int, diverging: EpochEnd) -> int:
    """Where a follower that ends at ``log_end_offset`` is cut before it asks again (KIP-279).

    Never below what both logs have in common, and always before its end; so it asks once per epoch
    that it has, at most.
    """
    known = follower.end_offset_for(diverging.epoch, log_end_offset)
    if known.epoch < 0:
        return min(diverging.end_offset, log_end_offset)
    if known.epoch != diverging.epoch:
        return min(known.end_offset, log_end_offset)
    return min(known.end_offset, diverging.end_offset, log_end_offset)
