"""Committed offsets: who may commit, what transactions hold back, what expires.

One rule beyond Kafka's: a member's commit for a partition that another member owns by now is
refused, so that a commit that comes late never takes back what the new owner has committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raykafka.errors import (
    ConcurrentTransactionsError,
    FencedMemberEpochError,
    GroupIdNotFoundError,
    GroupSubscribedToTopicError,
    InconsistentGroupProtocolError,
    InvalidProducerEpochError,
    NonEmptyGroupError,
    OffsetMetadataTooLargeError,
    OffsetOutOfRangeError,
    RaykafkaError,
    StaleMemberEpochError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
    UnstableOffsetCommitError,
)
from raykafka.group.checks import check_group_id, check_instance, known_member
from raykafka.group.commands import (
    CommitOffsets,
    CommitPendingOffsets,
    DeleteOffsets,
    EndTransaction,
    FetchOffsets,
    FoundOffset,
    OffsetLike,
    Outcome,
)
from raykafka.group.records import (
    OffsetCommitted,
    OffsetRemoved,
    PendingOffsets,
    PendingRemoved,
    Record,
    TransactionEnded,
)
from raykafka.group.state import Group, Groups
from raykafka.group.targets import Surroundings

Partition = tuple[str, int]


def commit(groups: Groups, around: Surroundings, command: CommitOffsets, now_ms: int) -> Outcome:
    """See ``CommitOffsets``."""
    group = _group_for_commit(groups, command)
    if command.member_id or command.member_epoch >= 0:
        _check_member(group, command)
    elif group.members:
        raise NonEmptyGroupError(
            f"group {group.group_id} has members; only they commit offsets until all have left"
        )
    accepted, errors = _checked(group, around, command, now_ms)
    return Outcome(_overtaking(group, accepted), errors)


def _check_pending(groups: Groups, command: CommitPendingOffsets) -> PendingOffsets | None:
    """Whether a transaction's offsets are accepted as a whole; what it has pending already."""
    group = _group_for_commit(groups, command)
    if command.member_id or command.member_epoch >= 0:
        _check_member(group, command)
    ended = groups.ended.get(command.producer_id)
    pending = group.pending.get(command.producer_id)
    newest = max(
        ended.producer_epoch if ended is not None else -1,
        pending.producer_epoch if pending is not None else -1,
    )
    if command.producer_epoch < newest:
        raise InvalidProducerEpochError(
            f"producer id {command.producer_id} is at epoch {newest}, the offsets come from epoch "
            f"{command.producer_epoch}: another producer has taken over, or the transaction is over"
        )
    if pending is not None and pending.producer_epoch != command.producer_epoch:
        raise ConcurrentTransactionsError(
            f"the last transaction of producer id {command.producer_id} has yet to end here"
        )
    return pending


def commit_pending(
    groups: Groups, around: Surroundings, command: CommitPendingOffsets, now_ms: int
) -> Outcome:
    """See ``CommitPendingOffsets``."""
    pending = _check_pending(groups, command)
    group = _group_for_commit(groups, command)
    accepted, errors = _checked(group, around, command, now_ms)
    if not accepted:
        return Outcome([], errors)
    before = pending.offsets if pending is not None else ()
    merged = {(offset.topic, offset.partition): offset for offset in (*before, *accepted)}
    record = PendingOffsets(
        command.group_id, command.producer_id, command.producer_epoch, tuple(merged.values())
    )
    return Outcome([record], errors)


def end_transaction(groups: Groups, command: EndTransaction, now_ms: int) -> Outcome:
    """See ``EndTransaction``."""
    producer_id = command.producer_id
    concerned = [groups.by_id[name] for name in sorted(groups.pending_groups.get(producer_id, ()))]
    ended = groups.ended.get(producer_id)
    if concerned:
        open_epoch = max(group.pending[producer_id].producer_epoch for group in concerned)
        if command.producer_epoch <= open_epoch:
            raise InvalidProducerEpochError(
                f"the marker of producer id {producer_id} has epoch {command.producer_epoch}, the "
                f"open transaction epoch {open_epoch}"
            )
    elif ended is not None and command.producer_epoch <= ended.producer_epoch:
        return Outcome([], None)
    records: list[Record] = []
    for group in concerned:
        if command.commit:
            records += group.pending[producer_id].offsets
        records.append(PendingRemoved(group.group_id, producer_id))
    records.append(TransactionEnded(producer_id, command.producer_epoch, now_ms))
    return Outcome(records, None)


def fetch(groups: Groups, command: FetchOffsets) -> Outcome:
    """See ``FetchOffsets``."""
    check_group_id(command.group_id)
    group = groups.by_id.get(command.group_id) or Group(command.group_id)
    if command.member_id or command.member_epoch >= 0:
        _check_member(group, command)
    held = _pending_partitions(group) if command.require_stable else frozenset()
    wanted: Iterable[Partition] = (
        command.partitions
        if command.partitions is not None
        else sorted({*group.offsets, *(held or ())})
    )
    return Outcome(
        [],
        [
            FoundOffset(
                topic,
                partition,
                group.offsets.get((topic, partition)) if (topic, partition) not in held else None,
                UnstableOffsetCommitError() if (topic, partition) in held else None,
            )
            for topic, partition in wanted
        ],
    )


