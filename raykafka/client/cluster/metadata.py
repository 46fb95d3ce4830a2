"""The client's view of the cluster: topics, leaders and schemas, fetched from the controller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raykafka.client.cluster.bootstrap import Bootstrap
from raykafka.client.cluster.controller_link import ControllerLink
from raykafka.client.cluster.deadline import Backoff, Deadline
from raykafka.clock import Clock, SystemClock
from raykafka.errors import (
    ClientClosedError,
    LeaderNotAvailableError,
    RaykafkaError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raykafka.log.schema import (
    UNTYPED_SCHEMA,
    UNTYPED_VALUE_SCHEMA,
    deserialize_schema,
    storage_schema,
)
from raykafka.model import Endpoint
from raykafka.protocol.messages import (
    ApiKey,
    BrokerInfo,
    Message,
    MetadataRequest,
    MetadataResponse,
    PartitionInfo,
    TopicInfo,
)

METADATA_MAX_AGE_MS = 300_000


@dataclass(frozen=True, slots=True)
class PartitionMetadata:
    """One partition and who leads it."""

    partition: int
    leader_id: int
    leader_epoch: int
    endpoint: Endpoint | None
    """Listener of the leader; None while there is no leader."""
    replicas: tuple[int, ...] = ()
    isr: tuple[int, ...] = ()
    followers: tuple[tuple[int, Endpoint], ...] = ()
    """Broker ids and listeners of followers that a reader near them may fetch from."""
    problem: RaykafkaError | None = field(default=None, compare=False)
    """Why there is no leader."""
    offline_replicas: tuple[int, ...] = ()
    eligible_leader_replicas: tuple[int, ...] = ()
    """Out of sync, but may lead when nobody in sync can (KIP-966)."""
    adding_replicas: tuple[int, ...] = ()
    removing_replicas: tuple[int, ...] = ()

    @property
    def target_replicas(self) -> tuple[int, ...]:
        """The replicas that are left when the reassignment under way, if any, is complete."""
        return tuple(broker for broker in self.replicas if broker not in self.removing_replicas)


@dataclass(frozen=True, slots=True)
class TopicMetadata:
    """One topic as the controller described it."""

    name: str
    topic_id: str
    partitions: tuple[PartitionMetadata, ...]
    schemas: tuple[pa.Schema, ...] = ()
    """Value schemas of a typed topic by schema id; empty for an untyped one."""
    storage_schemas: tuple[pa.Schema, ...] = (UNTYPED_SCHEMA,)
    """What batches are encoded and decoded with, by schema id: reserved columns in front."""
    key_column: str = ""
    compression: str = "none"
    max_message_bytes: int = 0
    timestamp_type: int = 0
    led: Sequence[int] = field(init=False)
    """Partitions that have a leader; all of them where none has."""

    def __post_init__(self) -> None:
        led = tuple(place.partition for place in self.partitions if place.endpoint is not None)
        object.__setattr__(self, "led", led or range(len(self.partitions)))

    @property
    def typed(self) -> bool:
        """Whether the topic has an Arrow schema of its own."""
        return bool(self.schemas)

    @property
    def schema_id(self) -> int:
        """Id of the newest schema; 0 for an untyped topic."""
        return max(0, len(self.schemas) - 1)

    @property
    def value_schema(self) -> pa.Schema:
        """The newest value columns: those of the topic's schema, or ``value: binary``."""
        return self.schemas[-1] if self.schemas else UNTYPED_VALUE_SCHEMA


