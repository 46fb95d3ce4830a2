"""How a member comes from what it owns to what it is going to own (KIP-848).

A partition changes hands in three steps, each told by a heartbeat's answer or by the next one: the
old owner is told to let it go, the old owner says that it has, the new owner is given it. So
there is one owner at any time. In share groups nobody has to wait for anybody.
"""

from __future__ import annotations

from raykafka.group.assignment import Assignment, Pair, common, from_pairs, minus, overlap, pairs
from raykafka.group.records import CurrentAssignment
from raykafka.group.state import Group, Member


def reconcile(
    current: CurrentAssignment,
    target: Assignment,
    target_epoch: int,
    owners: dict[Pair, str],
    *,
    owned: Assignment | None,
    share: bool,
) -> CurrentAssignment:
    """The member's next step; the same object where there is none.

    ``owned`` is what the member says it owns; None where that has not changed.
    """
    if share:
        if current.member_epoch == target_epoch and current.assigned == target:
            return current
        return _at(current, target_epoch, target)
    if current.revoking:
        if owned is None or overlap(owned, current.revoking):
            return current
    elif current.member_epoch == target_epoch and current.assigned == target:
        return current
    give_up = minus(current.assigned, target)
    if give_up:
        # The member has to be told first, whatever it says that it owns: an answer that gave it one
        # of these may still be on its way.
        return CurrentAssignment(
            current.group_id,
            current.member_id,
            current.member_epoch,
            current.previous_epoch,
            common(current.assigned, target),
            give_up,
        )
    member_id = current.member_id
    free = from_pairs(pair for pair in pairs(target) if owners.get(pair, member_id) == member_id)
    if (current.member_epoch, current.assigned, current.revoking) == (target_epoch, free, {}):
        return current
    return _at(current, target_epoch, free)


def _at(current: CurrentAssignment, epoch: int, assigned: Assignment) -> CurrentAssignment:
    moved_on = current.member_epoch != epoch
    return CurrentAssignment(
        current.group_id,
        current.member_id,
        epoch,
        current.member_epoch if moved_on else current.previous_epoch,
        assigned,
    )


def has_news(group: Group, member_id: str) -> bool:
    """Whether a heartbeat of the member would now be answered with another assignment, or refused.

    A new epoch alone is no news: the next heartbeat is early enough for it.
    """
    member = group.members.get(member_id)
    if member is None:
        return True
    current, target = member.current, member.target
    if group.share:
        return current.assigned != target
    if current.revoking or current.assigned == target:
        return False
    if minus(current.assigned, target):
        return True
    return _gains(group, member)


def _gains(group: Group, member: Member) -> bool:
    owners, member_id = group.owners, member.metadata.member_id
    held = set(pairs(member.current.assigned))
    return any(
        pair not in held and owners.get(pair, member_id) == member_id
        for pair in pairs(member.target)
    )
