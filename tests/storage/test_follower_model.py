"""A log that leads, follows, is cut, begins again, fails and crashes, beside a list of batches."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raykafka.errors import DiskFullError, KafkaStorageError
from raykafka.log.batch_header import read_header
from raykafka.log.epochs import LeaderEpochCache
from raykafka.storage.api import SegmentStore
from raykafka.storage.local_store import LocalStore
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog
from raykafka.testing.memory_store import MemoryStore
from tests.storage.batches import NOW, make_batch
from tests.storage.logs import append, open_log
from tests.storage.replicated import Death, MortalStore, copy_to, messages_of, stamped

CONFIG = LogConfig(segment_bytes=2500, segment_ms=10_000, retention_ms=-1)


class Batch(NamedTuple):
    base_offset: int
    next_offset: int
    leader_epoch: int
    message: bytes


class FollowerModel(RuleBasedStateMachine):
    """``batches`` is what the log must hold, from ``start`` on; ``flushed`` what a cut leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = self.make_store()
        self.store = MortalStore(self.inner)
        self.batches: list[Batch] = []
        self.start = self.end = self.flushed = self.epoch = 0
        self.now = NOW
        self.log = self.open()

    def make_store(self) -> SegmentStore:
        return MemoryStore()

    def open(self) -> PartitionLog:
        return open_log(self.store, CONFIG, now_ms=self.now)  # type: ignore[arg-type]

    # --- what a partition does ---

    @rule(count=st.integers(1, 4), padding=st.integers(0, 700), newer=st.booleans())
    def lead(self, count: int, padding: int, newer: bool) -> None:
        self.epoch += newer
        values = [b"%d" % self.end + b"l" * padding] * count
        message = make_batch(values)
        result = append(self.log, message, leader_epoch=self.epoch, now_ms=self.now)
        assert result.base_offset == self.end
        self._note(message)

    @rule(
        sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6),
        padding=st.integers(0, 700),
        newer=st.integers(0, 2),
    )
    def follow(self, sizes: list[int], padding: int, newer: int) -> None:
        messages, end = [], self.end
        for number, size in enumerate(sizes):
            self.epoch += number == newer
            values = [b"%d" % end + b"f" * padding] * size
            messages.append(
                stamped(values, end, leader_epoch=self.epoch, append_time_ms=self.now + number)
            )
            end += size
        copy_to(self.log, messages, self.now)
        for message in messages:
            self._note(message)

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(max(self.start - 2, 0), self.end + 1))
        self.log.truncate_to(offset)
        self._cut(offset)

    @rule(offset=st.integers(0, 60))
    def restart(self, offset: int) -> None:
        self.log.restart_at(offset)
        self._restart(offset)

    @rule(data=st.data())
    def take_over_log_start(self, data: st.DataObject) -> None:
        self.log.advance_log_start(data.draw(st.integers(0, self.end)))
        self.start = self.log.log_start_offset

    @rule()
    def roll(self) -> None:
        self.log.roll(self.now)

    @rule(milliseconds=st.integers(0, 20_000))
    def tick(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.log.tick(self.now)

    @rule()
    def flush(self) -> None:
        assert self.log.flush() == self.end
        self.flushed = self.end

    @rule(keep=st.integers(0, 10_000))
    def retain(self, keep: int) -> None:
        config = LogConfig(segment_bytes=2500, retention_bytes=keep, retention_ms=-1)
        self.log.reconfigure(config, ())
        self.log.apply_retention(self.now, self.end)
        self.log.reconfigure(CONFIG, ())
        assert self.start <= self.log.log_start_offset <= self.end
        self.start = self.log.log_start_offset

    # --- what happens to it ---

    @rule()
    def kill(self) -> None:
        """The process dies; the page cache does not."""
        self.log = self.open()
        found = self.log.recovered
        assert (found.torn_bytes, found.damaged) == (0, [])

    @rule()
    def restart_cleanly(self) -> None:
        self.log.close()
        self.log = self.open()
        self.flushed = self.end

    @rule(size=st.integers(0, 3000))
    def fill_the_disk(self, size: int) -> None:
        if not isinstance(self.inner, MemoryStore):
            return
        used = sum(map(self.inner.size, self.inner.list("")))
        self.inner.capacity_bytes = used + size
        messages = [
            stamped([b"y" * 1500], self.end + number, leader_epoch=self.epoch)
            for number in range(3)
        ]
        try:
            copy_to(self.log, messages, self.now)
        except DiskFullError:
            pass
        else:
            raise AssertionError("the batches do not fit")
        finally:
            self.inner.capacity_bytes = None
        for message in messages[: self.log.log_end_offset - self.end]:
            self._note(message)

    @precondition(lambda self: self.end > self.start)
    @rule(change=st.integers(0, 12), behind=st.booleans(), data=st.data())
    def die_while_truncating(self, change: int, behind: bool, data: st.DataObject) -> None:
        offset = data.draw(st.integers(self.start, self.end - 1))
        self.store.die_at(change, behind=behind)
        try:
            self.log.truncate_to(offset)
        except Death:
            self.store.live()
            self.log = self.open()
            assert self.log.damaged == []
            assert self.log.log_end_offset >= self._end_of_cut(offset)
            self._cut(self.log.log_end_offset)
            self.log.truncate_to(offset)
        self.store.live()
        self._cut(offset)

    @rule(change=st.integers(0, 12), behind=st.booleans(), offset=st.integers(0, 60))
    def die_while_restarting(self, change: int, behind: bool, offset: int) -> None:
        self.store.die_at(change, behind=behind)
        try:
            self.log.restart_at(offset)
        except Death:
            self.store.live()
            self.log = self.open()
            assert self.log.damaged == []
            if self.log.log_end_offset != offset or self.log.log_start_offset != offset:
                self._cut(self.log.log_end_offset)
                self.ends_agree()
                self.holds_what_it_must()
            self.log.restart_at(offset)
        self.store.live()
        self._restart(offset)

    @rule(seed=st.integers(0, 2**32))
    def cut_the_power(self, seed: int) -> None:
        """A follower gets what it has lost, or holds damaged, from its leader again."""
        if not isinstance(self.inner, MemoryStore):
            return
        generator = random.Random(seed)
        self.inner.drop_unsynced(
            lambda _, size: generator.choice([0, size, generator.randint(0, size)])
        )
        self.log = self.open()
        assert self.log.log_end_offset >= self.flushed
        for low, _ in self.log.damaged:
            assert low >= self.flushed, "nothing that was flushed is damaged"
        if self.log.damaged:
            self.log.truncate_to(self.log.damaged[0][0])
        assert self.log.damaged == []
        self.start = self.log.log_start_offset
        end = self.log.log_end_offset
        lost = [batch for batch in self.batches if batch.base_offset >= end]
        self._cut(end)
        self.ends_agree()
        if lost and end == lost[0].base_offset:
            copy_to(self.log, [batch.message for batch in lost], self.now)
            for batch in lost:
                self._note(batch.message)

    @rule(operation=st.sampled_from(["append", "truncate", "delete"]))
    def lose_the_disk(self, operation: str) -> None:
        """An I/O error takes the log offline until it is opened again."""
        if not isinstance(self.inner, MemoryStore):
            return
        self.inner.fail_next(operation, KafkaStorageError("input/output error"))
        try:
            if operation == "append":
                copy_to(self.log, [stamped([b"n"], self.end, leader_epoch=self.epoch)])
                raise AssertionError("the log is not offline")
            self.log.truncate_to(self.start)
        except KafkaStorageError:
            self.log = self.open()
            self._cut(self.log.log_end_offset)
        else:
            self._cut(self.start)
        self.inner._failures.clear()

    # --- what always holds ---

    @invariant()
    def ends_agree(self) -> None:
        assert (self.log.log_start_offset, self.log.log_end_offset) == (self.start, self.end)
        assert self.flushed <= self.end
        assert self.log.flushed_offset <= self.end
        assert self.log.damaged == []
        files = [path for path in self.inner.list("") if path.endswith(".arrow")]
        assert self.log.size_bytes == sum(map(self.inner.size, files))

    @rule()
    def holds_what_it_must(self) -> None:
        expected = [each for each in self.batches if each.next_offset > self.start]
        assert messages_of(self.log) == [each.message for each in expected]
        cache = LeaderEpochCache()
        for batch in expected:
            cache.assign(batch.leader_epoch, max(batch.base_offset, self.start))
        if cache.entries:
            assert self.log.epochs.entries == cache.entries

    # --- the list ---

    def _note(self, message: bytes | bytearray) -> None:
        header = read_header(message)
        self.batches.append(
            Batch(header.base_offset, header.next_offset, header.leader_epoch, bytes(message))
        )
        self.end = header.next_offset

    def _end_of_cut(self, offset: int) -> int:
        ends = [each.next_offset for each in self.batches if each.next_offset <= offset]
        return ends[-1] if ends else min(offset, self.start)

    def _cut(self, offset: int) -> None:
        if offset >= self.end:
            return
        self.batches = [each for each in self.batches if each.next_offset <= offset]
        self.end = self.log.log_end_offset
        assert self.end <= offset
        if self.batches and self.batches[-1].next_offset > self.start:
            assert self.end == self.batches[-1].next_offset
        assert self.log.log_start_offset <= self.start
        self.start = self.log.log_start_offset
        self.flushed = min(self.flushed, self.end)

    def _restart(self, offset: int) -> None:
        self.batches = []
        self.start = self.end = self.flushed = offset


class LocalFollowerModel(FollowerModel):
    """The same on files, without power cuts."""

    def make_store(self) -> SegmentStore:
        self.directory = tempfile.TemporaryDirectory()
        return LocalStore(str(Path(self.directory.name) / "logs"))

    def teardown(self) -> None:
        self.inner.close()
        self.directory.cleanup()


SETTINGS = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
FollowerModel.TestCase.settings = SETTINGS
LocalFollowerModel.TestCase.settings = settings(SETTINGS, max_examples=25)
TestFollowerModel = FollowerModel.TestCase
TestLocalFollowerModel = LocalFollowerModel.TestCase