def delete(groups: Groups, around: Surroundings, command: DeleteOffsets) -> Outcome:
    """See ``DeleteOffsets``."""
    check_group_id(command.group_id)
    group = groups.by_id.get(command.group_id)
    if group is None:
        raise GroupIdNotFoundError(f"there is no group {command.group_id!r}")
    subscribed = subscribed_topics(group, around)
    records: list[Record] = []
    errors: list[RaykafkaError | None] = []
    for topic, partition in command.partitions:
        if topic in subscribed:
            errors.append(
                GroupSubscribedToTopicError(f"group {group.group_id} is subscribed to {topic}")
            )
            continue
        errors.append(None)
        if (topic, partition) in group.offsets:
            records.append(OffsetRemoved(group.group_id, topic, partition))
    return Outcome(records, errors)


def removal_of_all(group: Group) -> list[Record]:
    """Records that take every offset of a group away, pending ones included."""
    return [
        *(OffsetRemoved(group.group_id, topic, partition) for topic, partition in group.offsets),
        *(PendingRemoved(group.group_id, producer_id) for producer_id in group.pending),
    ]


def expired(group: Group, around: Surroundings, now_ms: int) -> list[Record]:
    """Offsets that nobody has committed, or could have used, for the retention time.

    A group without members keeps its offsets that long after its last member left; one with members
    keeps all of the topics that it is subscribed to.
    """
    oldest_ms = now_ms - around.settings.offsets_retention_ms
    if group.members and around.topics.by_name is None:
        return []
    metadata = group.metadata
    if not group.members and metadata is not None and metadata.empty_since_ms > oldest_ms:
        return []
    subscribed = subscribed_topics(group, around)
    held = _pending_partitions(group)
    return [
        OffsetRemoved(group.group_id, topic, partition)
        for (topic, partition), offset in group.offsets.items()
        if offset.commit_timestamp_ms <= oldest_ms
        and topic not in subscribed
        and (topic, partition) not in held
    ]


def subscribed_topics(group: Group, around: Surroundings) -> frozenset[str]:
    """All names that a member is subscribed to, of topics that are gone too."""
    found: set[str] = set()
    for member in group.members.values():
        found.update(member.metadata.subscribed_topics)
        found |= around.topics.subscriptions(member.metadata)
    return frozenset(found)


def _group_for_commit(groups: Groups, command: CommitOffsets | CommitPendingOffsets) -> Group:
    check_group_id(command.group_id)
    group = groups.by_id.get(command.group_id) or Group(command.group_id)
    if group.share:
        raise InconsistentGroupProtocolError(
            f"{group.group_id} is a share group, which commits no offsets"
        )
    return group


def _check_member(
    group: Group, command: CommitOffsets | CommitPendingOffsets | FetchOffsets
) -> None:
    member = known_member(group, command.member_id)
    if not isinstance(command, FetchOffsets):
        check_instance(group, command.member_id, command.instance_id)
    epoch = member.current.member_epoch
    if command.member_epoch > epoch:
        raise FencedMemberEpochError(
            f"member {command.member_id} has epoch {epoch}, not {command.member_epoch}"
        )
    if command.member_epoch != epoch:
        raise StaleMemberEpochError(
            f"member {command.member_id} has moved on from epoch {command.member_epoch} to {epoch}"
        )


def _checked(
    group: Group,
    around: Surroundings,
    command: CommitOffsets | CommitPendingOffsets,
    now_ms: int,
) -> tuple[list[OffsetCommitted], list[RaykafkaError | None]]:
    accepted: list[OffsetCommitted] = []
    errors: list[RaykafkaError | None] = []
    for offset in command.offsets:
        error = _problem_of(group, around, command.member_id, offset)
        errors.append(error)
        if error is None:
            accepted.append(
                OffsetCommitted(
                    group.group_id,
                    offset.topic,
                    offset.partition,
                    offset.topic_id,
                    offset.offset,
                    offset.leader_epoch,
                    offset.metadata,
                    now_ms,
                )
            )
    return accepted, errors


def _problem_of(
    group: Group, around: Surroundings, member_id: str, offset: OffsetLike
) -> RaykafkaError | None:
    limit = around.settings.offset_metadata_max_bytes
    if len(offset.metadata) * 4 > limit and len(offset.metadata.encode()) > limit:
        return OffsetMetadataTooLargeError(
            f"the metadata of {offset.topic}-{offset.partition} are larger than {limit} bytes"
        )
    if offset.offset < 0:
        return OffsetOutOfRangeError(
            f"{offset.offset} is no offset that {offset.topic}-{offset.partition} can have"
        )
    topics = around.topics.by_name
    if topics is not None:
        view = topics.get(offset.topic)
        if view is None or not 0 <= offset.partition < view.num_partitions:
            return UnknownTopicOrPartitionError(
                f"there is no partition {offset.topic}-{offset.partition}"
            )
        if offset.topic_id != view.topic_id:
            return UnknownTopicIdError(f"{offset.topic} is another topic of that name by now")
    owner = group.owners.get((offset.topic_id, offset.partition), member_id)
    if member_id and owner != member_id:
        return StaleMemberEpochError(
            f"{offset.topic}-{offset.partition} belongs to member {owner} by now"
        )
    return None


def _overtaking(group: Group, accepted: Sequence[OffsetCommitted]) -> list[Record]:
    """What is committed now takes the place of what an open transaction was going to commit."""
    records: list[Record] = list(accepted)
    if not group.pending:
        return records
    committed = {(offset.topic, offset.partition) for offset in accepted}
    for pending in group.pending.values():
        left = tuple(
            offset
            for offset in pending.offsets
            if (offset.topic, offset.partition) not in committed
        )
        if len(left) < len(pending.offsets):
            records.append(
                PendingOffsets(pending.group_id, pending.producer_id, pending.producer_epoch, left)
            )
    return records


def _pending_partitions(group: Group) -> frozenset[Partition]:
    return frozenset(
        (offset.topic, offset.partition)
        for pending in group.pending.values()
        for offset in pending.offsets
    )
