"""Roles of a replica in the quorum and the legal moves between them (Kafka's ``QuorumState``).

- Unattached: knows no leader of its epoch. Observers without a leader are Unattached, too.
- Follower: takes the log of its epoch's leader.
- Prospective: asks whether it would be elected, before it disturbs anybody (pre-vote, KIP-996).
- Candidate: asks for votes in a new epoch.
- Leader: the only one that appends in its epoch.
- Resigned: led, and does so no more; waits for another to be elected.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from raykafka.errors import IllegalStateError


class QuorumRole(enum.Enum):
    """What a replica is doing for the quorum."""

    UNATTACHED = "unattached"
    FOLLOWER = "follower"
    PROSPECTIVE = "prospective"
    CANDIDATE = "candidate"
    LEADER = "leader"
    RESIGNED = "resigned"


_U, _F, _P, _C, _L, _R = QuorumRole

TRANSITIONS: Final[Mapping[QuorumRole, frozenset[QuorumRole]]] = {
    _U: frozenset({_U, _F, _P}),
    _F: frozenset({_U, _F, _P}),
    _P: frozenset({_U, _F, _P, _C}),
    _C: frozenset({_U, _F, _P, _L}),
    _L: frozenset({_U, _F, _R}),
    _R: frozenset({_U, _F}),
}
"""From each role the roles that may come next; Leader to Follower takes a newer epoch."""


def check_transition(current: QuorumRole, following: QuorumRole) -> None:
    """Raise ``IllegalStateError`` unless ``TRANSITIONS`` allows the move."""
    if following not in TRANSITIONS[current]:
        raise IllegalStateError(
            f"a quorum replica that is {current.value} cannot become {following.value}"
        )
