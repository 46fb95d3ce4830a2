"""Producer states against a model that remembers everything, on random histories of one log."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from raykafka.errors import InvalidProducerEpochError, OutOfOrderSequenceNumberError
from raykafka.log.batch_header import BatchHeader
from raykafka.log.producers import Duplicate, ProducerStates

TOP = 2**31


class SlowProducer:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: list[tuple[list[int], int, int]] = []  # every sequence, offset, time
        self.last_append_ms = 0


class Producers(RuleBasedStateMachine):
    """Every batch lists its sequences one by one; nothing is forgotten until it expires."""

    @initialize(start=st.sampled_from([0, 5, TOP - 3]))
    def begin(self, start: int) -> None:
        self.states = ProducerStates()
        self.model: dict[int, SlowProducer] = {}
        self.offset = 0
        self.now = 1_000
        self.start = start

    def header(self, producer: int, epoch: int, sequence: int, count: int) -> BatchHeader:
        return BatchHeader(
            base_offset=self.offset,
            leader_epoch=0,
            append_time_ms=self.now,
            leader_flags=0,
            crc=0,
            flags=0,
            producer_epoch=epoch,
            record_count=count,
            producer_id=producer,
            base_sequence=sequence,
            schema_id=0,
            base_timestamp=0,
            max_timestamp=0,
            size=816,
            metadata_size=600,
        )

    def expected(self, producer: int, epoch: int, sequences: list[int]) -> object:
        known = self.model.get(producer)
        if known is None:
            return None
        if epoch < known.epoch:
            return InvalidProducerEpochError
        if epoch > known.epoch:
            return None if sequences[0] == 0 else OutOfOrderSequenceNumberError
        for seen, offset, time in known.batches[-5:]:
            if seen[0] == sequences[0] and seen[-1] == sequences[-1]:
                return Duplicate(offset, time)
        follows = (known.batches[-1][0][-1] + 1) % TOP
        return None if sequences[0] == follows else OutOfOrderSequenceNumberError

    @rule(
        producer=st.integers(1, 2),
        epoch=st.integers(0, 2),
        step=st.integers(-6, 2),
        count=st.integers(1, 3),
        fresh=st.booleans(),
    )
    def send(self, producer: int, epoch: int, step: int, count: int, fresh: bool) -> None:
        known = self.model.get(producer)
        if known is not None and known.batches and not fresh:
            if step < 0 and len(known.batches) >= -step:
                again = known.batches[step][0]
                first, count = again[0], len(again)
            else:
                first = (known.batches[-1][0][-1] + 1 + max(step, 0)) % TOP
            epoch = max(epoch, known.epoch) if step != 1 else epoch
        else:
            first = self.start if known is None else 0
        sequences = [(first + n) % TOP for n in range(count)]
        header = self.header(producer, epoch, first, count)
        assert header.last_sequence == sequences[-1]
        expected = self.expected(producer, epoch, sequences)
        try:
            answer: object = self.states.check(header)
        except (InvalidProducerEpochError, OutOfOrderSequenceNumberError) as error:
            answer = type(error)
        assert answer == expected
        if answer is None:
            self.states.append(header)
            if known is None or known.epoch != epoch:
                known = self.model[producer] = SlowProducer(epoch)
            known.batches.append((sequences, self.offset, self.now))
            known.last_append_ms = self.now
            self.offset += count

    @rule(milliseconds=st.integers(1, 400))
    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule()
    def expire(self) -> None:
        idle = [p for p, known in self.model.items() if self.now - known.last_append_ms >= 500]
        for producer in idle:
            del self.model[producer]
        assert self.states.expire(self.now, 500) == len(idle)

    @rule()
    def restart(self) -> None:
        self.states = ProducerStates.from_plain(self.states.to_plain())


TestProducers = Producers.TestCase
