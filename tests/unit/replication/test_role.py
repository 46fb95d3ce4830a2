"""The table of roles is total, and every move outside it is refused."""

from __future__ import annotations

import pytest

from raykafka.errors import IllegalStateError
from raykafka.replication.role import TRANSITIONS, Role, check_transition


def test_every_role_has_a_row() -> None:
    assert set(TRANSITIONS) == set(Role)


@pytest.mark.parametrize("current", list(Role))
@pytest.mark.parametrize("following", list(Role))
def test_moves_follow_the_table(current: Role, following: Role) -> None:
    if following in TRANSITIONS[current]:
        check_transition(current, following)
    else:
        with pytest.raises(IllegalStateError, match=current.value):
            check_transition(current, following)
