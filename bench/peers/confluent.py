"""confluent-kafka, which is librdkafka behind a thin layer of C.

Why it is set up this way (compared on a single partition with records of 100 B):

- Batches of up to 1 MB and a queue of a million records, so that the network need not wait for the
  application nor the application for the network.
- Failures are told by one callback for the whole producer, and only failures
  (``delivery.report.only.error``): nothing is missed, and no Python call is made per record. With
  no callback at all it was slower. So was a callback per record; it is a client of its own here.
- A consumer whose queue is full looks again after 1 ms (``fetch.queue.backoff.ms``). The default
  is a second, which is what makes a plain consumer stop and go at a fifth of its speed.
- It takes 500 records per call. Larger helpings outlive the youngest generation of Python's
  garbage collector, which then walks through them again and again; and the last call asks for no
  more than is left, since ``consume`` waits for the whole number.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.measuring.records import Records
from bench.measuring.verification import Taken
from bench.peers.api import (
    Address,
    Client,
    ConsumerDriver,
    Options,
    ProducerDriver,
    Topic,
    check_time,
)

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer
    from confluent_kafka.admin import AdminClient

RECORDS_PER_CALL = 500
QUEUED_RECORDS = 1_000_000
QUEUED_KB = 1 << 20
BATCH_BYTES = 1_000_000
CALLBACKS_EVERY = 1000
CONNECT_S = 30.0
ACK_S = 60.0

Acked = Callable[[Exception | None], None]


def missing() -> str | None:
    """How to get the library; None when it is there."""
    if importlib.util.find_spec("confluent_kafka") is None:
        return "confluent-kafka is not installed (pip install confluent-kafka)"
    return None


def quiet(address: Address) -> dict[str, Any]:
    """Where to connect; what goes wrong is raised, not written on the terminal."""
    return {"bootstrap.servers": address, "log_level": 0, "socket.nagle.disable": True}


def admin_client(address: Address) -> AdminClient:
    """For topics and offsets."""
    from confluent_kafka.admin import AdminClient

    return AdminClient({**quiet(address), "reconnect.backoff.ms": 10})


def end_offsets(admin: AdminClient, topic: str, partitions: int) -> dict[int, int]:
    """The next offset of every partition, from its leader. Raises ``KafkaException``."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec

    latest = OffsetSpec.latest()
    asked = {TopicPartition(topic, number): latest for number in range(partitions)}
    answers = admin.list_offsets(asked, request_timeout=CONNECT_S)
    return {place.partition: answer.result().offset for place, answer in answers.items()}


def producer_settings(address: Address, options: Options) -> dict[str, Any]:
    """A producer as it is used for bulk and, with ``linger_ms`` 0, for single records."""
    return {
        **quiet(address),
        "acks": options.acks,
        "enable.idempotence": options.acks == "all",
        "linger.ms": options.linger_ms,
        "batch.size": BATCH_BYTES,
        "batch.num.messages": 100_000,
        "queue.buffering.max.messages": QUEUED_RECORDS,
        "queue.buffering.max.kbytes": QUEUED_KB,
        **options.extra,
    }


def consumer_settings(address: Address, options: Options) -> dict[str, Any]:
    """A consumer that reads ahead and, at the end of the log, is told of news at once."""
    return {
        **quiet(address),
        "group.id": "bench",  # demanded, although partitions are assigned and nothing is committed
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.queue.backoff.ms": 1,
        "fetch.min.bytes": 1,
        "fetch.wait.max.ms": 500,
        **options.extra,
    }


def idempotent_producer(address: Address) -> Producer:
    """A producer of acknowledged records that reports each of them."""
    from confluent_kafka import Producer

    return Producer(producer_settings(address, Options()))


