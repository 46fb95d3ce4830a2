"""Logs whose files were cut, flipped, deleted or mixed up: what is whole is served, nothing else.

``assert_honest`` is the oracle: a record that was appended is read as it was, or reading it is a
``LogDamagedError``; its offset is never given to another record.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from crc32c import crc32c

from raykafka.errors import (
    DiskFullError,
    InconsistentTopicIdError,
    KafkaStorageError,
    LogDamagedError,
    UnsupportedVersionError,
)
from raykafka.log.segment import parse_footer, segment_name
from raykafka.model import PartitionId, TopicId
from raykafka.storage.api import MissingFileError, SegmentStore
from raykafka.storage.local_store import LocalStore
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog
from raykafka.testing.memory_store import MemoryStore
from tests.storage.batches import NOW, OTHER_PARTITION, make_batch
from tests.storage.logs import (
    ALL,
    DIRECTORY,
    append,
    append_values,
    open_log,
    read_values,
    segment_files,
    values_of,
)

CHECKPOINT = f"{DIRECTORY}/checkpoint.json"
Files = dict[str, bytes]


def snapshot(store: SegmentStore) -> Files:
    return {path: bytes(store.read(path, 0, store.size(path))) for path in store.list("")}


def restored(files: Files) -> MemoryStore:
    store = MemoryStore()
    for path, content in files.items():
        store.publish(path, content)
    return store


def flipped(content: bytes, position: int, bit: int = 0) -> bytes:
    damaged = bytearray(content)
    damaged[position] ^= 1 << bit
    return bytes(damaged)


def value(offset: int) -> bytes:
    return b"value %d" % offset


def fill(log: PartitionLog, count: int) -> None:
    """Appends ``count`` records, two per batch."""
    for offset in range(log.log_end_offset, log.log_end_offset + count, 2):
        append_values(log, value(offset), value(offset + 1))


def assert_honest(log: PartitionLog, end: int, start: int = 0) -> set[int]:
    """Every offset up to ``end`` shows its record or is damaged; returns the damaged ones."""
    damaged: set[int] = set()
    seen: dict[int, bytes] = {}
    for offset in range(max(start, log.log_start_offset), end):
        try:
            if offset not in seen:
                messages = log.read(offset, max_bytes=1, up_to=ALL)
                assert messages, f"the log ends at {offset}, but {end} records were acknowledged"
                seen = values_of(messages[0])
            assert seen[offset] == value(offset)
        except LogDamagedError:
            damaged.add(offset)
    reported = {each for low, high in log.damaged for each in range(low, min(high, end))}
    assert damaged == {each for each in reported if each >= start}
    return damaged


@pytest.fixture
def files() -> Files:
    """Four sealed segments and an active one with three batches; 2 records per batch; unclean."""
    store = MemoryStore()
    log = open_log(store)
    for _ in range(4):
        fill(log, 6)
        log.roll(NOW)
    fill(log, 6)
    return snapshot(store)


@pytest.fixture
def clean_files(files: Files) -> Files:
    """The same after a clean shutdown."""
    store = restored(files)
    open_log(store).close()
    return snapshot(store)


END = 30
ACTIVE = f"{DIRECTORY}/{segment_name(24)}"
SEALED = [f"{DIRECTORY}/{segment_name(base)}" for base in (0, 6, 12, 18)]


def batch_starts(content: bytes) -> list[int]:
    return [at - 100 for at in find_all(content, b"raykafka1:")]


def find_all(content: bytes, what: bytes) -> Iterator[int]:
    at = content.find(what)
    while at >= 0:
        yield at
        at = content.find(what, at + 1)


class TestTornTail:
    @pytest.mark.parametrize("make", ["memory", "local"])
    def test_cut_at_every_byte_of_the_last_two_batches(
        self, files: Files, make: str, local_store: LocalStore
    ) -> None:
        content = files[ACTIVE]
        _, second, third = batch_starts(content)
        store: SegmentStore = local_store
        for cut in range(second, len(content) + 1):
            if make == "memory":
                store = restored({ACTIVE: content[:cut], CHECKPOINT: files[CHECKPOINT]})
            else:
                for path in local_store.list(""):
                    local_store.delete(path)
                local_store.publish(ACTIVE, content[:cut], durable=False)
            log = open_log(store)
            end = 26 if cut < third else 28 if cut < len(content) else 30
            assert log.log_end_offset == end
            torn = cut - (second if end == 26 else third if end == 28 else len(content))
            assert log.recovered.torn_bytes == torn
            assert store.size(ACTIVE) == cut - torn
            if torn:
                (copy,) = log.recovered.torn_copies
                assert bytes(store.read(copy, 0, torn)) == content[cut - torn : cut]
            assert append_values(log, b"next") == end
            assert read_values(log, 24) == {
                **{offset: value(offset) for offset in range(24, end)},
                end: b"next",
            }

    def test_a_cut_below_what_was_durable_is_damage(self, clean_files: Files) -> None:
        content = clean_files[ACTIVE]
        first, second, third = batch_starts(content)
        for cut in (0, 5, first, first + 1, second - 1, second, third - 8, third, third + 99):
            store = restored({**clean_files, ACTIVE: content[:cut]})
            log = open_log(store)
            assert log.log_end_offset == END
            missing = 24 if cut < second else 26 if cut < third else 28
            assert log.damaged == [(missing, END)]
            assert assert_honest(log, END) == set(range(missing, END))
            assert append_values(log, b"next") == END
            log = open_log(store)
            assert log.damaged == [(missing, END)]
            assert read_values(log, END) == {END: b"next"}
            log.close()
            log = open_log(store)
            log.roll(NOW)
            assert open_log(store).damaged == [(missing, END)]

    @pytest.mark.parametrize(
        "tail",
        [
            b"\0",
            b"\0" * 5000,
            b"\xff" * 777,
            b"\xff\xff\xff\xff" * 64,
            random.Random(1).randbytes(3000),
            b"raykafka1:" * 400,
            b"\xff\xff\xff\xff\0\0\0\0",
        ],
        ids=["zero", "zeros", "ones", "continuations", "random", "magic", "end of stream"],
    )
    def test_garbage_behind_the_last_batch_is_cut(self, files: Files, tail: bytes) -> None:
        store = restored({**files, ACTIVE: files[ACTIVE] + tail})
        log = open_log(store)
        assert log.recovered.torn_bytes == len(tail)
        assert assert_honest(log, END) == set()
        assert append_values(log, value(END)) == END
        log = open_log(store)
        assert log.recovered.clean
        assert assert_honest(log, END + 1) == set()

    def test_a_torn_batch_before_zeros(self, files: Files) -> None:
        content = files[ACTIVE]
        third = batch_starts(content)[2]
        for kept in (1, 8, 100, 207, 208, 300, len(content) - third - 1):
            log = open_log(restored({**files, ACTIVE: content[: third + kept] + b"\0" * 9000}))
            assert log.log_end_offset in (28, 30)
            # A whole batch of zeros where the records were cannot be told from bit rot: it is kept.
            if log.log_end_offset == 30:
                assert log.damaged == [(28, 30)]

    def test_a_footer_that_was_not_finished(self, files: Files) -> None:
        store = restored(files)
        open_log(store).roll(NOW)
        sealed = bytes(store.read(ACTIVE, 0, store.size(ACTIVE)))
        begin = len(files[ACTIVE])
        for cut in range(begin, len(sealed)):
            store = restored({**files, ACTIVE: sealed[:cut]})
            log = open_log(store)
            assert (log.log_end_offset, log.damaged) == (END, [])
            assert store.size(ACTIVE) == begin
            assert append_values(log, b"next") == END

    def test_a_footer_that_was_not_finished_in_the_middle_is_written_anew(
        self, files: Files
    ) -> None:
        content = files[SEALED[1]]
        batches_end = content.index(b"\xff\xff\xff\xff\0\0\0\0")
        few = {path: files[path] for path in SEALED[:3]}
        for cut in range(batches_end, len(content)):
            store = restored({**few, SEALED[1]: content[:cut]})
            log = open_log(store)
            assert log.recovered.resealed == [SEALED[1]]
            assert assert_honest(log, 18) == set()
            assert bytes(store.read(SEALED[1], 0, store.size(SEALED[1]))) == content

    def test_an_interrupted_publication_is_swept_up(self, files: Files) -> None:
        store = restored({**files, CHECKPOINT + ".tmp": b"half"})
        assert open_log(store).recovered.clean
        assert CHECKPOINT + ".tmp" not in store.list("")

    def test_no_room_for_the_copy_of_a_torn_tail(self, files: Files) -> None:
        store = restored({**files, ACTIVE: files[ACTIVE] + b"\1" * 5000})
        store.capacity_bytes = sum(map(len, snapshot(store).values())) + 100
        log = open_log(store)
        assert assert_honest(log, END) == set()
        assert "no room" in "".join(log.recovered.notes)


class TestFlippedBits:
    def test_every_byte_of_the_active_segment(self, files: Files) -> None:
        content = files[ACTIVE]
        first = batch_starts(content)[0]
        other = {path: each for path, each in files.items() if path == CHECKPOINT}
        generator = random.Random(7)
        for position in range(len(content)):
            damaged = flipped(content, position, generator.randrange(8))
            store = restored({**other, ACTIVE: damaged})
            log = open_log(store)
            assert log.log_end_offset >= END, f"byte {position}"
            lost = assert_honest(log, END, start=24)
            if position < first:
                assert lost == set()
            else:
                batch = 24 + 2 * ((position - first) // ((len(content) - first) // 3))
                assert lost == {batch, batch + 1}, f"byte {position}"
            assert append_values(log, b"next") == log.log_end_offset - 1

    @pytest.mark.parametrize("durable", [False, True])
    def test_damage_stays_known_and_the_log_goes_on(
        self, files: Files, clean_files: Files, durable: bool
    ) -> None:
        before = clean_files if durable else files
        for batch, start in enumerate(batch_starts(before[ACTIVE])):
            store = restored({**before, ACTIVE: flipped(before[ACTIVE], start + 150)})
            log = open_log(store)
            lost = {24 + 2 * batch, 25 + 2 * batch}
            assert assert_honest(log, END) == lost
            fill(log, 4)
            assert assert_honest(log, END + 4) == lost
            log = open_log(store)
            assert assert_honest(log, END + 4) == lost
            log.roll(NOW)
            fill(log, 2)
            log.close()
            log = open_log(store)
            assert assert_honest(log, END + 6) == lost
            data = bytes(store.read(ACTIVE, 0, store.size(ACTIVE)))
            assert len(parse_footer(data)[1]) == 4, "the footer lists the good batches"

    def test_every_byte_of_a_sealed_segment(self, files: Files) -> None:
        path = SEALED[1]
        content = files[path]
        generator = random.Random(8)
        starts = batch_starts(content)
        batches_end = content.index(b"\xff\xff\xff\xff\0\0\0\0")
        few = {each: files[each] for each in SEALED[:3]}
        for position in range(len(content)):
            damaged = flipped(content, position, generator.randrange(8))
            log = open_log(restored({**few, path: damaged}))
            assert log.log_end_offset == 18
            lost = assert_honest(log, 18)
            if starts[0] <= position < batches_end:
                batch = 6 + 2 * sum(start <= position for start in starts[1:])
                assert lost == {batch, batch + 1}, f"byte {position}"
            else:
                assert lost == set(), f"byte {position}"

    def test_a_bit_that_flips_while_the_log_is_open(self, local_store: LocalStore) -> None:
        log = open_log(local_store)
        fill(log, 6)
        log.roll(NOW)
        fill(log, 2)
        assert assert_honest(log, 8) == set()
        path = segment_files(local_store)[0]
        place = f"{local_store.root}/{path}"
        with open(place, "r+b") as file:
            file.seek(batch_starts(file.read())[1] + 400)
            file.write(b"?")
        assert assert_honest(log, 8) == {2, 3}
        with pytest.raises(LogDamagedError):
            log.locate(2, max_batches=9, up_to=ALL)
        found = log.locate(0, max_batches=9, up_to=ALL)
        assert found is not None
        assert (found.count, found.next_offset) == (1, 2)

    def test_several_batches_at_once(self, files: Files) -> None:
        content = files[ACTIVE]
        starts = batch_starts(content)
        for first, second in ((0, 1), (1, 2), (0, 2)):
            damaged = flipped(flipped(content, starts[first] + 130), starts[second] + 250)
            log = open_log(restored({**files, ACTIVE: damaged}))
            lost = {24 + 2 * each + i for each in (first, second) for i in (0, 1)}
            assert assert_honest(log, END) == lost
            assert log.log_end_offset >= END

    def test_a_batch_inside_a_record_is_no_batch_of_the_log(self) -> None:
        """A record may carry a batch of its own partition; damage does not bring it up."""
        store = MemoryStore()
        log = open_log(store)
        append_values(log, value(0), value(1))
        (inner,) = log.read(0, max_bytes=1, up_to=ALL)
        append_values(log, b"\0" * 4 + bytes(inner), b"\0" * 4 + bytes(inner) * 3)
        append_values(log, value(4), value(5))
        content = snapshot(store)[segment_files(store)[0]]
        outer = batch_starts(content)[1]
        for position in (outer, outer + 8, outer + 100, outer + 115, outer + 170, outer + 300):
            log = open_log(restored({segment_files(store)[0]: flipped(content, position)}))
            assert log.damaged == [(2, 4)]
            assert list(read_values(log, 4)) == [4, 5]

    def test_small_files(self, clean_files: Files) -> None:
        """A damaged checkpoint or snapshot is reported and rebuilt, at every byte of it."""
        small = [path for path in clean_files if path.endswith(".json")]
        assert len(small) == 3
        for path in small:
            content = clean_files[path]
            for position in range(len(content)):
                for bit in range(8):
                    damaged = flipped(content, position, bit)
                    log = open_log(restored({**clean_files, path: damaged}))
                    assert log.recovered.notes or path != CHECKPOINT
                assert assert_honest(log, END) == set()
            for cut in (b"", content[:10], content[:-1]):
                log = open_log(restored({**clean_files, path: cut}))
                assert assert_honest(log, END) == set()


class TestDeletedFiles:
    @pytest.mark.parametrize("number", range(4))
    def test_a_sealed_segment(self, files: Files, number: int) -> None:
        del files[SEALED[number]]
        store = restored(files)
        log = open_log(store)
        lost = set(range(6 * number, 6 * number + 6))
        assert log.log_start_offset == 0
        assert assert_honest(log, END) == lost
        with pytest.raises(LogDamagedError, match=f"seek to {6 * number + 6} to skip"):
            log.read(6 * number + 2, max_bytes=1, up_to=ALL)
        fill(log, 2)
        assert assert_honest(open_log(store), END + 2) == lost

    def test_the_active_segment(self, files: Files, clean_files: Files) -> None:
        del clean_files[ACTIVE]
        store = restored(clean_files)
        log = open_log(store)
        assert assert_honest(log, END) == set(range(24, END))
        assert append_values(log, value(END), value(END + 1)) == END
        assert assert_honest(open_log(store), END + 2) == set(range(24, END))
        # Without a clean shutdown its end is not known, but that it was there is.
        del files[ACTIVE]
        log = open_log(restored(files))
        assert log.damaged
        assert log.damaged[0][0] == 24

    def test_every_segment(self, clean_files: Files) -> None:
        log = open_log(restored({CHECKPOINT: clean_files[CHECKPOINT]}), must_exist=True)
        assert log.damaged == [(0, END)]
        assert append_values(log, b"next") == END

    def test_the_checkpoint(self, files: Files, clean_files: Files) -> None:
        for each in (files, clean_files):
            del each[CHECKPOINT]
            store = restored(each)
            log = open_log(store, must_exist=True)
            assert "no checkpoint" in "".join(log.recovered.notes)
            assert assert_honest(log, END) == set()
            assert open_log(store).recovered.clean

    def test_everything(self) -> None:
        with pytest.raises(LogDamagedError, match="Restore it, or delete the topic"):
            open_log(MemoryStore(), must_exist=True)

    def test_the_active_segment_while_it_is_appended_to(self, local_store: LocalStore) -> None:
        log = open_log(local_store)
        fill(log, 2)
        os.unlink(f"{local_store.root}/{segment_files(local_store)[0]}")
        with pytest.raises(MissingFileError, match="deleted by hand"):
            append_values(log, b"into a file that nobody will find again")
        with pytest.raises(KafkaStorageError, match="offline"):
            append_values(log, b"x")

    def test_the_active_segment_before_it_is_flushed(self, local_store: LocalStore) -> None:
        log = open_log(local_store)
        fill(log, 2)
        os.unlink(f"{local_store.root}/{segment_files(local_store)[0]}")
        with pytest.raises(MissingFileError):
            log.flush()
        with pytest.raises(KafkaStorageError, match="offline"):
            append_values(log, b"x")

    def test_the_active_segment_is_cut_while_it_is_appended_to(
        self, local_store: LocalStore
    ) -> None:
        log = open_log(local_store)
        fill(log, 6)
        path = f"{local_store.root}/{segment_files(local_store)[0]}"
        os.truncate(path, batch_starts(Path(path).read_bytes())[2] + 10)
        with pytest.raises(KafkaStorageError, match="somebody else"):
            append_values(log, b"x")
        with pytest.raises(KafkaStorageError, match="offline"):
            append_values(log, b"x")
        log = open_log(LocalStore(local_store.root))
        assert log.log_end_offset == 4
        assert assert_honest(log, 4) == set()

    def test_while_the_log_is_open(self, local_store: LocalStore) -> None:
        log = open_log(local_store)
        fill(log, 6)
        log.roll(NOW)
        fill(log, 2)
        log.close()
        local_store.close()
        log = open_log(local_store)
        local_store.delete(segment_files(local_store)[0])
        assert assert_honest(log, 8) == set(range(6))
        assert log.damaged == [(0, 6)]


class TestMixedUpFiles:
    def test_the_directory_of_another_topic(self, files: Files) -> None:
        store = restored(files)
        before = snapshot(store)
        for other in (OTHER_PARTITION, PartitionId(TopicId("f" * 32), 0)):
            with pytest.raises(InconsistentTopicIdError, match="move it out"):
                open_log(store, partition=other)
        assert snapshot(store) == before

    def test_a_segment_of_another_partition(self, files: Files) -> None:
        store = MemoryStore()
        log = open_log(store, partition=OTHER_PARTITION)
        for offset in range(0, 12, 2):
            append(log, make_batch([value(offset), value(offset + 1)], partition=OTHER_PARTITION))
            if offset == 4:
                log.roll(NOW)
        foreign = snapshot(store)
        log = open_log(restored({**files, SEALED[1]: foreign[SEALED[1]]}))
        assert assert_honest(log, END) == set(range(6, 12)), "an unsealed one"
        log = open_log(restored({**files, SEALED[0]: foreign[SEALED[0]]}))
        assert assert_honest(log, END) == set(range(6)), "a sealed one"

    def test_a_large_segment_of_another_partition_is_judged_in_one_pass(self) -> None:
        content = bytearray()
        message = make_batch(partition=OTHER_PARTITION)
        store = MemoryStore()
        log = open_log(store)
        append_values(log, b"mine")
        path = segment_files(store)[0]
        head = snapshot(store)[path]
        content += head
        content += bytes(message) * 4000
        log = open_log(restored({path: bytes(content)}))
        assert log.damaged == [(1, 4001)]

    def test_segments_that_overlap(self, files: Files) -> None:
        """A segment that was put back ends behind the next one's beginning: which one is right?"""
        store = MemoryStore()
        log = open_log(store)
        fill(log, 24)
        log.roll(NOW)
        fill(log, 8)
        files[ACTIVE] = snapshot(store)[ACTIVE]
        files[f"{DIRECTORY}/{segment_name(30)}"] = files[SEALED[0]][:408]
        with pytest.raises(LogDamagedError, match="from another time"):
            open_log(restored(files))

    def test_a_later_format_is_left_alone(self, clean_files: Files) -> None:
        envelope = json.loads(clean_files[CHECKPOINT])
        envelope.update(format_version=2, body={"unheard": "of"})
        envelope["crc32c"] = crc32c(b'{"unheard":"of"}', 2)
        later = json.dumps(envelope, separators=(",", ":")).encode()
        store = restored({**clean_files, CHECKPOINT: later})
        before = snapshot(store)
        with pytest.raises(UnsupportedVersionError, match="upgrade raykafka"):
            open_log(store)
        assert snapshot(store) == before

    def test_files_of_others_are_ignored(self, files: Files) -> None:
        store = restored({**files, f"{DIRECTORY}/notes.txt": b"mine", f"{DIRECTORY}/1.arrow": b""})
        log = open_log(store)
        assert log.recovered.clean
        assert assert_honest(log, END) == set()
        assert f"{DIRECTORY}/notes.txt" in store.list("")


