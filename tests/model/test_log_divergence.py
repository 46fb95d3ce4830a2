"""Followers that cut what their leader does not have, beside logs that are lists of records."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.log.epochs import LeaderEpochCache, find_divergence, truncation_offset

BROKERS = 3


@dataclass
class Copy:
    """One broker's log: the epoch of each record from ``start`` on."""

    start: int = 0
    epochs: list[int] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.start + len(self.epochs)

    @property
    def cache(self) -> LeaderEpochCache:
        cache = LeaderEpochCache()
        for offset, epoch in enumerate(self.epochs, self.start):
            cache.assign(epoch, offset)
        return cache

    def at(self, offset: int) -> int:
        return self.epochs[offset - self.start]

    def truncate_to(self, offset: int) -> None:
        if offset < self.start:
            self.start, self.epochs = offset, []
        del self.epochs[offset - self.start :]

    def copy_from(self, leader: Copy, count: int) -> None:
        if not leader.start <= self.end <= leader.end:
            self.start, self.epochs = leader.start, []
        first = self.end - leader.start
        self.epochs += leader.epochs[first : first + count]


def common_prefix(one: Copy, other: Copy) -> int:
    """End of what both have: an epoch has one writer, so that equal epochs mean equal records."""
    offset = max(one.start, other.start)
    while offset < min(one.end, other.end) and one.at(offset) == other.at(offset):
        offset += 1
    return offset


def reconcile(follower: Copy, leader: Copy) -> int:
    """What a follower does before it copies; returns how often it was cut."""
    rounds = 0
    while True:
        last_epoch = follower.epochs[-1] if follower.epochs else -1
        diverging = find_divergence(leader.cache, leader.end, last_epoch, follower.end)
        if diverging is None:
            return rounds
        shared = common_prefix(follower, leader)
        before = follower.end
        to = truncation_offset(follower.cache, follower.end, diverging)
        assert to < before, "a question that is answered with a divergence leads on"
        if shared > leader.start >= follower.start:
            assert to >= min(shared, before), "what both have in common stays"
        follower.truncate_to(to)
        rounds += 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("lead"), st.integers(0, BROKERS - 1), st.integers(0, 4)),
        st.tuples(st.just("append"), st.integers(0, BROKERS - 1), st.integers(1, 4)),
        st.tuples(st.just("copy"), st.integers(0, BROKERS - 1), st.integers(0, 6)),
        st.tuples(st.just("retain"), st.integers(0, BROKERS - 1), st.integers(0, 12)),
    ),
    max_size=30,
)


@settings(max_examples=500)
@given(steps)
def test_a_follower_keeps_what_it_has_in_common_with_its_leader(
    script: list[tuple[str, int, int]],
) -> None:
    """Any broker may come to lead, also one that has missed everything (unclean elections)."""
    copies = [Copy() for _ in range(BROKERS)]
    epoch = leader = 0
    for step, broker, count in script:
        copy = copies[broker]
        if step == "lead":
            epoch, leader = epoch + 1, broker
            copy.epochs += [epoch] * count  # perhaps nothing is written in this epoch
        elif step == "append":
            copies[leader].epochs += [epoch] * count
        elif step == "retain":
            dropped = min(count, len(copy.epochs))
            copy.start += dropped
            del copy.epochs[:dropped]
        elif broker != leader:
            epochs = len(set(copy.epochs))
            assert reconcile(copy, copies[leader]) <= epochs + 1
            assert_prefix(copy, copies[leader])
            copy.copy_from(copies[leader], count)
            assert_prefix(copy, copies[leader])


def assert_prefix(follower: Copy, leader: Copy) -> None:
    assert follower.end <= leader.end or not follower.epochs
    for offset in range(max(follower.start, leader.start), follower.end):
        assert follower.at(offset) == leader.at(offset)


@given(steps)
def test_clean_elections_never_cut_what_was_committed(script: list[tuple[str, int, int]]) -> None:
    """Only brokers that have all that is committed come to lead, as an ISR makes sure."""
    copies = [Copy() for _ in range(BROKERS)]
    epoch = leader = committed = 0
    for step, broker, count in script:
        copy = copies[broker]
        if step == "lead" and copy.end >= committed:
            epoch, leader = epoch + 1, broker
        if step in ("lead", "append"):
            copies[leader].epochs += [epoch] * count
        elif step == "copy" and broker != leader:
            reconcile(copy, copies[leader])
            copy.copy_from(copies[leader], count)
            in_line = [each for each in copies if common_prefix(each, copies[leader]) == each.end]
            if len(in_line) == BROKERS:
                committed = max(committed, min(each.end for each in copies))
        for each in copies:
            assert common_prefix(each, copies[leader]) >= min(committed, each.end)
            assert each.end >= committed