class ClusterMetadata:
    """A cache over one connection to the controller.

    Thread-safe; reads of what is cached take no lock. ``metadata_offset`` says how much of the
    cluster's metadata log an answer reflects; an answer older than what is known is thrown away,
    so that the view never goes back.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        *,
        client_id: str = "raykafka",
        request_timeout_ms: int = 30_000,
        retry_backoff_ms: int = 20,
        metadata_max_age_ms: int = METADATA_MAX_AGE_MS,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._link = ControllerLink(
            bootstrap,
            client_id=client_id,
            clock=self._clock,
            request_timeout_ms=request_timeout_ms,
            retry_backoff_ms=retry_backoff_ms,
        )
        self._retry_backoff_ms = retry_backoff_ms
        self._max_age_ms = metadata_max_age_ms
        self._lock = threading.Lock()
        self._topics: dict[str, TopicMetadata] = {}
        self._fetched_ms: dict[str, int] = {}
        self._infos: dict[str, TopicInfo] = {}
        self._brokers: tuple[BrokerInfo, ...] = ()
        self._cluster_id = ""
        self._offset = -1
        self._listeners: list[Callable[[], None]] = []
        self._wanted: set[str] = set()
        self._refresher: threading.Thread | None = None

    @property
    def cluster_id(self) -> str:
        """Id of the cluster; empty before the first answer."""
        return self._cluster_id

    @property
    def brokers(self) -> tuple[BrokerInfo, ...]:
        """Brokers as of the last answer."""
        return self._brokers

    @property
    def secret(self) -> bytes:
        """The cluster's secret, for connections to partition leaders."""
        return self._link.secret

    @property
    def closed(self) -> bool:
        """Whether ``close`` has been called."""
        return self._link.closed

    def cached(self, name: str) -> TopicMetadata | None:
        """What is known of the topic, however old; never asks anybody."""
        return self._topics.get(name)

    def topic(self, name: str, *, timeout_ms: float | None = 60_000) -> TopicMetadata:
        """The topic, from the cache unless that is older than ``metadata_max_age_ms``.

        Raises ``UnknownTopicOrPartitionError`` after the controller has said so twice,
        ``ClusterUnreachableError`` when nobody answers within ``timeout_ms``.
        """
        found = self._topics.get(name)
        if found is not None and not self._too_old(name):
            return found
        return self._fetch_topic(name, Deadline(self._clock, timeout_ms), found)

    def partition(
        self, name: str, partition: int, *, timeout_ms: float | None = 60_000
    ) -> PartitionMetadata:
        """One partition, with or without a leader.

        A number out of the cached range is asked for again before
        ``UnknownTopicOrPartitionError`` is raised: partitions may have been added.
        """
        deadline = Deadline(self._clock, timeout_ms)
        topic = self.topic(name, timeout_ms=timeout_ms)
        if partition >= len(topic.partitions):
            topic = self._fetch_topic(name, deadline, None)
        if not 0 <= partition < len(topic.partitions):
            raise UnknownTopicOrPartitionError(
                f"topic {name!r} has partitions 0 to {len(topic.partitions) - 1}, not {partition}"
            )
        return topic.partitions[partition]

    def leader(
        self, name: str, partition: int, *, timeout_ms: float | None = 60_000
    ) -> PartitionMetadata:
        """The partition once it has a leader: ``endpoint`` of the answer is set.

        Raises ``LeaderNotAvailableError`` when it still has none after ``timeout_ms``.
        """
        deadline = Deadline(self._clock, timeout_ms)
        backoff = Backoff(self._retry_backoff_ms)
        while True:
            found = self.partition(name, partition, timeout_ms=timeout_ms)
            if found.endpoint is not None:
                return found
            pause = backoff.next_ms()
            if deadline.remaining_ms(pause + 1) <= pause:
                raise LeaderNotAvailableError(
                    f"{name}-{partition} has had no leader for {timeout_ms:g} ms; "
                    "its broker may be down (see `raykafka status`)"
                )
            self._link.pause(pause)
            self.refresh([name], timeout_ms=deadline.remaining_ms(1 << 31))

    def refresh(
        self, names: Iterable[str] | None = None, *, timeout_ms: float | None = 60_000
    ) -> None:
        """Ask the controller now: about ``names``, or about every topic asked for so far."""
        asked = sorted(self._topics) if names is None else sorted(set(names))
        self._ask(asked, timeout_ms)

    def all_topics(self, *, timeout_ms: float | None = 60_000) -> Mapping[str, TopicMetadata]:
        """Every topic of the cluster, asked for now."""
        return dict(self._ask(None, timeout_ms))

    def refresh_if_old(self, name: str) -> None:
        """``request_refresh`` if the topic was last heard of ``metadata_max_age_ms`` ago."""
        if self._too_old(name):
            self.request_refresh(name)

    def request_refresh(self, name: str) -> None:
        """Have the topic asked for again in the background, soon; listeners hear of the answer."""
        with self._lock:
            self._wanted.add(name)
            if self._refresher is not None or self._link.closed:
                return
            self._refresher = threading.Thread(
                target=self._refresh_wanted, name="raykafka-metadata", daemon=True
            )
            self._refresher.start()

    def on_update(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every answer, in the thread that received it; must not block."""
        self._listeners.append(listener)

    def call(self, api_key: ApiKey, request: Message, *, timeout_ms: float | None) -> Any:
        """Any other request to the controller; see ``ControllerLink.call``."""
        return self._link.call(api_key, request, timeout_ms=timeout_ms)

    def pause(self, milliseconds: int) -> None:
        """Wait, but not past ``close``, which makes this raise ``ClientClosedError``."""
        self._link.pause(milliseconds)

    def close(self) -> None:
        """Close the connection. Idempotent; blocked calls end with ``ClientClosedError``."""
        self._link.close()

    def _too_old(self, name: str) -> bool:
        age = self._clock.monotonic_ms() - self._fetched_ms.get(name, 0)
        return age > self._max_age_ms

    def _fetch_topic(
        self, name: str, deadline: Deadline, fallback: TopicMetadata | None
    ) -> TopicMetadata:
        for attempt in range(2):
            if attempt:
                self._link.pause(min(deadline.remaining_ms(1 << 31), 5 * self._retry_backoff_ms))
            try:
                self._ask([name], deadline.remaining_ms(1 << 31))
            except ClientClosedError:
                raise
            except RaykafkaError as error:
                # Only its age made us ask: what is cached serves while the controller is away.
                if fallback is not None and error.retriable:
                    return fallback
                raise
            found = self._topics.get(name)
            if found is not None:
                return found
            info = self._infos.get(name)
            if info is not None and info.error_code != UnknownTopicOrPartitionError.code:
                raise error_for(info.error_code, info.error_message)
        raise UnknownTopicOrPartitionError(f"topic {name!r} does not exist; create it first")

    def _refresh_wanted(self) -> None:
        backoff = Backoff(self._retry_backoff_ms)
        while True:
            with self._lock:
                names = sorted(self._wanted)
                self._wanted.clear()
                if not names or self._link.closed:
                    self._refresher = None
                    return
            try:
                self._ask(names, 10_000)
                backoff.reset()
                self._link.pause(self._retry_backoff_ms)
            except ClientClosedError:
                continue
            except RaykafkaError as error:
                self._retry_later(names, error, backoff)

    def _retry_later(self, names: list[str], error: RaykafkaError, backoff: Backoff) -> None:
        if not error.retriable:
            return
        try:
            self._link.pause(backoff.next_ms())
        except ClientClosedError:
            return
        with self._lock:
            self._wanted.update(names)

    def _ask(self, names: list[str] | None, timeout_ms: float | None) -> dict[str, TopicMetadata]:
        response = self._link.call(ApiKey.METADATA, MetadataRequest(names), timeout_ms=timeout_ms)
        with self._lock:
            self._absorb(response, replace=names is None)
            topics = self._topics
        for listener in self._listeners:
            listener()
        return topics

    def _absorb(self, response: MetadataResponse, *, replace: bool) -> None:
        if response.metadata_offset < self._offset:
            return
        self._offset = response.metadata_offset
        self._cluster_id = response.cluster_id
        self._brokers = tuple(response.brokers)
        topics = {} if replace else dict(self._topics)
        infos = {} if replace else dict(self._infos)
        now_ms = self._clock.monotonic_ms()
        for info in response.topics:
            infos[info.name] = info
            if info.error_code == 0:
                topics[info.name] = _topic_metadata(info, self._infos.get(info.name), self._topics)
                self._fetched_ms[info.name] = now_ms
            else:
                topics.pop(info.name, None)
        self._topics, self._infos = topics, infos


def _topic_metadata(
    info: TopicInfo, before: TopicInfo | None, known: Mapping[str, TopicMetadata]
) -> TopicMetadata:
    if before is not None and info.name in known and before.schemas == info.schemas:
        # The same objects as before: Arrow's layout of a schema is remembered per object.
        schemas, storage = known[info.name].schemas, known[info.name].storage_schemas
    else:
        schemas = tuple(deserialize_schema(data) for data in info.schemas)
        storage = tuple(storage_schema(schema) for schema in schemas) or (UNTYPED_SCHEMA,)
    partitions = tuple(_partition_metadata(partition) for partition in info.partitions)
    return TopicMetadata(
        name=info.name,
        topic_id=info.topic_id,
        partitions=partitions,
        schemas=schemas,
        storage_schemas=storage,
        key_column=info.key_column,
        compression=info.compression,
        max_message_bytes=info.max_message_bytes,
        timestamp_type=info.timestamp_type,
    )


def _partition_metadata(info: PartitionInfo) -> PartitionMetadata:
    led = info.leader_id >= 0 and info.port > 0 and info.error_code == 0
    return PartitionMetadata(
        partition=info.partition,
        leader_id=info.leader_id,
        leader_epoch=info.leader_epoch,
        endpoint=Endpoint(info.host, info.port) if led else None,
        replicas=tuple(info.replicas),
        isr=tuple(info.isr),
        followers=tuple(
            (each.broker_id, Endpoint(each.host, each.port)) for each in info.followers
        ),
        problem=error_for(info.error_code, info.error_message) if info.error_code else None,
        offline_replicas=tuple(info.offline_replicas),
        eligible_leader_replicas=tuple(info.eligible_leader_replicas),
        adding_replicas=tuple(info.adding_replicas),
        removing_replicas=tuple(info.removing_replicas),
    )
