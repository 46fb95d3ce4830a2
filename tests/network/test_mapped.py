"""Mapped reads: the very file that the server meant, or a typed signal to ask for the bytes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from raykafka.errors import MappedReadError
from raykafka.network.mapped import MappedReader, host_id
from raykafka.protocol.messages import MappedSegment

DATA = bytes(range(256)) * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "00000000000000000000.arrow"
    file.write_bytes(DATA)
    return file


def place(path: Path) -> MappedSegment:
    found = path.stat()
    return MappedSegment(str(path), found.st_dev, found.st_ino)


def index(*places: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<QQ", *each) for each in places)


def test_batches_are_views_of_the_file(path: Path) -> None:
    reader = MappedReader()
    batches = reader.batches(place(path), index((8, 100), (108, 1), (len(DATA) - 5, 5)))
    assert list(batches) == [DATA[8:108], DATA[108:109], DATA[-5:]]
    assert all(batch.readonly for batch in batches)
    assert list(reader.batches(place(path), b"")) == []
    assert list(reader.batches(place(path), memoryview(index((0, 1))))) == [DATA[:1]]


def test_a_file_is_opened_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = MappedReader()
    reader.batches(place(path), index((0, 1)))
    monkeypatch.setattr(os, "open", None)
    assert list(reader.batches(place(path), index((1, 2)))) == [DATA[1:3]]


def test_a_growing_file_is_followed(path: Path) -> None:
    reader = MappedReader()
    size = len(DATA)
    for _ in range(6):
        assert reader.batches(place(path), index((size - 3, 3)))[0] == path.read_bytes()[-3:]
        with path.open("ab") as file:
            file.write(os.urandom(700_000))
        size += 700_000
    assert reader.batches(place(path), index((size - 3, 3)))[0] == path.read_bytes()[-3:]


def test_another_file_of_that_name(path: Path) -> None:
    meant = place(path)
    path.unlink()
    (path.parent / "other").write_bytes(DATA)
    (path.parent / "second").write_bytes(DATA)
    (path.parent / "second").rename(path)
    if path.stat().st_ino == meant.inode:  # the file system uses inode numbers again at once
        (path.parent / "other").rename(path)
    with pytest.raises(MappedReadError, match="another file here"):
        MappedReader().batches(meant, index((0, 1)))


@pytest.mark.parametrize("field", ["device", "inode"])
def test_identity_mismatch(path: Path, field: str) -> None:
    found = place(path)
    values = {"path": found.path, "device": found.device, "inode": found.inode}
    values[field] = 12345  # type: ignore[assignment]
    with pytest.raises(MappedReadError, match="another file here"):
        MappedReader().batches(MappedSegment(**values), index((0, 1)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        index((len(DATA), 1)),
        index((0, len(DATA) + 1)),
        index((2**64 - 1, 1)),
        index((0, 2**64 - 1)),
        index((0, 1), (2**63, 2**63)),
        b"123",
        index((0, 1))[:-1],
    ],
)
def test_an_index_that_lies(path: Path, bad: bytes) -> None:
    with pytest.raises(MappedReadError):
        MappedReader().batches(place(path), bad)


def test_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for each in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(MappedReadError, match="not a regular file"):
            MappedReader().batches(place(each), index((0, 1)))
    for name in (str(tmp_path / "missing"), "", "nul\0byte"):
        with pytest.raises(MappedReadError, match="cannot open"):
            MappedReader().batches(MappedSegment(name, 1, 1), index((0, 1)))


def test_a_deleted_file_can_still_be_read(path: Path) -> None:
    reader = MappedReader()
    meant = place(path)
    batch = reader.batches(meant, index((5, 10)))[0]
    path.unlink()
    assert batch == DATA[5:15]
    assert list(reader.batches(meant, index((20, 10)))) == [DATA[20:30]]


def test_views_outlive_the_reader(path: Path) -> None:
    reader = MappedReader()
    batch = reader.batches(place(path), index((5, 10)))[0]
    reader.close()
    assert len(reader) == 0
    del reader
    path.unlink()
    assert batch == DATA[5:15]


def test_the_number_of_mappings_is_bounded(tmp_path: Path) -> None:
    reader = MappedReader(max_mappings=3)
    places = []
    for number in range(8):
        file = tmp_path / str(number)
        file.write_bytes(bytes([number]) * 10)
        places.append(place(file))
    kept = [reader.batches(each, index((0, 10)))[0] for each in places]
    assert len(reader) == 3
    assert [batch[0] for batch in kept] == list(range(8))
    before = len(os.listdir("/proc/self/fd"))
    for each in places * 3:
        reader.batches(each, index((0, 10)))
    assert len(os.listdir("/proc/self/fd")) == before


def test_host_id_names_this_host() -> None:
    assert host_id() == host_id() != ""
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in host_id()
    assert "mnt" in host_id()


def test_host_id_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raykafka.network.mapped._BOOT_ID", Path("/nonexistent"))
    assert host_id() == ""
