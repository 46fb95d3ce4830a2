"""The reserve that stays free."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from raykafka.errors import DiskFullError, KafkaStorageError
from raykafka.storage.disk_guard import DiskGuard
from raykafka.testing.manual_clock import ManualClock


class Disk:
    def __init__(self, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = free
        self.looks = 0
        monkeypatch.setattr(os, "statvfs", self.statvfs)

    def statvfs(self, path: str) -> SimpleNamespace:
        self.looks += 1
        return SimpleNamespace(f_bavail=self.free, f_frsize=1)


def test_the_reserve_is_not_eaten_into(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(1000, monkeypatch)
    guard = DiskGuard("/logs", 900, clock=ManualClock())
    guard.check(100)
    with pytest.raises(DiskFullError, match=r"/logs has 100 bytes left.*disk\.reserve\.bytes"):
        guard.check(101)
    disk.free = 899
    with pytest.raises(DiskFullError, match="has 0 bytes left"):
        guard.check(1)
    disk.free = 2000
    guard.check(1100)


def test_it_looks_once_per_64_kib_or_100_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(1 << 30, monkeypatch)
    clock = ManualClock()
    guard = DiskGuard("/logs", 0, clock=clock)
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


def test_small_writes_cannot_creep_past_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(10_000, monkeypatch)
    guard = DiskGuard("/logs", 0, clock=ManualClock())
    for _ in range(100):
        guard.check(100)
        disk.free -= 100
    with pytest.raises(DiskFullError):
        guard.check(100)


def test_a_disk_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(KafkaStorageError, match="mounted"):
        DiskGuard(str(tmp_path / "gone"), 0).check(1)
