"""Puts the parts of a consumer together."""

from __future__ import annotations

from typing import NamedTuple

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.cluster.retries import Retries
from raykafka.client.consuming.fetcher import Fetcher
from raykafka.client.consuming.group_session import GroupSession
from raykafka.client.consuming.leader_watch import LeaderWatch
from raykafka.client.consuming.offset_lookup import OffsetLookup
from raykafka.client.consuming.positions import Positions
from raykafka.client.consuming.record_reader import RecordReader
from raykafka.client.consuming.subscription import Subscription
from raykafka.client.consuming.topic_view import TopicView
from raykafka.clock import Clock
from raykafka.config import ConsumerConfig


class ConsumerParts(NamedTuple):
    """What a consumer calls; the rest hangs below."""

    subscription: Subscription
    metadata: ClusterMetadata
    connections: LeaderConnections
    lookup: OffsetLookup
    fetcher: Fetcher
    reader: RecordReader
    group: GroupSession | None
    """None for a consumer without ``group_id``."""


def assemble(bootstrap: Bootstrap, config: ConsumerConfig, clock: Clock) -> ConsumerParts:
    """A consumer's parts; nobody is contacted."""
    metadata = ClusterMetadata(
        bootstrap,
        client_id=config.client_id,
        request_timeout_ms=config.request_timeout_ms,
        retry_backoff_ms=config.retry_backoff_ms,
        metadata_max_age_ms=config.metadata_max_age_ms,
        clock=clock,
    )
    subscription = Subscription()
    topics = TopicView(metadata, config)
    connections = LeaderConnections(
        lambda: metadata.secret,
        client_id=config.client_id,
        clock=clock,
        retry_backoff_ms=config.retry_backoff_ms,
        request_timeout_ms=config.request_timeout_ms,
    )
    lookup = OffsetLookup(
        connections,
        topics.leader_of,
        topics.refresh,
        isolation=config.isolation_level,
        request_timeout_ms=config.request_timeout_ms,
        retry_backoff_ms=config.retry_backoff_ms,
        clock=clock,
    )
    retries = Retries(clock, config.retry_backoff_ms)
    positions = Positions(config.auto_offset_reset, subscription, topics, lookup, retries)
    watch = LeaderWatch(config, topics, subscription, connections, retries, clock)
    fetcher = Fetcher(config, topics, subscription, connections, positions, retries, watch, clock)
    reader = RecordReader(subscription, fetcher, connections, clock)
    connections.on_lost = fetcher.on_lost
    metadata.on_update(reader.on_metadata)
    group: GroupSession | None = None
    if config.group_id:
        group = GroupSession(config, metadata, subscription, fetcher, reader, clock)
        reader.group = group
        positions.look_up_committed = group.positions.look_up_committed
    return ConsumerParts(subscription, metadata, connections, lookup, fetcher, reader, group)
