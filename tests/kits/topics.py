"""Makes topics on a local cluster, so that tests of one client need no other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pyarrow as pa

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.errors import raise_for
from raykafka.log.schema import serialize_schema
from raykafka.protocol.messages import (
    AddColumnsRequest,
    ApiKey,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    NewTopic,
)

_names = itertools.count()


def create_topic(
    bootstrap: Bootstrap,
    *,
    partitions: int = 1,
    schema: pa.Schema | None = None,
    configs: Mapping[str, str] | None = None,
    name: str = "",
) -> str:
    """A new topic, under a fresh name unless one is given; returns the name."""
    name = name or f"topic-{next(_names)}"
    new = NewTopic(
        name,
        num_partitions=partitions,
        configs=dict(configs or {}),
        schema=b"" if schema is None else serialize_schema(schema),
    )
    metadata = ClusterMetadata(bootstrap)
    try:
        answer = metadata.call(ApiKey.CREATE_TOPICS, CreateTopicsRequest([new]), timeout_ms=10_000)
    finally:
        metadata.close()
    raise_for(answer.topics[0].error_code, answer.topics[0].error_message)
    return name


def delete_topic(bootstrap: Bootstrap, name: str) -> None:
    metadata = ClusterMetadata(bootstrap)
    try:
        answer = metadata.call(ApiKey.DELETE_TOPICS, DeleteTopicsRequest([name]), timeout_ms=10_000)
    finally:
        metadata.close()
    raise_for(answer.topics[0].error_code, answer.topics[0].error_message)


def add_columns(bootstrap: Bootstrap, topic: str, columns: pa.Schema) -> None:
    """Add nullable columns to a typed topic."""
    metadata = ClusterMetadata(bootstrap)
    try:
        request = AddColumnsRequest(topic, serialize_schema(columns))
        answer = metadata.call(ApiKey.ADD_COLUMNS, request, timeout_ms=10_000)
    finally:
        metadata.close()
    raise_for(answer.error_code, answer.error_message)
