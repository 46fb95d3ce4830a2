"""A log on a store that crashes, beside a list that does not."""

from __future__ import annotations

import random

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raykafka.errors import DiskFullError, KafkaStorageError
from raykafka.log.batch_header import read_header
from raykafka.storage.log_types import LogConfig
from raykafka.storage.partition_log import PartitionLog
from raykafka.testing.memory_store import MemoryStore
from tests.storage.batches import NOW, make_batch
from tests.storage.logs import ALL, append, open_log, read_values, values_of

CONFIG = LogConfig(segment_bytes=2500, segment_ms=10_000, retention_ms=-1)


class LogModel(RuleBasedStateMachine):
    """``records`` is everything appended; ``flushed`` how much of it a power cut must not take."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.log: PartitionLog = open_log(self.store, CONFIG)
        self.records: list[bytes] = []
        self.start = 0
        self.flushed = 0
        self.now = NOW
        self.producers = (1, 2)
        self.sequences: dict[int, int] = {}
        self.sent: dict[int, tuple[int, bytearray, int]] = {}

    @initialize(clean=st.booleans())
    def begin(self, clean: bool) -> None:
        if clean:
            self.log.close()
            self.log = open_log(self.store, CONFIG)

    # --- what a partition does ---

    @rule(count=st.integers(1, 4), padding=st.integers(0, 900))
    def append(self, count: int, padding: int) -> None:
        values = [b"%d:" % (len(self.records) + i) + b"x" * padding for i in range(count)]
        result = append(self.log, make_batch(values), now_ms=self.now)
        assert (result.base_offset, result.duplicate) == (len(self.records), False)
        self.records += values

    @rule(which=st.sampled_from([0, 1]), count=st.integers(1, 3))
    def append_idempotent(self, which: int, count: int) -> None:
        producer = self.producers[which]
        base = len(self.records)
        values = [b"%d by %d" % (base + i, producer) for i in range(count)]
        sequence = self.sequences.get(producer, 0)
        message = make_batch(values, producer_id=producer, producer_epoch=0, base_sequence=sequence)
        copy = bytearray(message)
        assert append(self.log, message, now_ms=self.now).base_offset == base
        self.sent[producer] = (base, copy, self.now)
        self.sequences[producer] = sequence + count
        self.records += values

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        producer = data.draw(st.sampled_from(sorted(self.sent)))
        base, message, appended_ms = self.sent[producer]
        result = append(self.log, bytearray(message), now_ms=self.now)
        assert (result.base_offset, result.append_time_ms) == (base, appended_ms)
        assert result.duplicate

    @rule()
    def roll(self) -> None:
        self.log.roll(self.now)

    @rule(milliseconds=st.integers(0, 20_000))
    def tick(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.log.tick(self.now)

    @rule()
    def flush(self) -> None:
        assert self.log.flush() == len(self.records)
        self.flushed = len(self.records)

    @rule(data=st.data())
    def delete_records(self, data: st.DataObject) -> None:
        before = data.draw(st.integers(0, len(self.records)))
        self.start = max(self.start, before)
        assert self.log.delete_records(before) == self.start

    @rule(keep=st.integers(0, 10_000), data=st.data())
    def retain(self, keep: int, data: st.DataObject) -> None:
        high_watermark = data.draw(st.integers(self.start, len(self.records)))
        config = LogConfig(segment_bytes=2500, retention_bytes=keep, retention_ms=-1)
        self.log.reconfigure(config, ())
        self.log.apply_retention(self.now, high_watermark)
        self.log.reconfigure(CONFIG, ())
        assert self.start <= self.log.log_start_offset <= max(high_watermark, self.start)
        self.start = self.log.log_start_offset

    # --- what happens to it ---

    @rule(size=st.integers(0, 2000))
    def fill_the_disk(self, size: int) -> None:
        used = sum(self.store.size(path) for path in self.store.list(""))
        self.store.capacity_bytes = used + size
        message = make_batch([b"y" * 3000])
        try:
            append(self.log, message, now_ms=self.now)
        except DiskFullError:
            pass
        else:
            raise AssertionError("the batch does not fit")
        self.store.capacity_bytes = None

    @rule()
    def restart_cleanly(self) -> None:
        self.log.close()
        self.log = open_log(self.store, CONFIG, now_ms=self.now, must_exist=True)
        assert not self.log.recovered.damaged
        self.flushed = len(self.records)

    @rule()
    def kill(self) -> None:
        """The process dies; the page cache does not."""
        self.log = open_log(self.store, CONFIG, now_ms=self.now, must_exist=True)
        found = self.log.recovered
        assert (found.torn_bytes, found.damaged, found.resealed) == (0, [], [])

    @rule(seed=st.integers(0, 2**32))
    def cut_the_power(self, seed: int) -> None:
        """What was not synced is lost, or kept up to some byte."""
        generator = random.Random(seed)

        def keep(path: str, size: int) -> int:
            return generator.choice([0, size, generator.randint(0, size)])

        self.store.drop_unsynced(keep)
        self._recover()

    @rule(operation=st.sampled_from(["append", "flush"]))
    def lose_the_disk(self, operation: str) -> None:
        """An I/O error takes the log offline until it is opened again."""
        if operation == "flush":
            append(self.log, make_batch([b"not acknowledged"]), now_ms=self.now)
        self.store.fail_next(operation, KafkaStorageError("input/output error"))
        for attempt in range(2):
            try:
                if operation == "flush" and not attempt:
                    self.log.flush()
                else:
                    append(self.log, make_batch([b"never there"]), now_ms=self.now)
            except KafkaStorageError:
                continue
            raise AssertionError("the log is not offline")
        self.store.drop_unsynced()
        self._recover()

    def _recover(self) -> None:
        """Everything flushed is there; of the rest a prefix is, and lost offsets may be damaged."""
        self.log = log = open_log(self.store, CONFIG, now_ms=self.now)
        end = log.log_end_offset
        for low, high in log.damaged:
            assert low >= self.flushed, "nothing that was flushed is damaged"
            assert high >= low
        assert log.log_start_offset <= self.start or log.log_start_offset <= end
        readable = read_values(log, up_to=log.damaged[0][0] if log.damaged else ALL)
        assert end >= self.flushed
        for offset, found in readable.items():
            if offset < len(self.records):
                assert found == self.records[offset]
        # What was lost is forgotten by the model; a damaged range ends this run's log.
        if log.damaged or end > len(self.records):
            log.delete()
            self.log = open_log(self.store, CONFIG, now_ms=self.now)
            self.records, self.start, self.flushed = [], 0, 0
            self._forget_lost_batches()
            return
        del self.records[end:]
        self.start = log.log_start_offset
        self.flushed = min(self.flushed, end)
        self._forget_lost_batches()

    def _forget_lost_batches(self) -> None:
        """Producers begin anew under other ids; batches that are left must still be recognised."""
        self.producers = (self.producers[0] + 2, self.producers[1] + 2)
        left: dict[int, tuple[int, bytearray, int]] = {}
        offset = self.log.log_start_offset
        while offset < len(self.records):
            message = self.log.read(offset, max_bytes=1, up_to=ALL)[0]
            header = read_header(message)
            if header.has_producer_id:
                left[header.producer_id] = (
                    header.base_offset,
                    bytearray(message),
                    header.append_time_ms,
                )
            offset = header.next_offset
        self.sent = left

    # --- what always holds ---

    @invariant()
    def ends_agree(self) -> None:
        assert self.log.log_start_offset == self.start
        assert self.log.log_end_offset == len(self.records)
        assert self.log.flushed_offset <= len(self.records)
        assert self.log.damaged == []
        files = [path for path in self.store.list("") if path.endswith(".arrow")]
        assert self.log.size_bytes == sum(map(self.store.size, files))

    @rule(max_bytes=st.integers(1, 5000), data=st.data())
    def read(self, max_bytes: int, data: st.DataObject) -> None:
        offset = data.draw(st.integers(self.start, len(self.records)))
        up_to = data.draw(st.integers(offset, len(self.records) + 3))
        messages = self.log.read(offset, max_bytes=max_bytes, up_to=up_to)
        seen = {key: value for each in messages for key, value in values_of(each).items()}
        assert all(self.records[each] == value for each, value in seen.items())
        if seen:
            assert min(seen) <= offset
            assert max(seen) < up_to
            assert len(messages) == 1 or sum(map(len, messages)) <= max_bytes

    @rule()
    def read_everything(self) -> None:
        expected = dict(enumerate(self.records))
        found = read_values(self.log)
        assert {key: value for key, value in found.items() if key >= self.start} == {
            key: value for key, value in expected.items() if key >= self.start
        }


LogModel.TestCase.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
TestLogModel = LogModel.TestCase
