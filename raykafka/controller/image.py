"""The cluster's metadata as a value: immutable for whoever reads it, cheap to bring up to date.

A reader keeps an image for as long as it likes. ``Draft`` is the one place where a new image grows
out of an old one: it copies a map, or a topic's partitions, at its first change and shares all
else, so a thousand leader changes in one topic copy that topic once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from raykafka.model import PartitionId, TopicId

NO_LEADER: Final = -1
_EMPTY: Final[Mapping[Any, Any]] = MappingProxyType({})


class SlotKey(NamedTuple):
    """A place in a broker's pool of partition actors."""

    broker_id: int
    slot: int


class PartitionState(msgspec.Struct, frozen=True, gc=False):
    """One partition. ``replicas`` are broker ids in order of preference, other sets in that order.

    While a reassignment is under way (KIP-455) ``replicas`` holds the target first and then what is
    to be given up; the target is ``replicas`` without ``removing``.
    """

    replicas: tuple[int, ...]
    slots: tuple[int, ...]
    isr: tuple[int, ...]
    """Empty only while there is no leader."""
    leader: int
    leader_epoch: int
    opened_epoch: int = -1
    """Newest leader epoch whose leader opened the log; -1 when it has never held data."""
    partition_epoch: int = 0
    """Grows with every change but those of ``opened_epoch`` and ``opened_by`` (KIP-497)."""
    elr: tuple[int, ...] = ()
    """Out of sync, but with every record below the high watermark (KIP-966): may lead."""
    last_known_leader: int = NO_LEADER
    """Led before the partition lost its leader; may lead when ISR and ELR are empty (KIP-966)."""
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    opened_by: tuple[int, ...] = ()
    """Replicas whose log was open at least once: it is never taken for a new one."""

    @property
    def online(self) -> bool:
        """Whether its leader serves it: elected, and the log is open."""
        return self.leader != NO_LEADER and self.opened_epoch == self.leader_epoch

    def slot_of(self, broker_id: int) -> SlotKey:
        """Where that broker keeps its replica; raises ``ValueError`` when it has none."""
        return SlotKey(broker_id, self.slots[self.replicas.index(broker_id)])

    def houses(self, slot: SlotKey) -> bool:
        """Whether one of the replicas is kept in that slot."""
        return slot.broker_id in self.replicas and self.slot_of(slot.broker_id) == slot

    @property
    def target(self) -> tuple[int, ...]:
        """The replicas that shall be left when no reassignment is under way."""
        return tuple(broker for broker in self.replicas if broker not in self.removing)

    @property
    def original(self) -> tuple[int, ...]:
        """The replicas as they were before the reassignment that is under way."""
        return tuple(broker for broker in self.replicas if broker not in self.adding)

    def effective_min_isr(self, min_insync_replicas: int) -> int:
        """How many replicas in sync a write with acks=all takes; never more than there are."""
        return max(1, min(min_insync_replicas, len(self.original), len(self.target)))

    def may_lead(self, broker_id: int) -> bool:
        """Whether a clean election may choose that replica once its actor runs."""
        if broker_id in self.isr or broker_id in self.elr:
            return True
        return not self.isr and not self.elr and broker_id == self.last_known_leader

    def is_trusted(self, broker_id: int) -> bool:
        """Whether that replica may hold acknowledged records which no other one has."""
        return broker_id in self.isr or broker_id in self.elr or broker_id == self.last_known_leader


class TopicState(msgspec.Struct, frozen=True):
    """One topic."""

    topic_id: TopicId
    name: str
    partitions: tuple[PartitionState, ...]
    configs: Mapping[str, str]
    schemas: tuple[bytes, ...]
    settings_version: int = 0
    """Grows with every change of configs or schemas: replicas are told when theirs is older."""


class BrokerState(msgspec.Struct, frozen=True):
    """One broker, registered for good; ``node_id`` and ``host`` are those of its last start."""

    broker_id: int
    incarnation: int
    node_id: str
    host: str
    rack: str
    slots: int
    fenced: bool = True
    pid: int = 0
    directory_id: str = ""
    """Of the log directory that the broker had when it was last unfenced."""
    unfenced_incarnation: int = 0
    """The newest incarnation that was ever unfenced: its log directory has been judged."""
    draining: bool = False
    """Takes no new replicas: an operator moves away what it has."""
    stopping: bool = False
    """About to stop (Kafka's controlled shutdown): it neither leads nor joins an ISR any more."""


class PartitionActorState(msgspec.Struct, frozen=True):
    """The newest partition actor of one slot."""

    incarnation: int
    alive: bool = False
    host: str = ""
    port: int = 0
    pid: int = 0


class PendingRemoval(msgspec.Struct, frozen=True):
    """Replicas of a deleted topic, or given up by a reassignment, that may still be on disk."""

    topic: str
    slots: tuple[SlotKey, ...]


