from __future__ import annotations

import time

import pytest

from raykafka.clock import Clock, SystemClock
from raykafka.testing.manual_clock import ManualClock


def test_system_clock_tells_milliseconds() -> None:
    clock: Clock = SystemClock()
    before = int(time.time() * 1000)
    now = clock.now_ms()
    assert before <= now <= int(time.time() * 1000) + 1
    assert clock.monotonic_ms() <= clock.monotonic_ms()


def test_manual_clock_moves_only_by_hand() -> None:
    manual = ManualClock(now_ms=1000)
    clock: Clock = manual
    assert (clock.now_ms(), clock.monotonic_ms()) == (1000, 0)
    manual.advance(250)
    assert (clock.now_ms(), clock.monotonic_ms()) == (1250, 250)
    manual.set_now_ms(10)
    assert (clock.now_ms(), clock.monotonic_ms()) == (10, 250)
    with pytest.raises(ValueError, match="only advances"):
        manual.advance(-1)
