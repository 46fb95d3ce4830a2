from __future__ import annotations

import pytest

from raykafka.log.epochs import EpochEnd, EpochEntry, LeaderEpochCache


def test_an_empty_cache_knows_nothing() -> None:
    cache = LeaderEpochCache()
    assert cache.latest_epoch == -1
    assert cache.entries == []
    assert cache.epoch_for(0) == -1
    assert cache.end_offset_for(0, 10) == EpochEnd(-1, -1)


# Cases of Kafka's LeaderEpochFileCacheTest.
def test_where_an_epoch_ended() -> None:
    cache = LeaderEpochCache([(2, 10), (4, 20), (5, 30)])
    assert cache.end_offset_for(5, 44) == (5, 44)
    assert cache.end_offset_for(4, 44) == (4, 30)
    assert cache.end_offset_for(3, 44) == (2, 20)
    assert cache.end_offset_for(1, 44) == (1, 10)
    assert cache.end_offset_for(6, 44) == (-1, -1)
    assert cache.end_offset_for(-1, 44) == (-1, -1)


def test_the_first_assignment_of_an_epoch_stands() -> None:
    cache = LeaderEpochCache([(2, 6)])
    cache.assign(2, 10)
    assert cache.entries == [EpochEntry(2, 6)]


def test_contradicting_entries_go() -> None:
    cache = LeaderEpochCache([(1, 0), (3, 10), (5, 20)])
    cache.assign(4, 15)
    assert cache.entries == [(1, 0), (3, 10), (4, 15)]
    cache.assign(6, 10)
    assert cache.entries == [(1, 0), (6, 10)]


def test_truncation() -> None:
    cache = LeaderEpochCache([(2, 6), (3, 8), (4, 11)])
    cache.truncate_to(11)
    assert cache.entries == [(2, 6), (3, 8)]
    cache.truncate_before(9)
    assert cache.entries == [(3, 9)]
    cache.truncate_before(5)
    assert cache.entries == [(3, 9)]
    cache.truncate_to(0)
    assert cache.entries == []


@pytest.mark.parametrize(("epoch", "offset"), [(-1, 0), (0, -1)])
def test_negative_values_are_refused(epoch: int, offset: int) -> None:
    with pytest.raises(ValueError, match="cannot start"):
        LeaderEpochCache().assign(epoch, offset)
