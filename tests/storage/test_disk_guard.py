"""The reserve that stays free."""

from __future__ import annotations

from pathlib import Path

import pytest

from raykafka.errors import DiskFullError, KafkaStorageError
from raykafka.storage.disk_guard import DiskGuard
from raykafka.storage.disk_usage import DiskUsage
from raykafka.testing.manual_clock import ManualClock


class Disk:
    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0

    def usage(self, path: str) -> DiskUsage:
        self.looks += 1
        return DiskUsage(1 << 40, self.free)


def test_the_reserve_is_not_eaten_into() -> None:
    disk = Disk(1000)
    guard = DiskGuard("/logs", 900, clock=ManualClock(), usage_of=disk.usage)
    guard.check(100)
    with pytest.raises(DiskFullError, match=r"/logs has 100 bytes left.*disk\.reserve\.bytes"):
        guard.check(101)
    disk.free = 899
    with pytest.raises(DiskFullError, match="has 0 bytes left"):
        guard.check(1)
    disk.free = 2000
    guard.check(1100)


def test_it_looks_once_per_64_kib_or_100_ms() -> None:
    disk = Disk(1 << 30)
    clock = ManualClock()
    guard = DiskGuard("/logs", 0, clock=clock, usage_of=disk.usage)
    for _ in range(65):
        guard.check(1024)
    assert disk.looks == 1
    guard.check(1024)
    assert disk.looks == 2
    clock.advance(99)
    guard.check(1)
    assert disk.looks == 2
    clock.advance(1)
    guard.check(1)
    assert disk.looks == 3


def test_small_writes_cannot_creep_past_the_end() -> None:
    disk = Disk(10_000)
    guard = DiskGuard("/logs", 0, clock=ManualClock(), usage_of=disk.usage)
    for _ in range(100):
        guard.check(100)
        disk.free -= 100
    with pytest.raises(DiskFullError):
        guard.check(100)


def test_a_disk_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(KafkaStorageError, match="mounted"):
        DiskGuard(str(tmp_path / "gone"), 0).check(1)
