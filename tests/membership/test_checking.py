"""Who owned what, and whether two did."""

from __future__ import annotations

from raykafka.testing.membership.checking import (
    FOREVER,
    Ownership,
    least_moves,
    moves,
    overlaps,
    ownerships,
)
from raykafka.testing.membership.worker import ASSIGNED, LEFT, LOST, REVOKED, Event


def test_what_a_member_was_told_becomes_intervals() -> None:
    events = [
        Event(ASSIGNED, 10, (0, 1)),
        Event(REVOKED, 20, (1,)),
        Event(ASSIGNED, 30, (2,)),
        Event(LOST, 40, (2,)),
        Event(LEFT, 50),
    ]
    assert sorted(ownerships({"a": events}, {})) == [
        Ownership("a", 0, 10, 50),
        Ownership("a", 1, 10, 20),
        Ownership("a", 2, 30, 40),
    ]
    still = ownerships({"a": events[:1]}, {})
    assert still == [Ownership("a", 0, 10, FOREVER), Ownership("a", 1, 10, FOREVER)]


def test_a_member_that_is_stopped_owns_nothing() -> None:
    owned = ownerships({"a": [Event(ASSIGNED, 10, (0,))]}, {"a": [(20, 30), (50, FOREVER)]})
    assert owned == [Ownership("a", 0, 10, 20), Ownership("a", 0, 30, 50)]


def test_two_owners_at_a_time_are_found() -> None:
    one_after_the_other = [Ownership("a", 0, 0, 10), Ownership("b", 0, 10, 20)]
    assert not overlaps(one_after_the_other)
    assert not overlaps([Ownership("a", 0, 0, 10), Ownership("b", 1, 5, 20)])
    within = [Ownership("a", 0, 0, 100), Ownership("b", 0, 10, 20), Ownership("c", 0, 50, 60)]
    assert len(overlaps(within)) == 2


def test_the_least_that_has_to_move() -> None:
    assert least_moves({"a": 6, "b": 6}, "abc", 12) == 4
    assert least_moves({"a": 4, "b": 4}, "ab", 12) == 0, "only what has no owner is given"
    assert least_moves({"a": 5, "b": 4}, "ab", 9) == 0
    assert least_moves({"a": 9}, "ab", 9) == 4
    before = {0: "a", 1: "a", 2: "b", 3: "gone"}
    assert moves(before, {0: "a", 1: "b", 2: "a", 3: "b"}) == 2
