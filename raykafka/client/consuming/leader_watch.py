"""Finds out about leaders that are gone without their connections having been closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.cluster.retries import Retries
from raykafka.client.consuming.fetch_session import FetchSession
from raykafka.client.consuming.subscription import Subscription
from raykafka.client.consuming.topic_view import TopicView
from raykafka.clock import Clock
from raykafka.config import ConsumerConfig
from raykafka.errors import RaykafkaError
from raykafka.model import LATEST_TIMESTAMP
from raykafka.protocol.messages import ApiKey, ListOffsetsPartition, ListOffsetsRequest

_QUIET_MS: Final = 1000
"""A leader that has said nothing for so long is asked for something small."""
_SUSPECT_MS: Final = 500
"""One that does not answer in that time may have been replaced: metadata are asked for."""


class LeaderWatch:
    """A push session is silent as long as nothing is written, and so is a machine that lost power.

    So a leader that has been silent for a while is asked whether it is there. If it does not answer
    soon the controller is asked who leads, again and again; if it does not answer within
    ``request_timeout_ms`` it is given up. Metadata are asked for anew every
    ``metadata_max_age_ms``, in case a leader moved and nobody said so.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        topics: TopicView,
        subscription: Subscription,
        connections: LeaderConnections,
        retries: Retries,
        clock: Clock,
    ) -> None:
        self._timeout_ms = config.request_timeout_ms
        self._max_age_ms = config.metadata_max_age_ms
        self._topics = topics
        self._subscription = subscription
        self._connections = connections
        self._retries = retries
        self._clock = clock
        self._metadata_due_ms = clock.monotonic_ms() + config.metadata_max_age_ms

    def check(self, sessions: Sequence[FetchSession]) -> None:
        """Look after every open session, and be due again in time."""
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._metadata_due_ms:
            self._metadata_due_ms = now_ms + self._max_age_ms
            for topic in {partition.topic for partition in self._subscription}:
                self._topics.refresh(topic)
        self._retries.at(self._metadata_due_ms)
        for session in sessions:
            self._check(session, now_ms)

    def _check(self, session: FetchSession, now_ms: int) -> None:
        quiet_ms = min(self._timeout_ms // 3, _QUIET_MS)
        if session.probed_ms is None and now_ms - session.heard_ms >= quiet_ms:
            session.probed_ms = now_ms
            self._probe(session)
        if session.probed_ms is None:
            self._retries.at(session.heard_ms + quiet_ms)
        elif now_ms - session.probed_ms < self._timeout_ms:
            if now_ms - session.probed_ms >= _SUSPECT_MS:
                for topic in {partition.topic for partition in session.expected}:
                    self._topics.refresh(topic)
            self._retries.at(min(now_ms + _SUSPECT_MS, session.probed_ms + self._timeout_ms))
        else:
            self._connections.lose(session.endpoint)

    def _probe(self, session: FetchSession) -> None:
        connection = self._connections.get(session.endpoint)
        asked = next(iter(session.expected.items()), None)
        if connection is None or asked is None:
            return
        partition, planned = asked
        place = ListOffsetsPartition(planned.topic_id, partition.partition, LATEST_TIMESTAMP)
        try:
            connection.send(
                ApiKey.LIST_OFFSETS,
                ListOffsetsRequest([place]),
                on_response=lambda *_: session.heard(self._clock.monotonic_ms()),
            )
        except RaykafkaError:
            self._connections.lose(session.endpoint)
