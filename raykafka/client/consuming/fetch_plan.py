"""From positions and leaders to one fetch per leader. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from raykafka.model import Endpoint, TopicPartition


class Leader(NamedTuple):
    """Who serves a partition, and as what."""

    endpoint: Endpoint
    topic_id: str
    leader_epoch: int


class PlannedFetch(NamedTuple):
    """One partition in a fetch: what is asked, or for an open session what it sends next."""

    topic_id: str
    leader_epoch: int
    offset: int


@dataclass(slots=True)
class FetchPlan:
    """What should be open at each leader; ``leaderless`` has to wait for fresh metadata."""

    fetches: dict[Endpoint, dict[TopicPartition, PlannedFetch]] = field(default_factory=dict)
    leaderless: list[TopicPartition] = field(default_factory=list)


def plan_fetches(
    wanted: Iterable[tuple[TopicPartition, int]],
    leader_of: Callable[[TopicPartition], Leader | None],
) -> FetchPlan:
    """Group ``wanted`` (partition, next offset to fetch) by leader."""
    plan = FetchPlan()
    for partition, offset in wanted:
        leader = leader_of(partition)
        if leader is None:
            plan.leaderless.append(partition)
            continue
        planned = PlannedFetch(leader.topic_id, leader.leader_epoch, offset)
        plan.fetches.setdefault(leader.endpoint, {})[partition] = planned
    return plan
