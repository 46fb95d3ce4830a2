"""What only a directory can do: fill up, run out of descriptors, be mapped by others."""

from __future__ import annotations

import errno
import gc
import os
import resource
import threading
from pathlib import Path

import pytest

from raykafka.errors import DiskFullError, KafkaStorageError
from raykafka.storage.api import MappableStore, MissingFileError
from raykafka.storage.local_store import LocalStore


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size", [1000, 200_000])
def test_appending_to_an_open_file_needs_no_descriptor(tmp_path: Path, size: int) -> None:
    store = LocalStore(str(tmp_path))
    store.append("t-0/a", b"1" * size)
    held = list[int]()

    def use_up() -> None:
        while True:
            held.append(os.dup(0))

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            use_up()
        store.append("t-0/a", b"2" * size)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert store.size("t-0/a") == 2 * size
    store.close()


class TestFullDisk:
    def test_a_partial_write_is_cut_back(self, small_disk: Path) -> None:
        store = LocalStore(str(small_disk))
        store.append("t-0/a", b"x" * 900_000)
        with pytest.raises(DiskFullError, match="Free space"):
            store.append("t-0/a", b"y" * 300_000)
        assert store.size("t-0/a") == os.path.getsize(small_disk / "t-0/a") == 900_000
        assert store.append("t-0/a", b"z" * 1000) == 901_000
        assert bytes(store.read("t-0/a", 899_999, 2)) == b"xz"

    def test_publish_leaves_the_old_content_and_no_rubbish(self, small_disk: Path) -> None:
        store = LocalStore(str(small_disk))
        store.publish("t-0/a", b"old")
        with pytest.raises(DiskFullError):
            store.publish("t-0/a", b"y" * 2_000_000)
        assert bytes(store.read("t-0/a", 0, 3)) == b"old"
        assert store.list("") == ["t-0/a"]

    def test_deleting_makes_room(self, small_disk: Path) -> None:
        store = LocalStore(str(small_disk))
        store.append("t-0/a", b"x" * 600_000)
        held = store.read("t-0/a", 0, 10)
        with pytest.raises(DiskFullError):
            store.append("t-0/b", b"x" * 1_100_000)
        del held
        store.delete("t-0/a")
        assert store.append("t-0/b", b"x" * 600_000) == 600_000


class TestDescriptors:
    def test_few_files_stay_open(self, tmp_path: Path) -> None:
        store = LocalStore(str(tmp_path), max_open_files=4, max_mappings=4)
        before = open_descriptors()
        for round_ in range(1, 4):
            for number in range(20):
                assert store.append(f"t-{number}/a", b"123") == 3 * round_
                assert bytes(store.read(f"t-{number}/a", 3 * round_ - 3, 3)) == b"123"
        assert open_descriptors() <= before + 4
        store.close()
        assert open_descriptors() == before

    def test_when_the_process_has_none_left_half_are_given_back(self, tmp_path: Path) -> None:
        store = LocalStore(str(tmp_path), max_open_files=1000)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + 20, before[1]))
        try:
            for number in range(100):
                store.append(f"t-{number}/a", b"1")
            assert store.append("t-0/a", b"2") == 2
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            store.close()

    def test_a_store_that_is_dropped_gives_them_back(self, tmp_path: Path) -> None:
        gc.collect()  # what other tests have dropped
        before = open_descriptors()
        store = LocalStore(str(tmp_path))
        for number in range(10):
            store.append(f"t-{number}/a", b"1")
        del store
        gc.collect()
        assert open_descriptors() == before

    def test_an_open_mapping_needs_no_descriptor(self, local_store: LocalStore) -> None:
        for number in range(50):
            local_store.publish(f"t-{number}/a", b"1")
        before = open_descriptors()
        held = [local_store.read(f"t-{number}/a", 0, 1) for number in range(50)]
        assert open_descriptors() == before
        assert all(bytes(slice_) == b"1" for slice_ in held)


