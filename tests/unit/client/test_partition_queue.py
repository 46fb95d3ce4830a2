"""The order and the numbers of one partition's batches, against the rules that leaders apply."""

from __future__ import annotations

from collections import deque

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.client.producing.delivery import Delivery, Group
from raykafka.client.producing.partition_queue import Identity, PartitionQueue
from raykafka.errors import (
    ConnectionLostError,
    DeliveryTimeoutError,
    MessageTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotLeaderOrFollowerError,
    OutOfOrderSequenceNumberError,
    RaykafkaError,
    UnknownSchemaVersionError,
)
from raykafka.log.batch_header import BatchHeader
from raykafka.log.producers import ProducerStates

ID = Identity(7, 0)
LOST = ConnectionLostError()
GAP = OutOfOrderSequenceNumberError()


class PlainGroup(Group):
    """A group of which nothing is asked."""

    def settled(self, index: int) -> bool:
        return self.complete()

    def error(self, index: int) -> RaykafkaError | None:
        return None

    def result(self, index: int) -> None:
        return None

    def fail(self, error: RaykafkaError) -> None:
        self.deliveries = ()


def delivery(rows: int = 1, created_ms: int = 0) -> Delivery:
    group = PlainGroup(None, "t", created_ms)  # type: ignore[arg-type]
    batch = pa.record_batch({"value": pa.nulls(rows, pa.binary())})
    return Delivery(group, "t", 0, batch, 0)


def new_queue(max_in_flight: int = 5, retries: int = 1 << 30) -> PartitionQueue:
    return PartitionQueue("t", "id", 0, max_in_flight=max_in_flight, retries=retries)


def send_all(queue: PartitionQueue, identity: Identity = ID, now_ms: int = 0) -> list[Delivery]:
    out = []
    while (found := queue.next_to_send(identity, now_ms)) is not None:
        queue.sent(found, now_ms)
        out.append(found)
    return out


def established(max_in_flight: int = 5) -> PartitionQueue:
    """A queue whose leader has acknowledged one batch of one record."""
    queue = new_queue(max_in_flight)
    first = delivery()
    queue.enqueue(first)
    send_all(queue)
    queue.acknowledged(first)
    first.settle()
    return queue


def sequences(queue: PartitionQueue) -> list[int]:
    return [entry.base_sequence for entry in queue]


def test_only_one_batch_is_out_until_the_leader_knows_the_producer() -> None:
    queue = new_queue()
    batches = [delivery(3) for _ in range(4)]
    for batch in batches:
        queue.enqueue(batch)
    assert send_all(queue) == batches[:1]
    queue.acknowledged(batches[0])
    assert send_all(queue) == batches[1:]
    assert [batch.base_sequence for batch in batches] == [0, 3, 6, 9]


def test_the_window_is_kept() -> None:
    queue = established(max_in_flight=2)
    batches = [delivery() for _ in range(5)]
    for batch in batches:
        queue.enqueue(batch)
    assert send_all(queue) == batches[:2]
    assert queue.congested
    queue.acknowledged(batches[0])
    assert send_all(queue) == batches[2:3]


def test_batches_acknowledged_before_an_older_one_count_too() -> None:
    """The leader remembers five batches: it must still know the oldest when it comes again."""
    queue = established()
    batches = [delivery() for _ in range(8)]
    for batch in batches:
        queue.enqueue(batch)
    assert send_all(queue) == batches[:5]
    assert not queue.rejected(batches[1], NotEnoughReplicasAfterAppendError())
    for number in (0, 2, 3, 4):
        queue.acknowledged(batches[number])
    assert send_all(queue) == [batches[1], batches[5]]
    assert queue.congested
    queue.acknowledged(batches[5])
    assert send_all(queue) == []
    queue.acknowledged(batches[1])
    assert send_all(queue) == batches[6:]


def test_without_an_identity_nothing_is_numbered() -> None:
    queue = new_queue()
    batches = [delivery() for _ in range(3)]
    for batch in batches:
        queue.enqueue(batch)
    assert send_all(queue, Identity(-1, -1)) == batches
    assert sequences(queue) == [-1, -1, -1]
    assert not queue.rejected(batches[0], LOST)
    assert queue.rejected(batches[1], MessageTooLargeError())
    assert not queue.rejected(batches[2], LOST)
    assert send_all(queue, Identity(-1, -1)) == [batches[0], batches[2]]


def test_what_is_unacknowledged_is_sent_again_in_order_when_all_is_answered() -> None:
    queue = established()
    batches = [delivery() for _ in range(4)]
    for batch in batches:
        queue.enqueue(batch)
    send_all(queue)
    assert not queue.rejected(batches[1], NotLeaderOrFollowerError())
    queue.acknowledged(batches[0])
    assert send_all(queue) == []
    assert not queue.rejected(batches[2], GAP)
    assert send_all(queue) == []
    assert not queue.rejected(batches[3], GAP)
    assert send_all(queue) == batches[1:]
    assert sequences(queue) == [2, 3, 4]
    assert not queue.needs_bump


