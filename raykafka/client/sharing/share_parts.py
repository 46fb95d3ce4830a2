"""Puts the parts of a share consumer together."""

from __future__ import annotations

import weakref
from typing import NamedTuple

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.cluster.retries import Retries
from raykafka.client.consuming.topic_view import TopicView
from raykafka.client.sharing.acknowledgements import Acknowledgements
from raykafka.client.sharing.share_fetcher import ShareFetcher
from raykafka.client.sharing.share_session import Assignment, ShareSession
from raykafka.clock import Clock
from raykafka.config import ConsumerConfig


class ShareParts(NamedTuple):
    """What a share consumer calls; the rest hangs below."""

    metadata: ClusterMetadata
    connections: LeaderConnections
    acknowledgements: Acknowledgements
    fetcher: ShareFetcher
    assignment: Assignment

    def close(self) -> None:
        """Close every connection."""
        self.metadata.close()
        self.connections.close()
        self.fetcher.close()


def assemble(
    owner: object,
    bootstrap: Bootstrap,
    config: ConsumerConfig,
    clock: Clock,
    assignment: Assignment | None,
) -> ShareParts:
    """The parts of ``owner``, a share consumer; nobody is contacted."""
    metadata = ClusterMetadata(
        bootstrap,
        client_id=config.client_id,
        request_timeout_ms=config.request_timeout_ms,
        retry_backoff_ms=config.retry_backoff_ms,
        metadata_max_age_ms=config.metadata_max_age_ms,
        clock=clock,
    )
    connections = LeaderConnections(
        lambda: metadata.secret,
        client_id=config.client_id,
        clock=clock,
        retry_backoff_ms=config.retry_backoff_ms,
        request_timeout_ms=config.request_timeout_ms,
    )
    if assignment is None:
        assignment = session = ShareSession(config, metadata, clock, connections.wake)
        # One that is dropped without having been closed must not stay a member for ever.
        weakref.finalize(owner, session.abandon).atexit = False
    acknowledgements = Acknowledgements()
    fetcher = ShareFetcher(
        config,
        assignment.member_id,
        TopicView(metadata, config),
        connections,
        Retries(clock, config.retry_backoff_ms),
        acknowledgements,
        clock,
    )
    connections.on_lost = fetcher.on_lost
    metadata.on_update(connections.wake)
    return ShareParts(metadata, connections, acknowledgements, fetcher, assignment)
