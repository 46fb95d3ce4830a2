"""Schedules, the search for the highest rate, and how load is dealt out."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load.board import MAY_READ, STOP_READING, Board
from bench.load.pacing import NS, RateSearch, Schedule, is_sustained, shares


@given(st.floats(0.5, 1e6), st.integers(0, 10**6))
def test_a_send_is_ready_when_it_is_due_and_not_before(rate: float, number: int) -> None:
    schedule = Schedule(10**18, rate)
    due = schedule.due_ns(number)
    assert schedule.ready(due + 1) >= number + 1
    assert schedule.ready(due - 2) <= number


def test_nothing_is_ready_before_the_start() -> None:
    assert Schedule(1000, 10).ready(999) == 0
    assert Schedule(1000, 10).ready(1000) == 1


def test_workers_that_take_turns_are_evenly_spaced() -> None:
    schedules = [Schedule.of_worker(0, 1000, worker, 4) for worker in range(4)]
    due = sorted(schedule.due_ns(number) for schedule in schedules for number in range(5))
    assert due == [number * NS // 1000 for number in range(20)]


@pytest.mark.parametrize("capacity", [300.0, 9_000.0, 25_000.0, 170_000.0, 640_000.0])
def test_the_search_comes_close_to_what_a_system_bears(capacity: float) -> None:
    search = RateSearch(most_probes=20)
    while not search.done:
        search.tell(sustained=search.rate <= capacity, achieved=min(search.rate, capacity))
    assert 0.9 * capacity <= search.best <= capacity


def test_the_search_ends_when_nothing_is_borne() -> None:
    search = RateSearch()
    probes = 0
    while not search.done:
        search.tell(sustained=False, achieved=0)
        probes += 1
    assert probes == search.most_probes
    assert search.best == 0


def test_a_rate_is_sustained_when_little_is_late_or_unread() -> None:
    assert is_sustained(1000, 1000, 1000)
    assert not is_sustained(1000, 1001, 0)
    assert is_sustained(100_000, 10_000, 10_000)
    assert not is_sustained(100_000, 0, 10_001)


@given(st.integers(0, 10**9), st.integers(1, 100))
def test_shares_add_up_and_differ_by_one_at_most(total: int, parts: int) -> None:
    dealt = shares(total, parts)
    assert sum(dealt) == total
    assert max(dealt) - min(dealt) <= 1


def test_a_board_is_seen_by_all_who_have_it(tmp_path: Path) -> None:
    board = Board(tmp_path / "board", 2, 2)
    other: Board = pickle.loads(pickle.dumps(board))
    board.set_sent(1, 5)
    other.set_sent(0, 7)
    other.set_received(1, 3)
    other.raise_flag(MAY_READ)
    assert (board.sent(), board.received()) == (12, 3)
    assert board.is_raised(MAY_READ)
    assert not board.is_raised(STOP_READING)
    board.clear()
    assert (other.sent(), other.received(), other.is_raised(MAY_READ)) == (0, 0, False)
