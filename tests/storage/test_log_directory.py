"""Who may write in a log directory."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raykafka.errors import (
    InconsistentClusterIdError,
    KafkaStorageError,
    LogDamagedError,
    LogDirLockedError,
    UnsupportedVersionError,
)
from raykafka.storage.log_directory import LogDirectory

OWNER = """
import sys
from raykafka.storage.log_directory import LogDirectory
LogDirectory(sys.argv[1]).lock()
print("locked", flush=True)
sys.stdin.read()
"""


class TestLock:
    def test_a_second_owner_is_told_who_the_first_one_is(self, tmp_path: Path) -> None:
        first = LogDirectory(str(tmp_path / "logs"))
        first.lock()
        first.lock()
        second = LogDirectory(str(tmp_path / "logs"))
        with pytest.raises(LogDirLockedError, match=f"process {os.getpid()} "):
            second.lock()
        first.unlock()
        second.lock()
        second.unlock()

    def test_an_owner_that_dies_leaves_no_lock(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", OWNER, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"locked\n"
            directory = LogDirectory(str(tmp_path))
            with pytest.raises(LogDirLockedError, match=f"process {owner.pid} "):
                directory.lock()
            owner.kill()
            owner.wait()
        directory.lock()
        assert not directory.clean_shutdown
        directory.unlock()

    def test_slots_do_not_exclude_each_other(self, tmp_path: Path) -> None:
        owners = [LogDirectory(str(tmp_path), slot=slot) for slot in (None, 0, 1)]
        for owner in owners:
            owner.lock()
        with pytest.raises(LogDirLockedError):
            LogDirectory(str(tmp_path), slot=1).lock()
        for owner in owners:
            owner.unlock()

    def test_a_place_that_cannot_be_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(KafkaStorageError, match="log directory"):
            LogDirectory(str(tmp_path / "file" / "logs")).lock()


class TestCleanShutdown:
    def test_the_marker_counts_once(self, tmp_path: Path) -> None:
        directory = LogDirectory(str(tmp_path), slot=0)
        seen = []
        for clean in (False, True, False, False):
            directory.lock()
            seen.append(directory.clean_shutdown)
            directory.unlock(clean=clean)
        assert seen == [False, False, True, False]


class TestIntact:
    """Whether what was written is still there after its writer ended, however it did."""

    @pytest.fixture
    def reboot(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        boots = itertools.count(1)

        def next_boot() -> None:
            name = f"boot-{next(boots)}"
            monkeypatch.setattr("raykafka.storage.log_directory.boot_id", lambda: name)

        next_boot()
        return next_boot

    def owners(self, path: Path) -> tuple[LogDirectory, LogDirectory]:
        return LogDirectory(str(path)), LogDirectory(str(path), slot=0)

    def test_a_killed_process_loses_nothing(
        self, tmp_path: Path, reboot: Callable[[], None]
    ) -> None:
        for _ in range(2):
            broker, slot = self.owners(tmp_path)
            broker.lock()
            assert broker.is_intact()
            slot.lock()
            for owner in (broker, slot):
                owner.unlock()

    @pytest.mark.parametrize("unclean", ["neither", "broker", "slot"])
    def test_a_machine_that_is_started_anew_may_have_lost_what_was_not_closed(
        self, tmp_path: Path, reboot: Callable[[], None], unclean: str
    ) -> None:
        broker, slot = self.owners(tmp_path)
        broker.lock()
        slot.lock()
        slot.unlock(clean=unclean != "slot")
        broker.unlock(clean=unclean != "broker")
        reboot()
        broker, _ = self.owners(tmp_path)
        broker.lock()
        assert broker.is_intact() is (unclean == "neither")
        broker.unlock()

    def test_where_nobody_knows_when_the_machine_was_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("raykafka.storage.log_directory.boot_id", lambda: "")
        for clean, intact in ((False, True), (True, False), (True, True)):
            directory = LogDirectory(str(tmp_path))
            directory.lock()
            assert directory.is_intact() is intact
            directory.unlock(clean=clean)


class TestClaim:
    def test_a_directory_keeps_its_identity_and_knows_its_last_broker(self, tmp_path: Path) -> None:
        directory = LogDirectory(str(tmp_path))
        directory.lock()
        found = directory.claim("cluster-a", 1, 4, "first")
        assert (found.directory_id, found.incarnation) == ("first", -1)
        found = directory.claim("cluster-a", 1, 5, "second")
        assert (found.directory_id, found.incarnation) == ("first", 4)
        directory.unlock()

    def test_a_directory_of_an_older_version_gets_an_identity(self, tmp_path: Path) -> None:
        older = {"format_version": 1, "cluster_id": "cluster-a", "broker_id": 1}
        (tmp_path / "meta.json").write_text(json.dumps(older))
        directory = LogDirectory(str(tmp_path))
        directory.lock()
        assert directory.claim("cluster-a", 1, 7, "made").directory_id == "made"
        assert json.loads((tmp_path / "meta.json").read_text())["directory_id"] == "made"
        directory.unlock()

    def test_a_directory_belongs_to_one_broker_of_one_cluster(self, tmp_path: Path) -> None:
        directory = LogDirectory(str(tmp_path))
        directory.lock()
        directory.claim("cluster-a", 1)
        directory.claim("cluster-a", 1)
        for cluster, broker in (("cluster-b", 1), ("cluster-a", 2)):
            before = (tmp_path / "meta.json").read_bytes()
            with pytest.raises(InconsistentClusterIdError, match="cluster-a"):
                directory.claim(cluster, broker)
            assert (tmp_path / "meta.json").read_bytes() == before
        directory.unlock()

    def test_a_later_format_is_left_alone(self, tmp_path: Path) -> None:
        later = {"format_version": 2, "identity": {"of": "another kind"}}
        (tmp_path / "meta.json").write_text(json.dumps(later))
        directory = LogDirectory(str(tmp_path))
        directory.lock()
        with pytest.raises(UnsupportedVersionError, match="upgrade"):
            directory.claim("cluster-a", 1)
        assert json.loads((tmp_path / "meta.json").read_text()) == later
        directory.unlock()

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cluster_id": "a"}', b"\xff\xfe"])
    def test_damaged_meta_data_are_not_overwritten(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "meta.json").write_bytes(content)
        directory = LogDirectory(str(tmp_path))
        directory.lock()
        with pytest.raises(LogDamagedError, match=r"meta\.json"):
            directory.claim("cluster-a", 1)
        assert (tmp_path / "meta.json").read_bytes() == content
        directory.unlock()