def test_nothing_is_sent_before_its_pause_is_over() -> None:
    queue = established()
    batch = delivery()
    queue.enqueue(batch)
    send_all(queue)
    assert not queue.rejected(batch, LOST)
    queue.not_before_ms = 50
    assert send_all(queue, now_ms=49) == []
    assert send_all(queue, now_ms=50) == [batch]


def test_a_refused_batch_gives_its_numbers_to_those_behind_it() -> None:
    queue = established()
    batches = [delivery(2) for _ in range(4)]
    for batch in batches:
        queue.enqueue(batch)
    send_all(queue)
    assert queue.rejected(batches[1], MessageTooLargeError())
    batches[1].settle(MessageTooLargeError())
    queue.acknowledged(batches[0])
    for batch in batches[2:]:
        assert not queue.rejected(batch, GAP)
    later = delivery()
    queue.enqueue(later)
    assert send_all(queue) == [*batches[2:], later]
    assert sequences(queue) == [3, 5, 7]
    assert not queue.needs_bump


def test_a_batch_refused_after_an_unknown_attempt_keeps_its_numbers() -> None:
    queue = established()
    batches = [delivery(2), delivery(2)]
    for batch in batches:
        queue.enqueue(batch)
    send_all(queue)
    for batch in batches:
        assert not queue.rejected(batch, LOST)
    send_all(queue)
    assert queue.rejected(batches[0], MessageTooLargeError())
    assert not queue.rejected(batches[1], GAP)
    assert send_all(queue) == batches[1:]
    assert sequences(queue) == [3]
    # It is now first and still a gap: the lost attempt was not appended either.
    assert not queue.rejected(batches[1], GAP)
    assert queue.needs_bump
    assert send_all(queue) == []
    assert send_all(queue, Identity(7, 1)) == batches[1:]
    assert (batches[1].base_sequence, batches[1].producer_epoch) == (0, 1)


def test_an_expired_batch_that_was_never_sent_leaves_no_gap() -> None:
    queue = established()
    old, young = delivery(2, created_ms=10), delivery(2, created_ms=20)
    queue.enqueue(old)
    queue.enqueue(young)
    assert queue.next_to_send(ID, 30) is old  # numbered, but its leader could not be reached
    assert queue.take_expired(15) == [old]
    assert send_all(queue) == [young]
    assert young.base_sequence == 1


def test_an_expired_batch_that_is_out_keeps_its_place_until_it_is_answered() -> None:
    queue = established()
    old, young = delivery(created_ms=10), delivery(created_ms=20)
    queue.enqueue(old)
    queue.enqueue(young)
    send_all(queue)
    assert queue.take_expired(15) == [old]
    old.settle(DeliveryTimeoutError())
    assert queue.take_expired(15) == []
    assert not queue.rejected(old, LOST)
    assert not queue.rejected(young, LOST)
    assert send_all(queue) == [young]
    assert young.base_sequence == 2
    assert not queue.rejected(young, GAP)
    assert queue.needs_bump


def test_an_expired_batch_acknowledged_late_leaves_no_gap() -> None:
    queue = established()
    old, young = delivery(created_ms=10), delivery(created_ms=20)
    queue.enqueue(old)
    queue.enqueue(young)
    send_all(queue)
    queue.take_expired(15)
    old.settle(DeliveryTimeoutError())
    queue.acknowledged(old)
    queue.acknowledged(young)
    assert len(queue) == 0


def test_another_partitions_new_epoch_is_taken_up_when_nothing_is_out() -> None:
    queue = established()
    batches = [delivery(), delivery()]
    queue.enqueue(batches[0])
    send_all(queue)
    queue.enqueue(batches[1])
    newer = Identity(7, 1)
    assert send_all(queue, newer) == [batches[1]]
    assert batches[1].producer_epoch == 0
    queue.acknowledged(batches[0])
    queue.acknowledged(batches[1])
    last = delivery()
    queue.enqueue(last)
    assert send_all(queue, newer) == [last]
    assert (last.producer_epoch, last.base_sequence) == (1, 0)


def test_retries_are_counted() -> None:
    queue = new_queue(retries=1)
    batch = delivery()
    queue.enqueue(batch)
    send_all(queue)
    assert not queue.rejected(batch, NotLeaderOrFollowerError())
    send_all(queue)
    assert queue.rejected(batch, NotLeaderOrFollowerError())


def test_a_schema_that_is_too_old_is_encoded_anew() -> None:
    queue = established()
    batch = delivery()
    queue.enqueue(batch)
    send_all(queue)
    batch.encoded = object()  # type: ignore[assignment]
    assert not queue.rejected(batch, UnknownSchemaVersionError())
    assert batch.encoded is None


def test_a_topic_created_anew_starts_from_zero() -> None:
    queue = established()
    batches = [delivery(2), delivery(2)]
    for batch in batches:
        queue.enqueue(batch)
    send_all(queue)
    queue.move_to("another id")
    for batch in batches:
        assert not queue.rejected(batch, NotLeaderOrFollowerError())
    assert send_all(queue) == batches[:1]
    assert sequences(queue) == [0, 2]


