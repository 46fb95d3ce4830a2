"""From the bytes of a batch to the columns that a consumer asked for."""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa

from raykafka.client.cluster.metadata import TopicMetadata
from raykafka.client.consuming.fetch_queue import FetchedBatch, FetchedFrame
from raykafka.client.consuming.rows import Deserialize, RowFormat
from raykafka.errors import CorruptMessageError, InvalidConfigError, UnknownSchemaVersionError
from raykafka.log.batch import decode_batch
from raykafka.log.batch_header import LOG_APPEND_TIME, BatchHeader, read_header, verify
from raykafka.log.one_record_runs import Run
from raykafka.log.schema import RESERVED
from raykafka.log.small_batch import read_one_record
from raykafka.model import PartitionId, TopicId, TopicPartition

_SMALL_BYTES = 16 << 10
"""A record in a larger batch is not taken out before somebody asks for it."""


class SupportsDeserialize(Protocol):
    """A deserializer object, as kafka-python has them."""

    def deserialize(self, topic: str, data: bytes) -> Any:
        """The object that ``data`` stands for."""


def as_deserialize(deserializer: Any) -> Deserialize | None:
    """A function of (topic, bytes) for what ``key_deserializer`` and ``value_deserializer`` take.

    That is None, a function of the bytes, or an object with ``deserialize(topic, bytes)``.
    """
    if deserializer is None:
        return None
    method = getattr(deserializer, "deserialize", None)
    if method is not None:
        found: Deserialize = method
        return found
    return lambda topic, data: deserializer(data)