class TestFlush:
    def test_a_failed_fsync_says_what_it_means(
        self, local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        local_store.append("t-0/a", b"1")
        monkeypatch.setattr(os, "fdatasync", fail)
        with pytest.raises(KafkaStorageError, match="may be lost"):
            local_store.flush("t-0/a")

    def test_new_directories_are_synced_once(
        self, local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []
        real = os.fsync

        def record(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", record)
        local_store.append("t-0/a", b"1")
        local_store.flush("t-0/a")
        root = local_store.root
        assert set(synced) >= {f"{root}/t-0", root, os.path.dirname(root)}
        synced.clear()
        local_store.append("t-0/a", b"1")
        local_store.flush("t-0/a")
        assert synced == []
        local_store.append("t-0/b", b"1")
        local_store.flush("t-0/b")
        assert synced == [f"{root}/t-0"]

    def test_flushing_beside_appends_to_more_files_than_stay_open(self, tmp_path: Path) -> None:
        store = LocalStore(str(tmp_path), max_open_files=2)
        for number in range(6):
            store.append(f"t-{number}/a", b"0")
        failures: list[Exception] = []
        stop = threading.Event()

        def flush() -> None:
            try:
                while not stop.is_set():
                    for number in range(6):
                        store.flush(f"t-{number}/a")
            except KafkaStorageError as error:
                failures.append(error)

        thread = threading.Thread(target=flush)
        thread.start()
        for _ in range(300):
            for number in range(6):
                store.append(f"t-{number}/a", b"%d" % number * 7)
        stop.set()
        thread.join()
        assert failures == []
        for number in range(6):
            expected = b"0" + b"%d" % number * 7 * 300
            assert bytes(store.read(f"t-{number}/a", 0, len(expected))) == expected


class TestTampering:
    def test_a_file_that_was_cut_or_written_by_others(self, local_store: LocalStore) -> None:
        for path, change in (("t-0/cut", -1), ("t-0/longer", 1)):
            local_store.append(path, b"12345")
            os.truncate(f"{local_store.root}/{path}", 5 + change)
            with pytest.raises(KafkaStorageError, match="somebody else"):
                local_store.append(path, b"6")

    def test_a_file_that_was_deleted_while_it_was_open(self, local_store: LocalStore) -> None:
        local_store.append("t-0/a", b"12345")
        os.unlink(f"{local_store.root}/t-0/a")
        with pytest.raises(MissingFileError, match="t-0/a"):
            local_store.flush("t-0/a")
        with pytest.raises(MissingFileError, match="t-0/a"):
            local_store.append("t-0/a", b"6")


def test_other_processes_find_the_same_file(local_store: LocalStore) -> None:
    local_store.append("t-0/a", b"123")
    assert isinstance(local_store, MappableStore)
    file = local_store.local_file("t-0/a")
    status = os.stat(file.path)
    assert (status.st_dev, status.st_ino) == (file.device, file.inode)


def test_a_file_where_a_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "t-0").write_text("not a directory")
    store = LocalStore(str(tmp_path))
    with pytest.raises(KafkaStorageError, match="t-0"):
        store.append("t-0/a", b"1")
    assert store.list("t-0/") == []


def test_an_empty_directory_disappears(local_store: LocalStore) -> None:
    local_store.append("t-0/a", b"1")
    local_store.append("t-0/b", b"1")
    local_store.delete("t-0/a")
    assert os.path.isdir(f"{local_store.root}/t-0")
    local_store.delete("t-0/b")
    assert not os.path.exists(f"{local_store.root}/t-0")
    assert os.path.isdir(local_store.root)


def test_bytes_that_are_not_in_memory_are_loaded(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    size = 4 << 20
    store.append("a/b", os.urandom(size))
    store.flush("a/b")
    assert store.is_cached("a/b", 0, size)
    descriptor = os.open(tmp_path / "a" / "b", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    if store.is_cached("a/b", 0, size):
        pytest.skip("this file system does not let go of its pages")
    store.load("a/b", 4096, 1 << 20)
    assert store.is_cached("a/b", 4096, 1 << 20)
    store.load("a/b", 0, size)
    assert store.is_cached("a/b", 1, size - 1)
    store.close()