class MetadataImage(msgspec.Struct, frozen=True):
    """Everything the controller knows that must survive it."""

    cluster_id: str = ""
    cluster_name: str = ""
    controller_epoch: int = 0
    controller_host: str = ""
    controller_port: int = 0
    next_producer_id: int = 0
    topics: Mapping[TopicId, TopicState] = _EMPTY
    topic_ids: Mapping[str, TopicId] = _EMPTY
    brokers: Mapping[int, BrokerState] = _EMPTY
    actors: Mapping[SlotKey, PartitionActorState] = _EMPTY
    removals: Mapping[PartitionId, PendingRemoval] = _EMPTY
    broker_configs: Mapping[int, Mapping[str, str]] = _EMPTY
    """Dynamic settings by broker id; -1 holds those of every broker."""
    retired: Mapping[int, str] = _EMPTY
    """Node ids by the ids of brokers that were unregistered: neither is used again."""

    def topic(self, name: str) -> TopicState | None:
        """The topic of that name, or None."""
        topic_id = self.topic_ids.get(name)
        return None if topic_id is None else self.topics[topic_id]

    def live_brokers(self) -> list[BrokerState]:
        """Brokers that are not fenced, by id."""
        return [broker for _, broker in sorted(self.brokers.items()) if not broker.fenced]

    def placeable_brokers(self) -> list[BrokerState]:
        """Live brokers that take new replicas, by id."""
        return [b for b in self.live_brokers() if not b.draining and not b.stopping]

    def leader_actor(self, partition: PartitionState) -> PartitionActorState | None:
        """The running actor that leads the partition, or None."""
        if partition.leader == NO_LEADER:
            return None
        actor = self.actors.get(partition.slot_of(partition.leader))
        return actor if actor is not None and actor.alive else None

    def actor_runs(self, slot: SlotKey) -> bool:
        """Whether the slot's partition actor is alive."""
        actor = self.actors.get(slot)
        return actor is not None and actor.alive

    def may_serve(self, slot: SlotKey) -> bool:
        """Whether the slot's partition actor is alive and may lead and be in sync."""
        return self.actor_runs(slot) and not self.brokers[slot.broker_id].stopping

    def replica_count(self, broker_id: int) -> int:
        """How many replicas the broker holds."""
        return sum(
            broker_id in partition.replicas
            for topic in self.topics.values()
            for partition in topic.partitions
        )

    def preferred_leads(self) -> dict[SlotKey, int]:
        """Of how many partitions each slot holds the preferred leader; those without left out."""
        leads: dict[SlotKey, int] = {}
        for topic in self.topics.values():
            for partition in topic.partitions:
                key = SlotKey(partition.replicas[0], partition.slots[0])
                leads[key] = leads.get(key, 0) + 1
        return leads

    def slot_loads(self) -> dict[SlotKey, int]:
        """How many replicas each slot holds; slots without any are left out."""
        loads: dict[SlotKey, int] = {}
        for topic in self.topics.values():
            for partition in topic.partitions:
                for broker_id, slot in zip(partition.replicas, partition.slots, strict=True):
                    key = SlotKey(broker_id, slot)
                    loads[key] = loads.get(key, 0) + 1
        return loads


class Draft:
    """A new image in the making; see the module's docstring. Not to be shared."""

    def __init__(self, image: MetadataImage) -> None:
        self._image = image
        self._scalars: dict[str, Any] = {}
        self._maps: dict[str, dict[Any, Any]] = {}
        self._partitions: dict[TopicId, list[PartitionState]] = {}

    @property
    def topics(self) -> dict[TopicId, TopicState]:
        """Topics; their partitions are changed through ``partitions`` only."""
        return self._writable("topics")

    @property
    def topic_ids(self) -> dict[str, TopicId]:
        """Topic ids by name."""
        return self._writable("topic_ids")

    @property
    def brokers(self) -> dict[int, BrokerState]:
        """Brokers by id."""
        return self._writable("brokers")

    @property
    def actors(self) -> dict[SlotKey, PartitionActorState]:
        """Partition actors by slot."""
        return self._writable("actors")

    @property
    def removals(self) -> dict[PartitionId, PendingRemoval]:
        """Replicas to be removed from disk."""
        return self._writable("removals")

    @property
    def broker_configs(self) -> dict[int, Mapping[str, str]]:
        """Dynamic settings by broker id."""
        return self._writable("broker_configs")

    @property
    def retired(self) -> dict[int, str]:
        """Brokers that were unregistered."""
        return self._writable("retired")

    def partitions(self, topic_id: TopicId) -> list[PartitionState]:
        """The topic's partitions, to be changed in place; raises ``KeyError`` for no such topic."""
        partitions = self._partitions.get(topic_id)
        if partitions is None:
            partitions = self._partitions[topic_id] = list(self.topics[topic_id].partitions)
        return partitions

    def put_topic(self, topic: TopicState) -> None:
        """Add the topic or replace it, partitions included."""
        self._partitions.pop(topic.topic_id, None)
        self.topics[topic.topic_id] = topic
        self.topic_ids[topic.name] = topic.topic_id

    def current_topic(self, topic_id: TopicId) -> TopicState:
        """The topic with the changes so far; raises ``KeyError`` for no such topic."""
        partitions = self._partitions.pop(topic_id, None)
        if partitions is not None:
            changed = msgspec.structs.replace(self.topics[topic_id], partitions=tuple(partitions))
            self.topics[topic_id] = changed
        return self.topics[topic_id]

    def drop_topic(self, topic_id: TopicId) -> TopicState:
        """Remove the topic and return it as it was last."""
        topic = self.current_topic(topic_id)
        del self.topics[topic_id]
        del self.topic_ids[topic.name]
        return topic

    def set(self, **scalars: int | str) -> None:
        """Change single-valued fields of the image."""
        self._scalars.update(scalars)

    def freeze(self) -> MetadataImage:
        """The finished image; the draft must not be used afterwards."""
        for topic_id in list(self._partitions):
            self.current_topic(topic_id)
        if not self._scalars and not self._maps:
            return self._image
        return msgspec.structs.replace(self._image, **self._scalars, **self._maps)

    def _writable(self, name: str) -> dict[Any, Any]:
        found = self._maps.get(name)
        if found is None:
            found = self._maps[name] = dict(getattr(self._image, name))
        return found