def test_sequences_wrap_around() -> None:
    queue = established()
    queue._next_sequence = (1 << 31) - 2
    batches = [delivery(3), delivery(3)]
    for batch in batches:
        queue.enqueue(batch)
    send_all(queue)
    assert sequences(queue) == [(1 << 31) - 2, 1]
    assert queue.rejected(batches[0], MessageTooLargeError())
    assert sequences(queue) == [(1 << 31) - 2]


def test_giving_up_takes_everything() -> None:
    queue = established()
    batches = [delivery() for _ in range(8)]
    for batch in batches:
        queue.enqueue(batch)
    send_all(queue)
    assert queue.take_all() == batches
    assert len(queue) == 0


class SimulatedLeader:
    """One partition's log with the real sequence rules and a network that loses answers."""

    def __init__(self) -> None:
        self.states = ProducerStates()
        self.log: list[Delivery] = []
        self.wire: deque[tuple[Delivery, BatchHeader]] = deque()

    def receive(self, sent: Delivery) -> None:
        header = BatchHeader(
            -1, 0, 0, 0, 0, 0, sent.producer_epoch, sent.count, sent.producer_id,
            sent.base_sequence, 0, 0, 0, 0, 0,
        )  # fmt: skip
        self.wire.append((sent, header))

    def append(self, sent: Delivery, header: BatchHeader) -> None:
        """Raises what a leader raises."""
        if self.states.check(header) is None:
            self.states.append(header._replace(base_offset=len(self.log)))
            self.log.append(sent)


Step = tuple[str, int]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    *("send", "send", "ok", "ok", "refuse", "busy", "appended", "break"),
                    *("break after", "expire"),
                ]
            ),
            st.integers(1, 3),
        ),
        max_size=80,
    )
)
def test_nothing_acknowledged_is_lost_doubled_or_out_of_order(steps: list[Step]) -> None:
    """Whatever the network does, and whatever the leader refuses."""
    queue, leader = new_queue(), SimulatedLeader()
    identity = ID
    created: list[Delivery] = []
    acknowledged: set[Delivery] = set()

    def pump() -> None:
        nonlocal identity
        if queue.needs_bump and not queue.recovering and queue.identity == identity:
            identity = Identity(identity.producer_id, identity.epoch + 1)
        for sent in send_all(queue, identity):
            leader.receive(sent)

    def settle_rejection(sent: Delivery, error: RaykafkaError) -> None:
        if queue.rejected(sent, error):
            sent.settle(error)

    def serve(fate: str) -> None:
        if not leader.wire:
            return
        sent, header = leader.wire.popleft()
        try:
            if fate == "refuse":
                raise MessageTooLargeError
            if fate == "busy":
                raise NotLeaderOrFollowerError
            leader.append(sent, header)
            if fate == "appended":
                raise NotEnoughReplicasAfterAppendError
        except RaykafkaError as error:
            settle_rejection(sent, error)
            return
        queue.acknowledged(sent)
        if not sent.done:
            sent.settle()
            acknowledged.add(sent)

    def break_connection(appended: int) -> None:
        """The leader still handles ``appended`` of the requests; no answer comes back."""
        out = list(leader.wire)
        leader.wire.clear()
        for sent, header in out[:appended]:
            try:
                leader.append(sent, header)
            except RaykafkaError:
                continue
        for sent, _ in out:
            settle_rejection(sent, LOST)

    for name, number in steps:
        if name == "send":
            entry = delivery(number, created_ms=len(created))
            created.append(entry)
            queue.enqueue(entry)
        elif name == "expire":
            for entry in queue.take_expired(len(created) - number):
                entry.settle(DeliveryTimeoutError())
        elif name == "break":
            break_connection(0)
        elif name == "break after":
            break_connection(number)
        else:
            serve(name)
        pump()
    for _ in range(20 * len(created) + 20):
        serve("ok")
        pump()
    assert len(queue) == 0
    assert all(entry.done for entry in created)
    assert len(set(leader.log)) == len(leader.log)
    assert acknowledged <= set(leader.log)
    places = {entry: created.index(entry) for entry in created}
    assert [places[entry] for entry in leader.log] == sorted(places[e] for e in leader.log)


def test_batches_of_a_transaction_follow_each_other_without_waiting_for_the_first() -> None:
    queue = PartitionQueue("t", "id", 0, max_in_flight=5, retries=9, transactional=True)
    for epoch in range(2):
        for _ in range(7):
            queue.enqueue(delivery())
        identity = Identity(7, epoch)
        out = send_all(queue, identity)
        assert [each.base_sequence for each in out] == [0, 1, 2, 3, 4]
        for each in out:
            queue.acknowledged(each)
        for each in send_all(queue, identity):
            queue.acknowledged(each)


def test_what_was_given_up_with_a_transaction_leaves_no_gap() -> None:
    queue = PartitionQueue("t", "id", 0, max_in_flight=5, retries=9, transactional=True)
    for _ in range(3):
        queue.enqueue(delivery())
    assert len(send_all(queue)) == 3
    queue.take_all()
    queue.start_over()
    queue.enqueue(delivery())
    [found] = send_all(queue, Identity(7, 1))
    assert (found.base_sequence, found.producer_epoch) == (0, 1)
