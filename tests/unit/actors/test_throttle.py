"""How long catching up waits for its rate."""

from __future__ import annotations

from raykafka.actors.replicas.throttle import UNLIMITED, Throttle


def test_without_a_rate_nothing_waits() -> None:
    throttle = Throttle()
    assert throttle.take(1 << 40, 0) == 0
    throttle.rate = 10
    throttle.take(1000, 0)
    throttle.rate = UNLIMITED
    assert throttle.take(1 << 40, 0) == 0


def test_what_is_taken_is_paid_for_in_time() -> None:
    throttle = Throttle()
    throttle.rate = 1000
    assert throttle.take(500, 10_000) == 0.5
    assert throttle.take(500, 10_000) == 1.0
    assert throttle.take(500, 10_900) == 0.6


def test_time_that_was_not_used_is_not_saved() -> None:
    throttle = Throttle()
    throttle.rate = 1000
    throttle.take(1, 0)
    assert throttle.take(500, 1_000_000) == 0.5
