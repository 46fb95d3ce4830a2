"""The target assignment of a group: made once for every change, by the group's assignor."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from raykafka.group.assignment import Assignment, from_pairs
from raykafka.group.assignors.api import Assignor, MemberSpec, Partitions, TopicSpec, problem_of
from raykafka.group.assignors.share import ShareAssignor
from raykafka.group.assignors.uniform import UniformAssignor
from raykafka.group.records import GroupMetadata, MemberMetadata, Record, TargetAssignment
from raykafka.group.settings import GroupSettings
from raykafka.group.state import Group
from raykafka.group.topics import Topics


class Surroundings(NamedTuple):
    """What decisions depend on beside the group itself."""

    settings: GroupSettings
    topics: Topics
    on_problem: Callable[[str], None]
    """Told what an assignor of one's own did wrong."""


class Rebalance(NamedTuple):
    """What a change of the group leads to."""

    records: list[Record]
    metadata: GroupMetadata
    targets: Mapping[str, Assignment]
    """Of every member."""


def rebalance(
    group: Group,
    members: Mapping[str, MemberMetadata],
    around: Surroundings,
    *,
    share: bool,
    now_ms: int,
    inherited: Mapping[str, Assignment] | None = None,
) -> Rebalance:
    """The group's next epoch, with ``members`` as they are then.

    While the topics are not known the group's epoch grows and the target stays as it is.
    ``inherited`` are the targets of members that the group does not have yet.
    """
    epoch = group.epoch + 1
    before = {name: member.target for name, member in group.members.items() if name in members}
    before.update(inherited or {})
    if not members:
        metadata = GroupMetadata(group.group_id, share, epoch, epoch, empty_since_ms=now_ms)
        return Rebalance([metadata], metadata, {})
    if around.topics.by_name is None:
        metadata = GroupMetadata(
            group.group_id,
            share,
            epoch,
            group.assignment_epoch,
            group.metadata.assignor if group.metadata is not None else "",
            group.metadata.topics if group.metadata is not None else {},
        )
        return Rebalance([metadata], metadata, before)
    return assign(group, members, around, share=share, epoch=epoch, before=before)


def assign(
    group: Group,
    members: Mapping[str, MemberMetadata],
    around: Surroundings,
    *,
    share: bool,
    epoch: int,
    before: Mapping[str, Assignment],
) -> Rebalance:
    """The target assignment for ``epoch``; ``before`` is the last one."""
    topics = around.topics
    subscriptions = {name: topics.subscriptions(member) for name, member in members.items()}
    names = frozenset().union(*subscriptions.values())
    specs = topics.specs(names)
    member_specs = {
        name: MemberSpec(
            subscriptions[name],
            _by_name(before.get(name, {}), specs, topics),
            member.instance_id,
            member.host,
            member.rack_id,
        )
        for name, member in members.items()
    }
    identities = topics.identities(names)
    assignor = chosen_assignor(members, around.settings, share=share)
    assigned = _run(assignor, member_specs, specs, around, share=share)
    targets = {
        name: from_pairs(
            (identities[topic][0], number)
            for topic, numbers in assigned.get(name, {}).items()
            for number in numbers
        )
        for name in members
    }
    records: list[Record] = [
        TargetAssignment(group.group_id, name, target)
        for name, target in targets.items()
        if target != before.get(name, {})
    ]
    metadata = GroupMetadata(group.group_id, share, epoch, epoch, assignor.name, identities)
    return Rebalance([*records, metadata], metadata, targets)


def chosen_assignor(
    members: Mapping[str, MemberMetadata], settings: GroupSettings, *, share: bool
) -> Assignor:
    """The one that most members ask for; the broker's first one where none does."""
    known = settings.of(share=share).assignors
    votes = Counter(member.assignor for member in members.values() if member.assignor in known)
    order = list(known)
    if not votes:
        return known[order[0]]
    return known[min(votes, key=lambda name: (-votes[name], order.index(name)))]


def is_outdated(group: Group, topics: Topics) -> bool:
    """Whether the target was made for other topics than there are now, or is still to be made."""
    if group.metadata is None or not group.members:
        return False
    if group.epoch > group.assignment_epoch:
        return True
    names = frozenset().union(
        *(topics.subscriptions(member.metadata) for member in group.members.values())
    )
    return topics.identities(names) != group.metadata.topics


def _by_name(
    assignment: Assignment, specs: Mapping[str, TopicSpec], topics: Topics
) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = defaultdict(tuple)
    for topic_id, numbers in assignment.items():
        name = topics.name_of(topic_id)
        if name in specs:
            limit = specs[name].num_partitions
            found[name] = tuple(number for number in numbers if number < limit)
    return dict(found)


def _run(
    assignor: Assignor,
    members: Mapping[str, MemberSpec],
    topics: Mapping[str, TopicSpec],
    around: Surroundings,
    *,
    share: bool,
) -> Mapping[str, Partitions]:
    try:
        assigned: Any = assignor.assign(members, topics)
        problem = problem_of(assigned, members, topics, share=share)
    except Exception as error:  # noqa: BLE001 - code of a user, which must not stop the coordinator
        problem = f"{type(error).__name__}: {error}"
    if not problem:
        return assigned  # type: ignore[no-any-return]
    around.on_problem(f"assignor {assignor.name} failed, uniform takes its place: {problem}")
    fallback: Assignor = ShareAssignor() if share else UniformAssignor()
    return fallback.assign(members, topics)
