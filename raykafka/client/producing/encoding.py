"""From a delivery to the bytes that its leader will store."""

from __future__ import annotations

import functools
import struct

import pyarrow as pa

from raykafka.client.cluster.metadata import TopicMetadata
from raykafka.client.producing.delivery import Delivery
from raykafka.config.producer import ProducerConfig
from raykafka.errors import MessageTooLargeError, SerializationError
from raykafka.log.batch import EncodedBatch, encode_batch
from raykafka.log.schema import RESERVED, conform
from raykafka.log.small_batch import SmallRecords, encode_records
from raykafka.log.stats import column_statistics
from raykafka.model import Compression, PartitionId, TopicId


def encode(delivery: Delivery, topic: TopicMetadata, config: ProducerConfig) -> EncodedBatch:
    """Encode a delivery's records under the numbers it has; they are kept with it.

    Records of an older schema are brought to the newest one. Raises ``InvalidRecordError`` where
    they do not fit it, ``MessageTooLargeError`` over ``max_request_size``, ``SerializationError``
    where Arrow cannot encode them.
    """
    batch = delivery.batch
    assert batch is not None
    partition = _partition_id(topic.topic_id, delivery.partition)
    compression = config.compression_type
    try:
        if topic.compression != "producer":
            compression = Compression(topic.compression)
        if type(batch) is SmallRecords:
            if compression is Compression.NONE:
                encoded = encode_records(
                    batch,
                    partition,
                    producer_id=delivery.producer_id,
                    producer_epoch=delivery.producer_epoch,
                    base_sequence=delivery.base_sequence,
                    transactional=bool(config.transactional_id),
                )
                return _keep(delivery, encoded, config)
            batch = delivery.batch = batch.to_arrow()
        statistics = b""
        if topic.typed:
            if delivery.schema_id != topic.schema_id:
                batch = _to_newest_schema(batch, topic)
                delivery.batch, delivery.schema_id = batch, topic.schema_id
            statistics = column_statistics(batch)
        encoded = encode_batch(
            batch,
            partition,
            schema_id=delivery.schema_id,
            producer_id=delivery.producer_id,
            producer_epoch=delivery.producer_epoch,
            base_sequence=delivery.base_sequence,
            compression=compression,
            transactional=bool(config.transactional_id),
            stats=statistics,
        )
    except (pa.ArrowException, ValueError, TypeError, OverflowError, struct.error) as error:
        raise SerializationError(f"the batch cannot be encoded: {error}") from error
    return _keep(delivery, encoded, config)


@functools.lru_cache(maxsize=65_536)
def _partition_id(topic_id: str, partition: int) -> PartitionId:
    return PartitionId(TopicId(topic_id), partition)


def _keep(delivery: Delivery, encoded: EncodedBatch, config: ProducerConfig) -> EncodedBatch:
    header = encoded.header
    if header.size > config.max_request_size:
        raise MessageTooLargeError(
            f"the batch has {header.size} bytes, max_request_size is {config.max_request_size}; "
            "send less at once or raise it"
        )
    delivery.encoded = encoded
    delivery.max_timestamp = header.max_timestamp
    return encoded


def _to_newest_schema(batch: pa.RecordBatch, topic: TopicMetadata) -> pa.RecordBatch:
    values = conform(batch.drop_columns(list(RESERVED)), topic.value_schema)
    columns = [batch.column(name) for name in RESERVED]
    columns += [column.combine_chunks() for column in values.columns]
    return pa.RecordBatch.from_arrays(columns, schema=topic.storage_schemas[topic.schema_id])
