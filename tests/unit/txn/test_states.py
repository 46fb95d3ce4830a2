from __future__ import annotations

import pytest

from raykafka.txn.states import COMPLETED, DECIDED, IDLE, OPEN, TRANSITIONS, TransactionStatus

S = TransactionStatus


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == set(S)
    assert all(after <= set(S) for after in TRANSITIONS.values())


def test_every_state_but_the_last_is_of_one_kind() -> None:
    for status in S:
        kinds = [status in kind for kind in (OPEN, DECIDED, IDLE)]
        assert sum(kinds) == (0 if status is S.DEAD else 1), status


@pytest.mark.parametrize("status", sorted(DECIDED))
def test_a_decision_is_final(status: TransactionStatus) -> None:
    assert TRANSITIONS[status] == {COMPLETED[status]}
    assert COMPLETED[status].value == status.value.replace("Prepare", "Complete")


def test_nothing_comes_back_from_the_dead() -> None:
    assert not TRANSITIONS[S.DEAD]
    assert {before for before in S if S.DEAD in TRANSITIONS[before]} == IDLE


def test_every_state_can_be_reached() -> None:
    reached, new = {S.EMPTY}, {S.EMPTY}
    while new:
        new = {after for before in new for after in TRANSITIONS[before]} - reached
        reached |= new
    assert reached == set(S)
