"""What a consumer knows of the topics it reads: who leads them, and how to decode them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raykafka.client.cluster.metadata import ClusterMetadata, PartitionMetadata, TopicMetadata
from raykafka.client.consuming.decoding import TopicDecoder, as_deserialize
from raykafka.client.consuming.fetch_plan import Leader
from raykafka.config import ConsumerConfig
from raykafka.log.schema import RESERVED
from raykafka.model import Endpoint, TopicPartition
from raykafka.network.local_address import is_local


class TopicView:
    """The metadata cache as a consumer sees it. Not thread-safe."""

    def __init__(self, metadata: ClusterMetadata, config: ConsumerConfig) -> None:
        self._metadata = metadata
        self._config = config
        self._deserialize_key = as_deserialize(config.key_deserializer)
        self._deserialize_value = as_deserialize(config.value_deserializer)
        self._decoders: dict[str, TopicDecoder] = {}
        self._key_columns: tuple[str, ...] = ()
        self._avoided: dict[TopicPartition, int] = {}
        """Partitions whose followers failed, with the leader epoch in which they did."""

    def topic(self, name: str) -> TopicMetadata:
        """The topic, however old; asked for when it is not known.

        Raises ``UnknownTopicOrPartitionError`` and ``ClusterUnreachableError``.
        """
        cached = self._metadata.cached(name)
        if cached is not None:
            return cached
        return self._metadata.topic(name, timeout_ms=self._config.request_timeout_ms)

    def leader_of(self, partition: TopicPartition) -> Leader | None:
        """Who leads the partition, as far as is known; None while nobody does.

        Raises what ``topic`` does, also for a partition that the topic does not have.
        """
        topic_id, found = self._place(partition)
        if found.endpoint is None:
            return None
        return Leader(found.endpoint, topic_id, found.leader_epoch)

    def source_of(self, partition: TopicPartition) -> Leader | None:
        """Where to fetch the partition from: its leader, or a follower in sync that is nearer.

        Nearest is this machine, where segments can be mapped, then ``client.rack`` (KIP-392).
        Raises as ``leader_of`` does.
        """
        topic_id, found = self._place(partition)
        if found.endpoint is None:
            return None
        endpoint = found.endpoint
        avoided = self._avoided.get(partition) == found.leader_epoch
        if found.followers and self._config.follower_fetch_enable and not avoided:
            endpoint = self._nearest([(found.leader_id, endpoint), *found.followers])
        return Leader(endpoint, topic_id, found.leader_epoch)

    def avoid_followers(self, partition: TopicPartition) -> None:
        """A follower could not serve the partition: fetch from leaders until there is another."""
        self._avoided[partition] = self._place(partition)[1].leader_epoch

    def _nearest(self, places: Sequence[tuple[int, Endpoint]]) -> Endpoint:
        """The first one of the nearest; the leader comes first."""
        rack = self._config.client_rack
        racks = {broker.broker_id: broker.rack for broker in self._metadata.brokers}

        def distance(place: tuple[int, Endpoint]) -> int:
            broker_id, endpoint = place
            if is_local(endpoint.host):
                return 0
            return 1 if rack and racks.get(broker_id) == rack else 2

        return min(places, key=distance)[1]

    def _place(self, partition: TopicPartition) -> tuple[str, PartitionMetadata]:
        """The topic's id, and what is known of the partition."""
        topic = self.topic(partition.topic)
        if partition.partition < len(topic.partitions):
            found = topic.partitions[partition.partition]
        else:
            found = self._metadata.partition(
                partition.topic, partition.partition, timeout_ms=self._config.request_timeout_ms
            )
            topic = self.topic(partition.topic)
        return topic.topic_id, found

    def fetched_from(self, endpoint: Endpoint, partitions: Iterable[TopicPartition]) -> set[str]:
        """Topics of which one of ``partitions`` is led or followed there, as far as is known."""
        found = set()
        for partition in partitions:
            topic = self._metadata.cached(partition.topic)
            if topic is None or partition.partition >= len(topic.partitions):
                continue
            place = topic.partitions[partition.partition]
            if endpoint == place.endpoint or any(endpoint == each for _, each in place.followers):
                found.add(partition.topic)
        return found

    def refresh(self, topic: str) -> None:
        """Have the topic asked for again, in the background."""
        self._metadata.request_refresh(topic)

    def fetch_columns(self, topics: Iterable[str]) -> list[str] | None:
        """The columns to ask for when these topics are fetched together; None for all.

        Raises ``InvalidConfigError`` when one of them lacks a column that was asked for.
        """
        columns = self._config.columns
        if columns is None:
            return None
        known = [self.topic(name) for name in sorted(topics)]
        key_columns = tuple(dict.fromkeys(t.key_column for t in known if t.key_column))
        if key_columns != self._key_columns:
            self._key_columns = key_columns
            self._decoders.clear()
        for topic in known:
            self.decoder(topic.name)
        if any(key not in topic.value_schema.names for key in key_columns for topic in known):
            # Servers refuse columns that a topic lacks: take all and leave out the rest here.
            return None
        return list(dict.fromkeys([*RESERVED, *columns, *key_columns]))

    def decoder(self, name: str) -> TopicDecoder:
        """Decodes the topic's batches, as of the newest schema known."""
        made = self._decoders.get(name)
        if made is not None and made.topic is self._metadata.cached(name):
            return made
        topic = self.topic(name)
        if made is not None and made.serves(topic):
            made.topic = topic
            return made
        made = self._decoders[name] = TopicDecoder(
            topic,
            self._config.columns,
            self._key_columns,
            self._deserialize_key,
            self._deserialize_value,
        )
        return made
