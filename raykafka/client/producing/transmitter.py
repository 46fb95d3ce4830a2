"""Gets batches to their leaders and their answers back to the records' futures.

Everything here belongs to whoever holds the sender's turn: no locks, no waiting but for sockets.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from functools import partial
from itertools import count
from typing import Any

import pyarrow as pa

from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.cluster.metadata import ClusterMetadata, TopicMetadata
from raykafka.client.partitioner import StickyPartition
from raykafka.client.producing.accumulator import NEVER_MS, Accumulator
from raykafka.client.producing.counters import Counters
from raykafka.client.producing.cutting import cut
from raykafka.client.producing.delivery import Delivery, Group
from raykafka.client.producing.encoding import encode
from raykafka.client.producing.futures import Callbacks
from raykafka.client.producing.gate import Gate, Identities
from raykafka.client.producing.groups import Chunk
from raykafka.client.producing.outstanding import Outstanding
from raykafka.client.producing.partition_queue import PartitionQueue
from raykafka.clock import Clock
from raykafka.config.producer import ProducerConfig
from raykafka.errors import (
    DuplicateSequenceNumberError,
    MessageTooLargeError,
    RaykafkaError,
    SerializationError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import Endpoint
from raykafka.network.client import Connection
from raykafka.protocol.messages import ApiKey, ProduceRequest, ProduceResponse

LARGEST_PAUSE_MS = 1000
CHECK_EVERY_MS = 50
"""How often deliveries and requests are looked through for ones whose time is up."""


class Transmitter:
    """Queues per partition, what is out, and what became of it."""

    def __init__(
        self,
        config: ProducerConfig,
        metadata: ClusterMetadata,
        ids: Identities,
        accumulator: Accumulator,
        connections: LeaderConnections,
        callbacks: Callbacks,
        clock: Clock,
        gate: Gate | None = None,
    ) -> None:
        self._config = config
        self._gate = gate
        self._transactional_id = config.transactional_id
        self._acks, self._timeout_ms = int(config.acks), config.request_timeout_ms
        self._metadata = metadata
        self._ids = ids
        self._accumulator = accumulator
        self._connections = connections
        self._callbacks = callbacks
        self._clock = clock
        self._queues: dict[tuple[str, int], PartitionQueue] = {}
        self._sticky: dict[str, StickyPartition] = {}
        self._attention: dict[PartitionQueue, None] = {}
        """Queues that may have something to send now."""
        self._timers: list[tuple[int, int, PartitionQueue]] = []
        self._ticket = count()
        self._congested: dict[PartitionQueue, None] = {}
        self._outstanding = Outstanding()
        self._next_check_ms = 0
        self.unsettled = 0
        """Batches whose fate is not known."""
        self.news = False
        """Something was settled since this was last set to False."""
        self.cluster_changed = False
        """Set from any thread when metadata or identity have changed."""
        self.counters = Counters()

    @property
    def in_flight(self) -> int:
        """Batches sent and not answered."""
        return len(self._outstanding)

    def sole_connection(self) -> tuple[Endpoint, Connection] | None:
        """The connection on which every answer will come, if it is only one."""
        endpoint = self._outstanding.sole_endpoint()
        connection = None if endpoint is None else self._connections.get(endpoint)
        return None if endpoint is None or connection is None else (endpoint, connection)

    def serve(self, now_ms: int) -> None:
        """Do everything that can be done now, which is the clock's monotonic time, without waiting
        for an answer.
        """
        if self.cluster_changed:
            self.cluster_changed = False
            self._look_at_all(now_ms)
        for group in self._accumulator.take_ready(now_ms, self._congested_topics()):
            self._cut(group)
        while self._timers and self._timers[0][0] <= now_ms:
            self._attention[heapq.heappop(self._timers)[2]] = None
        if self.unsettled and now_ms >= self._next_check_ms:
            self._next_check_ms = now_ms + CHECK_EVERY_MS
            self._expire(now_ms)
        while self._attention:
            queue = next(iter(self._attention))
            del self._attention[queue]
            self._advance(queue, now_ms)

    def next_event_ms(self) -> int:
        """Monotonic time at which ``serve`` has something to do again if nothing arrives."""
        due = self._accumulator.next_due_ms(self._congested_topics())
        if self._timers:
            due = min(due, self._timers[0][0])
        if self.unsettled:
            due = min(due, self._next_check_ms)
        return due

    def _congested_topics(self) -> Collection[str]:
        return {queue.topic for queue in self._congested} if self._congested else ()

    def give_up(self, error: RaykafkaError, *, start_over: bool) -> None:
        """Fail everything that has not been acknowledged. With ``start_over`` what comes next is
        another transaction's, and numbered from zero.
        """
        for group in self._accumulator.take_ready(NEVER_MS, ()):
            self._fail_group(group, error)
        for queue in self._queues.values():
            self._drop(queue, error)
            if start_over:
                queue.start_over()
        self._attention.clear()
        self._timers.clear()

    # --- from groups to queues --------------------------------------------------------------------

    def _cut(self, group: Group) -> None:
        topic = self._metadata.cached(group.topic)
        refusal = None if self._gate is None else self._gate.refusal()
        if refusal is not None:
            self._fail_group(group, refusal)
            return
        failed: RaykafkaError | None
        try:
            if topic is None:
                raise UnknownTopicOrPartitionError(
                    f"topic {group.topic!r} does not exist any more; its records were dropped"
                )
            sticky = self._sticky.get(group.topic)
            if sticky is None:
                sticky = self._sticky[group.topic] = StickyPartition()
            failed = cut(group, topic, sticky)
        except RaykafkaError as error:
            failed = error
        except (pa.ArrowException, TypeError, ValueError) as error:
            failed = SerializationError(f"records do not encode: {error}")
        if failed is not None and self._gate is not None:
            self._gate.failed(failed)
        if failed is not None and group.deliveries is None:
            self._fail_group(group, failed)
            return
        assert topic is not None
        for delivery in group.deliveries or ():
            self.unsettled += 1
            queue = self._queue(topic, delivery.partition)
            queue.enqueue(delivery)
            self._attention[queue] = None
        if not group.pending:
            self._completed(group)

    def _queue(self, topic: TopicMetadata, partition: int) -> PartitionQueue:
        key = (topic.name, partition)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = PartitionQueue(
                topic.name,
                topic.topic_id,
                partition,
                max_in_flight=self._config.max_in_flight_requests_per_connection,
                retries=self._config.retries,
                transactional=self._gate is not None,
            )
        return queue

    # --- from queues to sockets -------------------------------------------------------------------

    def _advance(self, queue: PartitionQueue, now_ms: int) -> None:
        topic = self._metadata.cached(queue.topic)
        if topic is None or queue.partition >= len(topic.partitions):
            error = UnknownTopicOrPartitionError(
                f"{queue.topic}-{queue.partition} does not exist any more; its records were dropped"
            )
            self._drop(queue, error)
            return
        if topic.topic_id != queue.topic_id:
            queue.move_to(topic.topic_id)
        while (delivery := queue.next_to_send(self._ids.current, now_ms)) is not None:
            if not self._transmit(queue, delivery, topic, now_ms):
                break
        if queue.needs_bump and not queue.recovering and now_ms >= queue.not_before_ms:
            if self._gate is not None:
                self._drop(queue, queue.lost_count())
            else:
                self._ids.renew(queue.identity)
                self._pause(queue, now_ms)
        if queue.congested:
            self._congested[queue] = None
        elif self._congested:
            self._congested.pop(queue, None)

    def _transmit(
        self, queue: PartitionQueue, delivery: Delivery, topic: TopicMetadata, now_ms: int
    ) -> bool:
        """Send one batch; False when nothing more can be sent to its partition for now."""
        place = topic.partitions[queue.partition]
        endpoint = place.endpoint
        queue.problem = place.problem or queue.problem
        try:
            encoded = delivery.encoded or encode(delivery, topic, self._config)
            connection = None if endpoint is None else self._connections.get(endpoint)
        except RaykafkaError as error:
            if error.retriable:
                self._wait_for_leader(queue, now_ms)
                return False
            queue.discard(delivery)
            self._settle(delivery, error)
            return True
        if endpoint is None or connection is None:
            self._wait_for_leader(queue, now_ms)
            return False
        epoch, acks = place.leader_epoch, self._acks
        request = ProduceRequest(
            queue.topic_id, queue.partition, epoch, acks, self._timeout_ms, self._transactional_id
        )
        if self._gate is not None:
            self._gate.batch_sent()
        queue.sent(delivery, now_ms)
        self._outstanding.add(delivery, endpoint, queue)
        try:
            connection.send(
                ApiKey.PRODUCE,
                request,
                encoded.chunks,
                partial(self._answered, queue, delivery, delivery.attempts) if acks else None,
            )
        except RaykafkaError as error:
            if connection.closed:
                self._connections.lose(endpoint)
            if delivery.outstanding:
                self._rejected(queue, delivery, error)
            return False
        if not acks:
            self._acknowledged(queue, delivery, ProduceResponse())
        return True

    def _wait_for_leader(self, queue: PartitionQueue, now_ms: int) -> None:
        queue.attempt += 1
        self._pause(queue, now_ms)
        self._metadata.request_refresh(queue.topic)

    def _pause(self, queue: PartitionQueue, now_ms: int) -> None:
        exponent = min(max(queue.attempt - 1, 0), 10)
        pause = min(self._config.retry_backoff_ms << exponent, LARGEST_PAUSE_MS)
        queue.not_before_ms = now_ms + max(1, pause)
        queue.paused_in = self._situation(queue)
        heapq.heappush(self._timers, (queue.not_before_ms, next(self._ticket), queue))

    # --- answers ----------------------------------------------------------------------------------

    def _answered(
        self,
        queue: PartitionQueue,
        delivery: Delivery,
        attempt: int,
        answer: Any,
        _payload: memoryview,
    ) -> None:
        if delivery.attempts != attempt or not delivery.outstanding:
            return
        if type(answer) is ProduceResponse:
            self._acknowledged(queue, delivery, answer)
        elif isinstance(answer, DuplicateSequenceNumberError):
            self._acknowledged(queue, delivery, ProduceResponse())
        else:
            self._rejected(queue, delivery, answer)

    def _acknowledged(
        self, queue: PartitionQueue, delivery: Delivery, response: ProduceResponse
    ) -> None:
        endpoint = self._outstanding.remove(delivery)
        if endpoint is not None:
            self._connections.healthy(endpoint)
        queue.acknowledged(delivery)
        if not delivery.done:
            delivery.base_offset = response.base_offset
            if response.append_time_ms >= 0:
                delivery.append_time_ms = delivery.max_timestamp = response.append_time_ms
            self._settle(delivery, None)
        if len(queue):
            self._attention[queue] = None
        elif self._congested:
            self._congested.pop(queue, None)

    def _rejected(self, queue: PartitionQueue, delivery: Delivery, error: RaykafkaError) -> None:
        self._outstanding.remove(delivery)
        if self._gate is not None:
            error = self._gate.understood(error)
        if queue.rejected(delivery, error):
            self._settle(delivery, error)
        elif not delivery.done:
            self.counters.retries += 1
            self._pause(queue, self._clock.monotonic_ms())
        if error.refresh_metadata or isinstance(error, MessageTooLargeError):
            self._metadata.request_refresh(queue.topic)
        if len(queue):
            self._attention[queue] = None

    # --- the end of a delivery --------------------------------------------------------------------

    def _settle(self, delivery: Delivery, error: RaykafkaError | None) -> None:
        group = delivery.group
        if group is None:
            return
        if error is None:
            self.counters.sent(delivery)
        else:
            self.counters.records_failed += delivery.count
            if self._gate is not None:
                self._gate.failed(error)
        delivery.settle(error)
        self.unsettled -= 1
        group.pending -= 1
        self._completed(group)

    def _completed(self, group: Group) -> None:
        if not group.pending:
            self._accumulator.forget(group)
        self._callbacks.collect(group)
        self.news = True

    def _fail_group(self, group: Group, error: RaykafkaError) -> None:
        if isinstance(group, Chunk):
            self.counters.records_failed += len(group.values)
        group.fail(error)
        self._completed(group)

    def _drop(self, queue: PartitionQueue, error: RaykafkaError) -> None:
        for delivery in queue.take_all():
            self._outstanding.remove(delivery)
            delivery.outstanding = False
            self._settle(delivery, error)
        self._congested.pop(queue, None)

    # --- time -------------------------------------------------------------------------------------

    def _expire(self, now_ms: int) -> None:
        timeout_ms = self._config.delivery_timeout_ms
        for queue in self._queues.values():
            if not len(queue):
                continue
            self._metadata.refresh_if_old(queue.topic)
            for delivery in queue.take_expired(now_ms - timeout_ms):
                self._settle(delivery, queue.timed_out(delivery, timeout_ms))
            self._attention[queue] = None
        silent = self._outstanding.silent(now_ms, self._config.request_timeout_ms, self._metadata)
        for endpoint in silent:
            # Closing it answers everything that is out on it with ConnectionLostError.
            self._connections.lose(endpoint)

    def _look_at_all(self, now_ms: int) -> None:
        """Metadata or identity are new: whoever paused for what has changed goes on at once."""
        for queue in self._queues.values():
            if not len(queue):
                continue
            situation = self._situation(queue)
            if situation != queue.paused_in and situation[0] is not None:
                queue.not_before_ms = min(queue.not_before_ms, now_ms)
                queue.attempt = 0
            self._attention[queue] = None

    def _situation(self, queue: PartitionQueue) -> tuple[object, ...]:
        """What decides whether another attempt may fare better; first of all the leader."""
        topic = self._metadata.cached(queue.topic)
        if topic is None or queue.partition >= len(topic.partitions):
            return (None,)
        place, identity = topic.partitions[queue.partition], self._ids.current
        return place.endpoint, place.leader_epoch, topic.topic_id, topic.schema_id, identity

    def reset(self) -> None:
        """An exception came in the middle of a frame: connections cannot be trusted any more."""
        for endpoint in list(self._outstanding.endpoints):
            self._connections.lose(endpoint)
