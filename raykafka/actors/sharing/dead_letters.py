"""Writes records that were given up to the dead-letter topic of their group (KIP-1191).

A record is written again when a new leader finds it still on its way, so the topic gets it at least
once. It waits for as long as the topic is missing or takes nothing: the group's window stands still
then, which is seen, where a dropped record is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from raykafka.actors.peers import Peers
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.sharing.shared_partition import SharedPartition
from raykafka.clock import Clock
from raykafka.errors import (
    InvalidTopicError,
    LeaderNotAvailableError,
    LogDamagedError,
    MessageTooLargeError,
    OffsetOutOfRangeError,
    RaykafkaError,
    UnknownTopicOrPartitionError,
)
from raykafka.log.batch import decode_batch, encode_batch
from raykafka.log.batch_header import read_header
from raykafka.log.schema import HEADERS_TYPE, UNTYPED_SCHEMA
from raykafka.model import Endpoint, PartitionId, TopicId
from raykafka.protocol.messages import ApiKey, ProduceRequest, TopicInfo
from raykafka.share.values import DeadLetter

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 1 << 20
_TIMEOUT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0

Row = tuple["bytes | None", "bytes | None", "list[tuple[str, bytes]]"]
"""Key, value and headers of a dead letter."""


class DeadLetters:
    """Writes dead letters for the leaders of one actor."""

    def __init__(self, peers: Peers, clock: Clock) -> None:
        self._peers = peers
        self._clock = clock

    async def write(self, shared: SharedPartition, letter: DeadLetter) -> None:
        """Write the records of ``letter``; returns when they are committed, or when the group has
        no dead-letter topic any more, or the partition is not led here any more.
        """
        rows: list[Row] | None = None
        pause_s = _FIRST_PAUSE_S
        while shared.gone is None:
            topic = shared.config.errors_deadletterqueue_topic_name
            if not topic:
                return
            try:
                if rows is None:
                    rows = await _read(shared, letter)
                if rows:
                    await self._produce(topic, shared.replica.partition.partition, rows)
                return
            except RaykafkaError as error:
                logger.warning("%s: dead letters wait for topic %s: %s", shared.name, topic, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _produce(self, name: str, source_partition: int, rows: Sequence[Row]) -> None:
        view = self._peers.view
        if name not in view.topics:
            await view.refresh()
        topic = view.topics.get(name)
        if topic is None or not topic.partitions:
            raise UnknownTopicOrPartitionError(f"topic {name!r} does not exist; create it")
        if topic.schemas:
            raise InvalidTopicError(f"{name!r} is a typed topic; dead letters are bytes")
        try:
            await self._produce_batch(topic, source_partition % len(topic.partitions), rows)
        except MessageTooLargeError:
            if len(rows) > 1:
                middle = len(rows) // 2
                await self._produce(name, source_partition, rows[:middle])
                await self._produce(name, source_partition, rows[middle:])
                return
            # What the topic takes at most is less than the record: where it came from is told.
            key, value, headers = rows[0]
            if value is None:
                raise
            await self._produce(name, source_partition, [(key, None, headers)])

    async def _produce_batch(self, topic: TopicInfo, partition: int, rows: Sequence[Row]) -> None:
        info = topic.partitions[partition]
        if not info.port:
            await self._peers.view.refresh()
            raise LeaderNotAvailableError(f"{topic.name}-{partition} has no leader now")
        now_ms = self._clock.now_ms()
        columns = [
            pa.array([now_ms] * len(rows), pa.timestamp("ms")),
            pa.array([key for key, _, _ in rows], pa.binary()),
            pa.array([_headers(headers) for _, _, headers in rows], HEADERS_TYPE),
            pa.array([value for _, value, _ in rows], pa.binary()),
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=UNTYPED_SCHEMA)
        encoded = encode_batch(batch, PartitionId(TopicId(topic.topic_id), partition))
        if 0 < topic.max_message_bytes < encoded.header.size:
            raise MessageTooLargeError(f"{encoded.header.size} bytes for {topic.name}")
        request = ProduceRequest(topic.topic_id, partition, -1, timeout_ms=int(_TIMEOUT_S * 1000))
        try:
            await self._peers.call(
                Endpoint(info.host, info.port),
                ApiKey.PRODUCE,
                request,
                encoded.chunks,
                timeout_s=_TIMEOUT_S,
            )
        except RaykafkaError as error:
            if error.refresh_metadata or error.retriable:
                await self._peers.view.refresh()
            raise


def _headers(headers: Sequence[tuple[str, bytes]]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in headers]


async def _read(shared: SharedPartition, letter: DeadLetter) -> list[Row]:
    """The records; those that the log has no more are left out."""
    replica = shared.replica
    offset, end = letter.first_offset, letter.last_offset + 1
    rows: list[Row] = []
    while offset < end:
        log = replica.log
        offset = max(offset, log.log_start_offset)
        load = log.cold(offset, max_bytes=_READ_BYTES, up_to=end)
        if load is not None:
            await asyncio.get_running_loop().run_in_executor(None, load)
        try:
            messages = log.read(offset, max_bytes=_READ_BYTES, up_to=replica.high_watermark)
        except (OffsetOutOfRangeError, LogDamagedError) as error:
            logger.error("%s: dead letters from %d on are gone: %s", shared.name, offset, error)
            return rows
        if not messages:
            return rows
        for message in messages:
            header = read_header(message)
            if header.base_offset >= end:
                return rows
            if not header.is_control:
                rows += _rows(shared, letter, replica, message, offset, end)
            offset = header.next_offset
    return rows


def _rows(
    shared: SharedPartition,
    letter: DeadLetter,
    replica: Replica,
    message: Any,
    offset: int,
    end: int,
) -> list[Row]:
    header = read_header(message)
    first = max(offset, header.base_offset)
    stop = min(end, header.next_offset)
    batch = decode_batch(message, replica.schemas[header.schema_id])
    batch = batch.slice(first - header.base_offset, stop - first)
    keys = _keys(replica, batch)
    headers = batch.column("__headers").to_pylist()
    values = _values(batch)
    rows: list[Row] = []
    for index, own in enumerate(headers):
        kept = [(each["key"], each["value"]) for each in own or ()]
        where = _where(shared, letter, first + index)
        rows.append((keys[index], values[index], kept + where))
    return rows


def _where(shared: SharedPartition, letter: DeadLetter, offset: int) -> list[tuple[str, bytes]]:
    texts = {
        "topic": shared.replica.topic,
        "partition": str(shared.replica.partition.partition),
        "offset": str(offset),
        "group": shared.group_id,
        "delivery.count": str(letter.delivery_count),
        "message": letter.cause,
    }
    return [(f"__dlq.errors.{name}", text.encode()) for name, text in texts.items()]


def _keys(replica: Replica, batch: pa.RecordBatch) -> list[bytes | None]:
    name = replica.config.key_column
    if not name:
        keys: list[bytes | None] = batch.column("__key").to_pylist()
        return keys
    return [
        key if key is None or isinstance(key, bytes) else str(key).encode()
        for key in batch.column(name).to_pylist()
    ]


def _values(batch: pa.RecordBatch) -> list[bytes | None]:
    """Bytes as they are; a typed row as an Arrow IPC stream of that row."""
    names = batch.schema.names[3:]
    if names == ["value"] and batch.schema.field("value").type == pa.binary():
        values: list[bytes | None] = batch.column("value").to_pylist()
        return values
    typed = batch.select(names)
    made: list[bytes | None] = []
    for index in range(batch.num_rows):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, typed.schema) as writer:
            writer.write_batch(typed.slice(index, 1))
        made.append(sink.getvalue().to_pybytes())
    return made
