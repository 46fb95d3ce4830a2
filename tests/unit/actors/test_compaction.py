"""The rewriting of a coordinator's log: nothing newer is ever overwritten by something older."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raykafka.actors.coordinating.compaction import SLICE_RECORDS, Compaction
from raykafka.actors.coordinating.machine import KeyedRecord

keys = st.sampled_from([f"k{n}".encode() for n in range(6)])
changes = st.lists(st.tuples(keys, st.one_of(st.none(), st.binary(max_size=2))), max_size=30)


def replayed(log: list[KeyedRecord]) -> dict[bytes, bytes]:
    state: dict[bytes, bytes] = {}
    for key, value in log:
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value
    return state


@given(before=changes, during=st.lists(changes, max_size=8), after=changes)
def test_what_is_left_says_the_same_as_the_whole_log(
    before: list[KeyedRecord], during: list[list[KeyedRecord]], after: list[KeyedRecord]
) -> None:
    compaction = Compaction(min_records=1)
    log: list[KeyedRecord] = []

    def append(records: list[KeyedRecord]) -> None:
        log.extend(records)
        compaction.on_appended(records)

    append(before)
    compaction.begin(list(replayed(log).items()), len(log))
    start = compaction.start_offset
    for records in during:
        append(records)
        log.extend(compaction.next_slice()[:SLICE_RECORDS])
    while part := compaction.next_slice():
        log.extend(part)
    compaction.end()
    append(after)
    assert replayed(log[start:]) == replayed(log)


def test_a_log_is_rewritten_when_most_of_it_is_old() -> None:
    compaction = Compaction(min_records=10)
    records = [(b"k", b"v")] * 9
    compaction.on_appended(records)
    assert not compaction.is_due
    compaction.on_appended(records)
    assert compaction.is_due
    compaction.begin([(bytes([n]), b"v") for n in range(20)], 18)
    assert not compaction.is_due
    assert compaction.is_running
    compaction.end()
    compaction.on_appended(records * 4)
    assert not compaction.is_due, "twenty are kept: twenty old ones are not worth it"
    compaction.on_appended(records)
    assert compaction.is_due
    compaction.restart(30)
    assert compaction.is_due, "how many of them are old is not known after a replay"
