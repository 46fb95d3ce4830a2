"""What is known of a topic, gathered from the controller and from the partition actors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from raykafka.client.admin import Admin
    from raykafka.client.cluster.metadata import TopicMetadata
    from raykafka.protocol.messages import LogDirPartition


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """One partition; what only its actor knows is None while that does not run."""

    number: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    log_start_offset: int | None
    log_end_offset: int | None
    size_bytes: int | None
    segments: int | None
    damaged: tuple[tuple[int, int], ...]
    """Ranges of offsets that cannot be read, end exclusive."""
    problem: str = ""
    """Why nobody leads the partition."""
    offline: tuple[int, ...] = ()
    """Replicas whose actors do not run."""
    eligible: tuple[int, ...] = ()
    """Out of sync, but may lead when nobody in sync can."""
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """One topic."""

    name: str
    topic_id: str
    schema: pa.Schema | None
    """None for an untyped topic."""
    key_column: str
    partitions: tuple[PartitionFacts, ...]

    @property
    def records(self) -> int | None:
        """Records that can be read; None while a partition's actor does not run."""
        counts = [
            part.log_end_offset - part.log_start_offset
            for part in self.partitions
            if part.log_end_offset is not None and part.log_start_offset is not None
        ]
        return sum(counts) if len(counts) == len(self.partitions) else None

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, of the partitions whose actors run."""
        return sum(part.size_bytes or 0 for part in self.partitions)

    @property
    def health(self) -> str:
        """``ok``, or what is wrong."""
        counts = {
            "offline": sum(part.leader < 0 for part in self.partitions),
            "under-replicated": sum(
                part.leader >= 0 and not set(part.replicas) - set(part.adding) <= set(part.isr)
                for part in self.partitions
            ),
            "damaged": sum(bool(part.damaged) for part in self.partitions),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "ok"

    def summary(self) -> dict[str, object]:
        """For ``topic list --json``."""
        return {
            "name": self.name,
            "topic_id": self.topic_id,
            "partitions": len(self.partitions),
            "typed": self.schema is not None,
            "records": self.records,
            "size_bytes": self.size_bytes,
            "health": self.health,
        }

    def details(self) -> dict[str, object]:
        """For ``topic describe --json``."""
        columns = None
        if self.schema is not None:
            columns = [
                {"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in self.schema
            ]
        return {
            **self.summary(),
            "key_column": self.key_column,
            "columns": columns,
            "partitions": [asdict(part) for part in self.partitions],
        }


def topic_facts(admin: Admin, name: str | None = None) -> list[TopicFacts]:
    """Facts about one topic or all; raises ``UnknownTopicOrPartitionError``."""
    topics = admin.describe_topics(None if name is None else [name])
    stored = {
        (part.topic, part.partition, directory.broker_id): part
        for directory in admin.describe_log_dirs()
        for part in directory.partitions
    }
    return [_facts(topic, stored) for topic in topics]


def _facts(topic: TopicMetadata, stored: dict[tuple[str, int, int], LogDirPartition]) -> TopicFacts:
    partitions = []
    for part in topic.partitions:
        # What the leader holds is the partition; without one any copy tells something.
        places = ((topic.name, part.partition, id_) for id_ in (part.leader_id, *part.replicas))
        found = next((stored[place] for place in places if place in stored), None)
        partitions.append(
            PartitionFacts(
                number=part.partition,
                leader=part.leader_id,
                leader_epoch=part.leader_epoch,
                replicas=part.replicas,
                isr=part.isr,
                log_start_offset=found.log_start_offset if found else None,
                log_end_offset=found.log_end_offset if found else None,
                size_bytes=found.size_bytes if found else None,
                segments=found.segments if found else None,
                damaged=tuple((start, end) for start, end in found.damaged) if found else (),
                problem=part.problem.message if part.problem else "",
                offline=part.offline_replicas,
                eligible=part.eligible_leader_replicas,
                adding=part.adding_replicas,
                removing=part.removing_replicas,
            )
        )
    return TopicFacts(
        name=topic.name,
        topic_id=topic.topic_id,
        schema=topic.value_schema if topic.typed else None,
        key_column=topic.key_column,
        partitions=tuple(partitions),
    )
