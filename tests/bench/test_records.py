"""A run that lost, doubled, reordered or changed a record must be void."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from bench.measuring.records import HEAD_BYTES, KEYS, Records, heads
from bench.measuring.verification import Taken, VoidRunError, verify, verify_ends

RECORDS = Records(5000, 100, producer=7, first=40)


def test_values_column_and_matrix_are_the_same_bytes() -> None:
    values = RECORDS.values()
    assert RECORDS.column().to_pylist() == values
    assert RECORDS.matrix().tobytes() == b"".join(values)
    assert {len(value) for value in values} == {100}
    assert len(set(values)) == 5000


def test_keys_go_round() -> None:
    keys = Records(2 * KEYS + 1, 100).keys()
    assert keys[0] == keys[KEYS] == keys[2 * KEYS]
    assert len(set(keys)) == KEYS


def test_a_stamped_record_differs_in_its_time_only() -> None:
    stamped = RECORDS.stamped(41, 123_456_789)
    plain = RECORDS.values()[1]
    head = heads(np.frombuffer(stamped, np.uint8).reshape(1, -1))
    assert head["sequence"].tolist() == [41]
    assert head["sent"].tolist() == [123_456_789]
    assert stamped[:12] == plain[:12]
    assert stamped[HEAD_BYTES:] == plain[HEAD_BYTES:]


def test_random_share_leaves_the_rest_compressible() -> None:
    half = Records(10, 1020, random_share=0.5).matrix()
    assert not half[:, HEAD_BYTES + 500 :].any()
    assert half[:, HEAD_BYTES : HEAD_BYTES + 500].any()


def test_a_record_is_large_enough_for_its_head() -> None:
    with pytest.raises(ValueError, match="at least 20 bytes"):
        Records(1, 19)


@pytest.mark.parametrize("columns", [False, True])
def test_what_was_sent_is_accepted(columns: bool) -> None:
    values = RECORDS.values()
    if columns:
        whole = RECORDS.column()
        parts = [whole.slice(0, 1000), whole.slice(1000, 0), whole.slice(1000)]
        assert verify([Taken(0, parts)], [RECORDS]) == 5000
    else:
        assert verify([Taken(0, values)], [RECORDS]) == 5000


def test_partitions_and_producers_may_mix_as_long_as_each_keeps_its_order() -> None:
    other = Records(3000, 100, producer=8)
    chance = random.Random(1)
    places: list[list[bytes]] = [[], [], []]
    queues = [RECORDS.values(), other.values()]
    while any(queues):
        queue = chance.choice([queue for queue in queues if queue])
        places[chance.randrange(3)].append(queue.pop(0))
    taken = [Taken(number, values) for number, values in enumerate(places)]
    assert verify(taken, [RECORDS, other]) == 8000


def lose(values: list[bytes]) -> None:
    del values[2500]


def double(values: list[bytes]) -> None:
    values.append(values[-1])


def double_far_away(values: list[bytes]) -> None:
    values.insert(0, values[2500])


def swap(values: list[bytes]) -> None:
    values[10], values[11] = values[11], values[10]


def change(values: list[bytes]) -> None:
    values[99] = values[99][:-1] + bytes([values[99][-1] ^ 1])


def shorten(values: list[bytes]) -> None:
    values[5] = values[5][:-1]


def invent(values: list[bytes]) -> None:
    values.append(Records(1, 100, producer=7, first=999_999).values()[0])


def stranger(values: list[bytes]) -> None:
    values.append(Records(1, 100, producer=9).values()[0])


@pytest.mark.parametrize(
    "harm", [lose, double, double_far_away, swap, change, shorten, invent, stranger]
)
def test_harm_makes_the_run_void(harm: object) -> None:
    values = RECORDS.values()
    assert callable(harm)
    harm(values)
    with pytest.raises(VoidRunError):
        verify([Taken(0, values)], [RECORDS])
    with pytest.raises(VoidRunError):
        verify([Taken(0, [pa.array(values, pa.binary())])], [RECORDS])


def test_harm_across_partitions_is_seen_too() -> None:
    values = RECORDS.values()
    with pytest.raises(VoidRunError, match="1 doubled"):
        verify([Taken(0, values), Taken(1, values[:1])], [RECORDS])
    with pytest.raises(VoidRunError, match="5000 of 5000 records lost"):
        verify([], [RECORDS])


def test_ends_must_add_up() -> None:
    verify_ends({0: 3, 1: 4}, 7)
    with pytest.raises(VoidRunError, match="the log holds 6"):
        verify_ends({0: 3, 1: 3}, 7)