class _Failures:
    """What a producer's callback was told of."""

    def __init__(self) -> None:
        self.first: KafkaError | None = None

    def told(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and self.first is None:
            self.first = error

    def check(self) -> None:
        from confluent_kafka import KafkaException

        if self.first is not None:
            raise KafkaException(self.first)


class BulkProducer(ProducerDriver):
    """``produce`` for every record, ``poll`` only where the queue is full, ``flush`` at the end.

    Single records and paced loads need to hear of successes, so they go through a second producer
    that reports them; it is connected when first used.
    """

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        self._address = address
        self._topic = topic
        self._options = options
        self._failures = _Failures()
        self._producer = self._connect(self.bulk_settings())
        self._reporting: Producer | None = None
        self._transactional: Producer | None = None
        self._poller: threading.Thread | None = None
        self._closing = False

    def bulk_settings(self) -> dict[str, Any]:
        return {
            **producer_settings(self._address, self._options),
            "delivery.report.only.error": True,
            "on_delivery": self._failures.told,
        }

    def _connect(self, settings: dict[str, Any]) -> Producer:
        from confluent_kafka import Producer

        producer = Producer(settings)
        wait_for_leaders(producer, self._topic)
        return producer

    def prepare(self, records: Records, keyed: bool = False) -> Any:
        return records.values(), records.keys() if keyed else None

    def send_all(self, prepared: Any) -> None:
        values, keys = prepared
        produce, topic = self._producer.produce, self._topic.name
        if keys is None:
            for value in values:
                try:
                    produce(topic, value)
                except BufferError:
                    self.insist(topic, value)
        else:
            for value, key in zip(values, keys, strict=True):
                try:
                    produce(topic, value, key)
                except BufferError:
                    self.insist(topic, value, key)
        self.finish()

    def insist(self, *record: Any) -> None:
        """Send a record for which there is no room yet."""
        while True:
            self._producer.poll(0.01)
            try:
                self._producer.produce(*record)
                return
            except BufferError:
                continue

    def finish(self) -> None:
        left = self._producer.flush(ACK_S)
        self._failures.check()
        if left:
            raise TimeoutError(f"{left} records were not acknowledged in {ACK_S:g} s")

    def send_one(self, value: bytes) -> None:
        producer = self._with_reports(linger_ms=0)
        fates: list[KafkaError | None] = []
        producer.produce(self._topic.name, value, on_delivery=lambda error, _: fates.append(error))
        deadline = time.monotonic() + ACK_S
        while not fates:
            producer.poll(1)
            check_time(deadline, 0, 1)
        if fates[0] is not None:
            self._failures.first = fates[0]
            self._failures.check()

    def send(self, value: bytes, acked: Acked) -> None:
        from confluent_kafka import KafkaException

        producer = self._with_reports(self._options.linger_ms)
        if self._poller is None:
            # Acknowledgements are told when they come, not when the sender wakes up.
            self._poller = threading.Thread(target=self._poll_until_closed, daemon=True)
            self._poller.start()

        def told(error: KafkaError | None, _: Message) -> None:
            acked(None if error is None else KafkaException(error))

        while True:
            try:
                producer.produce(self._topic.name, value, on_delivery=told)
                return
            except BufferError:
                time.sleep(0.001)

    def _with_reports(self, linger_ms: int) -> Producer:
        if self._reporting is None:
            settings = {**producer_settings(self._address, self._options), "linger.ms": linger_ms}
            self._reporting = self._connect(settings)
        return self._reporting

    def _poll_until_closed(self) -> None:
        assert self._reporting is not None
        while not self._closing:
            self._reporting.poll(0.1)

    def flush(self) -> None:
        if self._reporting is not None and (left := self._reporting.flush(ACK_S)):
            raise TimeoutError(f"{left} records were not acknowledged in {ACK_S:g} s")

    def open_transactions(self) -> None:
        settings = {**self.bulk_settings(), "transactional.id": f"bench-{self._topic.name}"}
        self._transactional = self._connect(settings)
        self._transactional.init_transactions(CONNECT_S)

    def send_transaction(self, values: Sequence[bytes]) -> None:
        producer = self._transactional
        assert producer is not None
        produce, topic = producer.produce, self._topic.name
        producer.begin_transaction()
        for value in values:
            produce(topic, value)
        producer.commit_transaction(ACK_S)  # flushes first, and raises if a record has failed

    def close(self) -> None:
        self._closing = True
        if self._transactional is not None:
            self._transactional.close()
        if self._poller is not None:
            self._poller.join()
        if self._reporting is not None:
            self._reporting.close()
        self._producer.close()


class CallbackProducer(BulkProducer):
    """``produce`` with a callback for every record, which is called for successes as well."""

    def bulk_settings(self) -> dict[str, Any]:
        return producer_settings(self._address, self._options)

    def send_all(self, prepared: Any) -> None:
        values, keys = prepared
        produce, poll, topic = self._producer.produce, self._producer.poll, self._topic.name
        told = self._failures.told
        for start in range(0, len(values), CALLBACKS_EVERY):
            for index in range(start, min(start + CALLBACKS_EVERY, len(values))):
                key = keys[index] if keys else None
                try:
                    produce(topic, values[index], key, -1, told)
                except BufferError:
                    self.insist(topic, values[index], key, -1, told)
            poll(0)
        self.finish()


class RecordConsumer(ConsumerDriver):
    """``consume`` in helpings; every message is checked, its value and partition are taken.

    Partitions are assigned when reading begins: librdkafka's own thread fetches from then on.
    """

    def __init__(self, address: Address, topic: Topic, options: Options) -> None:
        from confluent_kafka import Consumer, TopicPartition

        self._consumer: Consumer = Consumer(self.settings(address, options))
        wait_for_leaders(self._consumer, topic)
        numbers = options.partitions or range(topic.partitions)
        self._places = [TopicPartition(topic.name, number, 0) for number in numbers]

    def settings(self, address: Address, options: Options) -> dict[str, Any]:
        return consumer_settings(address, options)

    def assign(self) -> None:
        if self._places:
            self._consumer.assign(self._places)
            self._places = []

    def read_all(self, count: int, timeout_s: float) -> Any:
        self.assign()
        consume = self._consumer.consume
        deadline = time.monotonic() + timeout_s
        partitions: list[int | None] = []
        values: list[bytes | None] = []
        while len(values) < count:
            for message in consume(min(RECORDS_PER_CALL, count - len(values)), 1.0):
                if message.error() is not None:
                    raise_error(message)
                partitions.append(message.partition())
                values.append(message.value())
            check_time(deadline, len(values), count)
        return partitions, values

    def taken(self, read: Any) -> Sequence[Taken]:
        found: dict[int, list[bytes]] = {}
        for partition, value in zip(*read, strict=True):
            found.setdefault(partition, []).append(value)
        return [Taken(partition, values) for partition, values in found.items()]

    def poll_values(self, timeout_s: float) -> Mapping[int, Sequence[bytes]]:
        self.assign()
        # ``consume`` would wait for as many as are asked for; ``poll`` returns with the first.
        first = self._consumer.poll(timeout_s)
        if first is None:
            return {}
        found: dict[int, list[bytes]] = {}
        for message in (first, *self._consumer.consume(RECORDS_PER_CALL, 0)):
            if message.error() is not None:
                raise_error(message)
            partition, value = message.partition(), message.value()
            assert partition is not None
            assert value is not None
            found.setdefault(partition, []).append(value)
        return found

    def close(self) -> None:
        self._consumer.close()


def raise_error(message: Message) -> None:
    """Raise what a message brought instead of a record."""
    from confluent_kafka import KafkaException

    raise KafkaException(message.error())


def wait_for_leaders(client: Producer | Consumer, topic: Topic) -> None:
    """Return when a client knows who leads each partition."""
    deadline = time.monotonic() + CONNECT_S
    while True:
        known = client.list_topics(topic.name, CONNECT_S).topics[topic.name]
        leaders = [each.leader for each in known.partitions.values() if each.leader >= 0]
        if known.error is None and len(leaders) == topic.partitions:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(leaders)} of {topic.partitions} partitions have a leader")
        time.sleep(0.01)


@dataclass(frozen=True)
class ConfluentClient(Client):
    """One way to use confluent-kafka."""

    name: str
    writes_with: type[BulkProducer] = BulkProducer
    reads_with: type[RecordConsumer] = RecordConsumer
    peer: str = "kafka"

    def missing(self) -> str | None:
        return missing()

    def producer(self, address: Address, topic: Topic, options: Options) -> ProducerDriver:
        return self.writes_with(address, topic, options)

    def consumer(self, address: Address, topic: Topic, options: Options) -> ConsumerDriver:
        return self.reads_with(address, topic, options)


CLIENT = ConfluentClient("confluent-kafka")
CALLBACKS = ConfluentClient("confluent-kafka, a callback each", CallbackProducer)
CLIENTS = (CLIENT, CALLBACKS)