class TestFullDisk:
    def test_a_log_that_fills_its_disk(self, small_disk: Path) -> None:
        """Appends are refused and change nothing, reads go on, retention makes room again."""
        store = LocalStore(str(small_disk))
        config = LogConfig(segment_bytes=150_000, retention_bytes=300_000)
        log = open_log(store, config)
        for _ in range(3):
            refused = 0
            while refused < 5:
                try:
                    fill(log, 2)
                except DiskFullError:
                    refused += 1
            end = log.log_end_offset
            assert assert_honest(log, end) == set()
            assert log.apply_retention(NOW, end) > 0
            assert (log.log_end_offset, log.damaged) == (end, [])
        log = open_log(store, config)
        assert (log.log_end_offset, log.damaged) == (end, [])
        assert assert_honest(log, end) == set()

    def test_opened_on_a_full_disk(self, small_disk: Path) -> None:
        log = open_log(LocalStore(str(small_disk)))
        fill(log, 100)
        (small_disk / "ballast").write_bytes(b"")
        with pytest.raises(OSError, match="No space left|File too large"):
            (small_disk / "ballast").write_bytes(b"x" * 2_000_000)
        log = open_log(LocalStore(str(small_disk)))
        assert assert_honest(log, 100) == set()
        with pytest.raises(DiskFullError):
            append_values(log, b"x" * 5000)
        (small_disk / "ballast").unlink()
        assert append_values(log, value(100), value(101)) == 100
        assert assert_honest(log, 102) == set()
