"""A share consumer's part in its group: it joins, hears which partitions to read, and leaves."""

from __future__ import annotations

import logging
import platform
import uuid
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.client.grouping.heartbeats import Heartbeats
from raykafka.client.grouping.member import MemberSettings, Owned
from raykafka.client.grouping.membership import Membership
from raykafka.clock import Clock
from raykafka.config import ConsumerConfig
from raykafka.errors import ClientClosedError, RaykafkaError
from raykafka.internal_topics import CONSUMER_OFFSETS
from raykafka.model import TopicPartition
from raykafka.network.local_address import is_local

logger = logging.getLogger(__name__)


class Assignment(Protocol):
    """Who says which partitions a share consumer reads."""

    member_id: str

    def subscribe(self, topics: Iterable[str], pattern: str) -> None:
        """Want these topics, or those whose names match."""

    def partitions(self) -> Collection[TopicPartition]:
        """The partitions to read now. Raises what the coordinator refuses this member with."""

    def start_poll(self) -> None:
        """The application waits for records."""

    def end_poll(self) -> None:
        """The application works on records."""

    def close(self, timeout_ms: int) -> None:
        """Leave the group."""


class ShareSession:
    """``Assignment`` by the group's coordinator, which gives a partition to several members."""

    def __init__(
        self,
        config: ConsumerConfig,
        metadata: ClusterMetadata,
        clock: Clock,
        on_news: Callable[[], None],
    ) -> None:
        """``on_news`` is called, in another thread, when ``partitions`` may have changed."""
        self._config = config
        self._metadata = metadata
        self._clock = clock
        self._on_news = on_news
        self._assigned: list[TopicPartition] = []
        self._subscribed = False
        self.member_id = uuid.uuid4().hex
        self._membership = Membership(
            MemberSettings(
                config.group_id,
                self.member_id,
                client_id=config.client_id,
                rack_id=config.client_rack,
                max_poll_interval_ms=config.max_poll_interval_ms,
                retry_backoff_ms=config.retry_backoff_ms,
                share=True,
            )
        )
        self._heartbeats = Heartbeats(
            self._membership,
            CoordinatorCalls(
                metadata,
                CONSUMER_OFFSETS,
                client_id=config.client_id,
                request_timeout_ms=config.request_timeout_ms,
                retry_backoff_ms=config.retry_backoff_ms,
                clock=clock,
            ),
            LeaderConnections(
                lambda: metadata.secret,
                client_id=config.client_id,
                clock=clock,
                retry_backoff_ms=config.retry_backoff_ms,
                request_timeout_ms=config.request_timeout_ms,
            ),
            clock,
            host=self._host,
            request_timeout_ms=config.request_timeout_ms,
            on_work=on_news,
            on_tick=lambda _: None,
        )

    def subscribe(self, topics: Iterable[str], pattern: str) -> None:
        """See ``Assignment``."""
        self._subscribed = True
        with self._heartbeats.changing() as membership:
            membership.subscribe(topics, pattern, self._clock.monotonic_ms())
        self._heartbeats.start()

    def partitions(self) -> Collection[TopicPartition]:
        """See ``Assignment``."""
        while True:
            with self._heartbeats.changed:
                failure, work = self._membership.failure, self._membership.work()
            if failure is not None:
                raise failure
            if work is None:
                return self._assigned
            now_ms = self._clock.monotonic_ms()
            with self._heartbeats.changing() as membership:
                if work.lost is not None:
                    logger.warning("%s", membership.reason)
                    membership.lost(now_ms)
                elif membership.advance(work):
                    membership.reconciled(now_ms)
                owned = membership.owned
            self._take(owned)

    def start_poll(self) -> None:
        """See ``Assignment``."""
        with self._heartbeats.changed:
            self._membership.start_poll(self._clock.monotonic_ms())

    def end_poll(self) -> None:
        """See ``Assignment``."""
        with self._heartbeats.changed:
            self._membership.end_poll(self._clock.monotonic_ms())

    def close(self, timeout_ms: int) -> None:
        """See ``Assignment``; what goes wrong is logged: the session ends by itself."""
        try:
            if self._subscribed:
                with self._heartbeats.changing() as membership:
                    membership.leave(self._clock.monotonic_ms())
                if not self._heartbeats.wait_idle(timeout_ms):
                    logger.warning(
                        "the coordinator of group %s was not told that a member leaves",
                        self._config.group_id,
                    )
        finally:
            self._heartbeats.stop()

    def abandon(self) -> None:
        """The consumer has been dropped: let the thread end, and so the member's session."""
        self._heartbeats.abandon()

    def _take(self, owned: Owned) -> None:
        stale = {each.topic for each in owned if not self._knows(each.topic, each.topic_id)}
        if stale:
            try:
                self._metadata.refresh(stale, timeout_ms=self._config.request_timeout_ms)
            except ClientClosedError:
                raise
            except RaykafkaError as error:
                logger.warning("metadata of new topics did not come: %s", error)
        self._assigned = sorted({each.place for each in owned})

    def _knows(self, topic: str, topic_id: str) -> bool:
        known = self._metadata.cached(topic)
        return known is not None and known.topic_id == topic_id

    def _host(self) -> str:
        """This machine's address as the cluster knows it, where brokers run here."""
        for broker in self._metadata.brokers:
            if is_local(broker.host):
                return broker.host
        return platform.node()
