"""Pauses per partition."""

from __future__ import annotations

from raykafka.client.cluster.retries import Retries
from raykafka.model import TopicPartition
from raykafka.testing.manual_clock import ManualClock

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def test_a_pause_grows_until_the_partition_works() -> None:
    clock = ManualClock()
    retries = Retries(clock, 10)
    lengths = []
    for _ in range(3):
        retries.pause(A)
        start = clock.monotonic_ms()
        while retries.waits(A):
            clock.advance(1)
        lengths.append(clock.monotonic_ms() - start)
    assert lengths == [10, 20, 40]
    retries.settled(A)
    retries.pause(A)
    clock.advance(10)
    assert not retries.waits(A)
    assert not retries.waits(B)


def test_it_is_due_when_the_first_pause_ends() -> None:
    clock = ManualClock()
    retries = Retries(clock, 10)
    assert (retries.due, retries.remaining_ms(500)) == (False, 500)
    retries.pause(A)
    retries.at(5)
    assert retries.remaining_ms(500) == 5
    assert retries.remaining_ms(3) == 3
    clock.advance(5)
    assert retries.due
    retries.start()
    assert not retries.due
    assert retries.waits(A)
    assert retries.remaining_ms(500) == 5
    clock.advance(7)
    assert (retries.due, retries.remaining_ms(500)) == (True, 0)
