"""The leader-epoch cache against one list entry per offset."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from raykafka.log.epochs import EpochEnd, LeaderEpochCache


class SlowLog:
    """The epoch of each offset, one by one."""

    def __init__(self) -> None:
        self.start = 0
        self.epochs: list[int] = []

    @property
    def end(self) -> int:
        return self.start + len(self.epochs)

    def end_offset_for(self, epoch: int) -> EpochEnd:
        """Kafka's rule, spelled out over single offsets."""
        if not self.epochs or epoch > self.epochs[-1] or epoch < 0:
            return EpochEnd(-1, -1)
        if epoch == self.epochs[-1]:
            return EpochEnd(epoch, self.end)
        known = [e for e in self.epochs if e <= epoch]
        first_above = next(i for i, e in enumerate(self.epochs) if e > epoch)
        return EpochEnd(known[-1] if known else epoch, self.start + first_above)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("truncate_to"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("truncate_before"), st.integers(0, 30), st.just(0)),
    ),
    max_size=25,
)


@given(steps, st.integers(-1, 12))
def test_against_one_entry_per_offset(script: list[tuple[str, int, int]], asked: int) -> None:
    cache, log, epoch = LeaderEpochCache(), SlowLog(), 0
    for step, value, count in script:
        if step == "append":
            epoch += value
            cache.assign(epoch, log.end)
            log.epochs += [epoch] * count
        elif step == "truncate_to":
            end = max(log.start, min(value, log.end))
            cache.truncate_to(end)
            del log.epochs[end - log.start :]
        elif log.epochs:
            start = max(log.start, min(value, log.end - 1))
            cache.truncate_before(start)
            del log.epochs[: start - log.start]
            log.start = start

        entries = cache.entries
        assert [e.epoch for e in entries] == sorted(set(log.epochs))
        for entry in entries:
            first = log.start + log.epochs.index(entry.epoch)
            assert entry.start_offset == first or (first == log.start)
        assert cache.latest_epoch == (log.epochs[-1] if log.epochs else -1)
        for offset, written_by in enumerate(log.epochs, log.start):
            assert cache.epoch_for(offset) == written_by
        assert cache.end_offset_for(asked, log.end) == log.end_offset_for(asked)
        assert LeaderEpochCache(entries).entries == entries


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 20)), max_size=20))
def test_any_assignment_leaves_ascending_entries(pairs: list[tuple[int, int]]) -> None:
    cache = LeaderEpochCache()
    for epoch, start in pairs:
        cache.assign(epoch, start)
        entries = cache.entries
        assert entries[-1].epoch == epoch
        assert entries[-1].start_offset <= start
        for before, after in pairwise(entries):
            assert before.epoch < after.epoch
            assert before.start_offset < after.start_offset
