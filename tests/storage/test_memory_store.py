"""The twin that forgets what was not synced, and fails when told."""

from __future__ import annotations

import pytest

from raykafka.errors import DiskFullError, KafkaStorageError
from raykafka.testing.memory_store import MemoryStore


def test_a_power_cut_takes_what_was_not_synced() -> None:
    store = MemoryStore()
    store.append("t-0/synced", b"123")
    store.flush("t-0/synced")
    store.append("t-0/synced", b"45")
    store.append("t-0/never", b"1")
    store.publish("t-0/published", b"old")
    store.publish("t-0/published", b"new", durable=False)
    store.publish("t-0/fresh", b"x", durable=False)
    store.drop_unsynced()
    assert store.list("") == ["t-0/published", "t-0/synced"]
    assert bytes(store.read("t-0/synced", 0, 3)) == b"123"
    assert store.size("t-0/synced") == 3
    assert bytes(store.read("t-0/published", 0, 3)) == b"old"


def test_some_of_it_may_have_been_written_back() -> None:
    store = MemoryStore()
    store.append("t-0/a", b"123")
    store.flush("t-0/a")
    store.append("t-0/a", b"4567")
    store.append("t-0/b", b"89")
    store.drop_unsynced(lambda path, size: size // 2)
    assert bytes(store.read("t-0/a", 0, store.size("t-0/a"))) == b"12345"
    assert bytes(store.read("t-0/b", 0, store.size("t-0/b"))) == b"8"
    store.drop_unsynced()
    assert store.size("t-0/a") == 5, "what survived one cut survives the next"


def test_failures_on_command_come_once_each() -> None:
    store = MemoryStore()
    store.fail_next("append", KafkaStorageError("first"))
    store.fail_next("append", KafkaStorageError("second"))
    for expected in ("first", "second"):
        with pytest.raises(KafkaStorageError, match=expected):
            store.append("t-0/a", b"1")
    assert store.append("t-0/a", b"1") == 1
    assert store.calls["append"] == 3


def test_a_disk_that_fills_up() -> None:
    store = MemoryStore(capacity_bytes=10)
    store.append("t-0/a", b"x" * 8)
    for write in (store.append, store.publish):
        with pytest.raises(DiskFullError):
            write("t-0/b", b"xyz")
    assert store.list("") == ["t-0/a"]
    assert store.append("t-0/a", b"xy") == 10
    store.delete("t-0/a")
    store.publish("t-0/b", b"xyz")


def test_bits_that_flip() -> None:
    store = MemoryStore()
    store.append("t-0/a", b"abc")
    before = store.read("t-0/a", 0, 3)
    store.corrupt("t-0/a", 1, 0x20)
    assert bytes(store.read("t-0/a", 0, 3)) == b"aBc"
    assert bytes(before) == b"abc"
