from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raykafka.txn.deadlines import Deadlines

KEYS = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 30)),
        st.tuples(st.just("cancel"), KEYS, st.just(0)),
        st.tuples(st.just("due"), st.just(""), st.integers(0, 5)),
    )
)


@given(STEPS)
def test_what_is_due_is_what_a_dictionary_says(steps: list[tuple[str, str, int]]) -> None:
    deadlines, model, now = Deadlines(), dict[str, int](), 0
    for kind, key, number in steps:
        if kind == "set":
            deadlines.set(key, now + number)
            model[key] = now + number
        elif kind == "cancel":
            deadlines.cancel(key)
            model.pop(key, None)
        else:
            now += number
            expected = {name for name, at in model.items() if at <= now}
            assert set(deadlines.due(now, 100)) == expected
            for name in expected:
                del model[name]
        assert len(deadlines) == len(model)


def test_no_more_than_asked_for_and_the_rest_later() -> None:
    deadlines = Deadlines()
    for number in range(5):
        deadlines.set(str(number), number)
    assert deadlines.due(10, 3) == ["0", "1", "2"]
    assert deadlines.due(10, 3) == ["3", "4"]
    assert deadlines.due(10, 3) == []


def test_a_key_that_is_set_again_and_again_stays_one_entry() -> None:
    deadlines = Deadlines()
    for now in range(10_000):
        deadlines.set("a", now + 60_000)
        deadlines.cancel("a")
    assert len(deadlines._heap) == 1
    deadlines.set("a", 70_000)
    assert deadlines.due(69_999, 10) == []
    assert deadlines.due(70_000, 10) == ["a"]