class TopicDecoder:
    """Decodes one topic's batches, whatever schema they were written with, into one set of columns.

    Rows of an older schema get nulls in the columns added since.
    """

    def __init__(
        self,
        topic: TopicMetadata,
        columns: tuple[str, ...] | None = None,
        key_columns: tuple[str, ...] = (),
        deserialize_key: Deserialize | None = None,
        deserialize_value: Deserialize | None = None,
    ) -> None:
        """``columns`` are the value columns wanted, in that order; None takes all.

        ``key_columns`` are fetched with them: those of every topic that is fetched together.
        Raises ``InvalidConfigError`` for a column that the topic does not have.
        """
        self.topic = topic
        known = topic.value_schema.names
        for name in columns or ():
            if name not in known:
                raise InvalidConfigError(
                    f"topic {topic.name!r} has no value column {name!r}; "
                    f"it has {', '.join(map(repr, known))}"
                )
        self.value_columns = tuple(known) if columns is None else columns
        self.wanted: list[str] | None = None
        """Every column to fetch, reserved ones included; None for all."""
        if columns is not None:
            own = [topic.key_column] if topic.key_column else []
            self.wanted = list(dict.fromkeys([*RESERVED, *columns, *key_columns, *own]))
        self.format = RowFormat(
            topic.name,
            self.value_columns if topic.typed else (),
            topic.key_column,
            deserialize_key,
            deserialize_value,
        )
        self.reads_runs = not topic.typed and columns is None
        """Whether batches of one record may be read without Arrow, also with ``decode_run``."""
        self._stored = topic.storage_schemas
        self._projected = [self._project(schema) for schema in self._stored]
        self._decoded = self._projected[-1]

    def serves(self, topic: TopicMetadata) -> bool:
        """Whether fresher metadata call for no other decoder."""
        # Metadata keep the schemas' objects as long as no schema has been added.
        return (
            self.topic.topic_id == topic.topic_id
            and self.topic.storage_schemas is topic.storage_schemas
        )

    def _project(self, stored: pa.Schema) -> pa.Schema:
        if self.wanted is None:
            return stored
        return pa.schema([stored.field(name) for name in self.wanted if name in stored.names])

    def decode(
        self,
        message: Any,
        header: BatchHeader,
        partition: TopicPartition,
        offset: int,
        *,
        projected: bool,
    ) -> FetchedBatch:
        """The rows of a batch from ``offset`` on.

        ``projected`` says that the message carries the wanted columns only. Raises
        ``UnknownSchemaVersionError`` when the batch is newer than the metadata, and
        ``CorruptMessageError`` when it does not continue the log at ``offset``.
        """
        if not header.base_offset <= offset < header.next_offset:
            raise CorruptMessageError(
                f"asked for offset {offset} of {partition}, got a batch of "
                f"{header.base_offset}..{header.last_offset}"
            )
        record = None
        if self.reads_runs and header.size <= _SMALL_BYTES:
            record = read_one_record(message, header)
        appended = header.leader_flags & LOG_APPEND_TIME
        return FetchedBatch(
            partition,
            offset,
            header.next_offset,
            self._rows(message, header, offset, projected) if record is None else record,
            self.format,
            header.append_time_ms if appended else None,
            header.size / header.record_count,
        )

    def decode_run(self, run: Run, partition: TopicPartition, offset: int) -> FetchedBatch:
        """The records of several small batches of an untyped topic, of which none is missing.

        Raises ``CorruptMessageError`` when they do not continue the log at ``offset``.
        """
        if run.base_offset != offset:
            raise CorruptMessageError(
                f"asked for offset {offset} of {partition}, got a batch of {run.base_offset}"
            )
        rows = run.columns.num_rows
        return FetchedBatch(
            partition,
            offset,
            offset + rows,
            run.columns,
            self.format,
            None,
            run.size / rows,
            messages=rows,
        )

    def _rows(
        self, message: Any, header: BatchHeader, offset: int, projected: bool
    ) -> pa.RecordBatch:
        """The columns from ``offset`` on."""
        columns = self._columns(message, header, projected)
        if header.is_control:
            return columns.slice(0, 0)
        return (
            columns.slice(offset - header.base_offset) if offset > header.base_offset else columns
        )

    def _columns(self, message: Any, header: BatchHeader, projected: bool) -> pa.RecordBatch:
        if not 0 <= header.schema_id < len(self._stored):
            raise UnknownSchemaVersionError(
                f"a batch of {self.topic.name} has schema {header.schema_id}, "
                f"the newest known is {len(self._stored) - 1}"
            )
        present = self._projected[header.schema_id]
        if projected or self.wanted is None:
            batch = decode_batch(message, present, header=header)
        else:
            stored = self._stored[header.schema_id]
            batch = decode_batch(message, stored, columns=present.names, header=header)
        if len(present) == len(self._decoded):
            return batch
        return _widen(batch, self._decoded)


def decode_frame(
    decoder: TopicDecoder, frame: FetchedFrame, index: int, offset: int
) -> FetchedBatch:
    """The rows from ``offset`` on of a frame's batch number ``index``, or of the run of small ones
    that begins with it; raises as ``TopicDecoder.decode`` does, or ``CorruptMessageError``.
    """
    # Where the server left batches out, the next one begins behind the one before.
    has_gaps = frame.next_offset >= 0
    run = frame.runs.read(index) if frame.runs is not None and decoder.reads_runs else None
    if run is not None:
        start = max(offset, run.base_offset) if has_gaps else offset
        batch = decoder.decode_run(run, frame.partition, start)
    else:
        message = frame.messages[index]
        if not frame.trusted:
            identity = PartitionId(TopicId(frame.topic_id), frame.partition.partition)
            header = verify(message, identity)
        elif index == len(frame.messages) - 1:
            header = frame.last_header
        else:
            header = read_header(message)
        start = max(offset, header.base_offset) if has_gaps else offset
        batch = decoder.decode(message, header, frame.partition, start, projected=frame.projected)
    if has_gaps and index + batch.messages == len(frame.messages):
        batch.next_offset = frame.next_offset
    return batch


def _widen(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    names = set(batch.schema.names)
    columns = [
        batch.column(field.name) if field.name in names else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
