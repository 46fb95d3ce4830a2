"""Deadlines against a plain dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raykafka.group.deadlines import Deadlines

STEPS = st.lists(
    st.tuples(st.sampled_from(["renew", "drop", "pass"]), st.integers(0, 4), st.integers(0, 50))
)


@given(STEPS)
def test_what_passes_is_what_a_dictionary_says(steps: list[tuple[str, int, int]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    plain: dict[int, int] = {}
    now = 0
    for step, key, number in steps:
        if step == "renew":
            deadlines.renew(key, now + number)
            plain[key] = now + number
        elif step == "drop":
            deadlines.drop(key)
            plain.pop(key, None)
        else:
            now += number
            passed = sorted(name for name, deadline in plain.items() if deadline <= now)
            assert sorted(deadlines.passed(now, 100)) == passed
            for name in passed:
                del plain[name]
        assert len(deadlines) == len(plain)
        assert all(name in deadlines for name in plain)


def test_renewing_leaves_one_entry_however_often() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for now in range(1000):
        deadlines.renew("a", now + 100)
        assert deadlines.passed(now, 10) == []
        if now % 7 == 0:
            deadlines.drop("a")
    assert len(deadlines._heap) == 1


def test_a_limit_leaves_the_rest_for_later() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key in range(5):
        deadlines.renew(key, key)
    assert deadlines.passed(10, 3) == [0, 1, 2]
    assert deadlines.passed(10, 3) == [3, 4]
