"""What every store promises, checked on each of them."""

from __future__ import annotations

import pytest

from raykafka.errors import InvalidRequestError, KafkaStorageError
from raykafka.storage.api import MissingFileError, SegmentStore
from raykafka.storage.fsspec_store import FsspecStore


class TestWholeFiles:
    def test_what_is_published_is_read_back_by_range(self, store: SegmentStore) -> None:
        data = bytes(range(256)) * 100
        store.publish("t-0/a.arrow", data)
        assert store.size("t-0/a.arrow") == len(data)
        assert bytes(store.read("t-0/a.arrow", 0, len(data))) == data
        assert bytes(store.read("t-0/a.arrow", 1000, 17)) == data[1000:1017]
        assert bytes(store.read("t-0/a.arrow", len(data) - 3, 3)) == data[-3:]
        assert bytes(store.read("t-0/a.arrow", 5, 0)) == b""

    def test_publishing_again_replaces_the_whole(self, store: SegmentStore) -> None:
        store.publish("t-0/a", b"a long first version")
        before = store.read("t-0/a", 0, 6)
        store.publish("t-0/a", b"second", durable=False)
        assert store.size("t-0/a") == 6
        assert bytes(store.read("t-0/a", 0, 6)) == b"second"
        assert bytes(before) == b"a long", "a slice that is held keeps what it showed"

    def test_reading_past_the_end_is_an_error(self, store: SegmentStore) -> None:
        store.publish("t-0/a", b"12345")
        for start, length in ((0, 6), (3, 3), (5, 1), (9, 1), (-1, 2), (0, -1)):
            with pytest.raises(KafkaStorageError, match="t-0/a"):
                store.read("t-0/a", start, length)

    def test_a_missing_file_is_named(self, store: SegmentStore) -> None:
        store.publish("t-0/a", b"1")
        for call in (
            lambda: store.read("t-0/b", 0, 1),
            lambda: store.size("t-0/b"),
            lambda: store.delete("t-0/b"),
        ):
            with pytest.raises(MissingFileError, match="t-0/b"):
                call()

    def test_list_is_sorted_and_by_prefix(self, store: SegmentStore) -> None:
        for path in ("t-1/b", "t-1/a", "t-10/a", "t-0/x/y", "z"):
            store.publish(path, b"1")
        assert store.list("t-1/") == ["t-1/a", "t-1/b"]
        assert store.list("t-1") == ["t-1/a", "t-1/b", "t-10/a"]
        assert store.list("t-0/") == ["t-0/x/y"]
        assert store.list("") == ["t-0/x/y", "t-1/a", "t-1/b", "t-10/a", "z"]
        assert store.list("nothing/") == []

    def test_delete(self, store: SegmentStore) -> None:
        store.publish("t-0/a", b"1")
        store.publish("t-0/b", b"1")
        store.delete("t-0/a")
        assert store.list("") == ["t-0/b"]
        store.publish("t-0/a", b"22")
        assert bytes(store.read("t-0/a", 0, 2)) == b"22"

    def test_paths_do_not_leave_the_root(self, store: SegmentStore) -> None:
        for path in ("../a", "/etc/a", "a/../../b", "a//b", "a/./b", "a\0b", ""):
            with pytest.raises(InvalidRequestError):
                store.publish(path, b"1")

    def test_a_closed_store_may_be_used_again(self, store: SegmentStore) -> None:
        store.publish("t-0/a", b"123")
        kept = store.read("t-0/a", 0, 3)
        store.close()
        assert bytes(kept) == b"123"
        assert bytes(store.read("t-0/a", 0, 3)) == b"123"


class TestAppend:
    def test_append_creates_and_grows(self, log_store: SegmentStore) -> None:
        assert log_store.append("t-0/a", b"123") == 3
        assert log_store.append("t-0/a", bytearray(b"45")) == 5
        assert log_store.append("t-0/a", memoryview(b"67")) == 7
        assert log_store.size("t-0/a") == 7
        assert bytes(log_store.read("t-0/a", 2, 4)) == b"3456"

    def test_slices_stay_valid_while_the_file_grows(self, log_store: SegmentStore) -> None:
        slices = []
        for number in range(300):
            log_store.append("t-0/a", bytes([number % 256]) * 20_000)
            slices.append(log_store.read("t-0/a", number * 20_000, 20_000))
        for number, held in enumerate(slices):
            assert bytes(held) == bytes([number % 256]) * 20_000

    def test_truncate_then_append(self, log_store: SegmentStore) -> None:
        log_store.append("t-0/a", b"1234567")
        log_store.truncate("t-0/a", 3)
        assert log_store.size("t-0/a") == 3
        with pytest.raises(KafkaStorageError):
            log_store.read("t-0/a", 0, 4)
        assert log_store.append("t-0/a", b"xy") == 5
        assert bytes(log_store.read("t-0/a", 0, 5)) == b"123xy"

    def test_flush(self, log_store: SegmentStore) -> None:
        log_store.append("t-0/a", b"123")
        log_store.flush("t-0/a")
        with pytest.raises(MissingFileError):
            log_store.flush("t-0/b")
        assert log_store.list("") == ["t-0/a"], "flush creates nothing"

    def test_append_after_delete_begins_anew(self, log_store: SegmentStore) -> None:
        log_store.append("t-0/a", b"123")
        held = log_store.read("t-0/a", 0, 3)
        log_store.delete("t-0/a")
        assert log_store.append("t-0/a", b"4") == 1
        assert bytes(log_store.read("t-0/a", 0, 1)) == b"4"
        assert bytes(held) == b"123"


class TestObjectStores:
    @pytest.fixture(params=["fsspec-file", "s3"])
    def store(self, request: pytest.FixtureRequest, tmp_path: object) -> FsspecStore:
        if request.param == "s3":
            return request.getfixturevalue("s3_store")  # type: ignore[no-any-return]
        return FsspecStore(f"file://{tmp_path}/objects")

    def test_append_and_truncate_are_refused(self, store: FsspecStore) -> None:
        with pytest.raises(InvalidRequestError, match="publish"):
            store.append("t-0/a", b"1")
        with pytest.raises(InvalidRequestError):
            store.truncate("t-0/a", 0)
        assert store.list("") == []


def test_unknown_file_systems_are_refused_with_advice() -> None:
    with pytest.raises(KafkaStorageError, match="URL"):
        FsspecStore("nosuchprotocol://x/y")


def test_an_unreachable_object_store_is_a_storage_error() -> None:
    store = FsspecStore(
        "s3://bucket/logs",
        key="test",
        secret="test",
        client_kwargs={"endpoint_url": "http://127.0.0.1:9"},
        config_kwargs={"retries": {"max_attempts": 1}, "connect_timeout": 1},
    )
    with pytest.raises(KafkaStorageError):
        store.size("t-0/a")
