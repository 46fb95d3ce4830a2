"""Roles of a replica and the legal moves between them.

A replica is Offline until the controller says what it is, and again when it resigns. Every move
into Leader or Follower carries a leader epoch, which never goes back (Kafka, KIP-101 and KIP-279).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from raykafka.errors import IllegalStateError


class Role(enum.Enum):
    """What a replica is doing for its partition."""

    OFFLINE = "offline"
    FOLLOWER = "follower"
    LEADER = "leader"


TRANSITIONS: Final[Mapping[Role, frozenset[Role]]] = {
    Role.OFFLINE: frozenset({Role.FOLLOWER, Role.LEADER}),
    Role.FOLLOWER: frozenset({Role.OFFLINE, Role.FOLLOWER, Role.LEADER}),
    Role.LEADER: frozenset({Role.OFFLINE, Role.FOLLOWER, Role.LEADER}),
}
"""From each role the roles that may come next; a role may follow itself in a newer epoch."""


def check_transition(current: Role, following: Role) -> None:
    """Raise ``IllegalStateError`` unless ``TRANSITIONS`` allows the move."""
    if following not in TRANSITIONS[current]:
        raise IllegalStateError(
            f"a replica that is {current.value} cannot become {following.value}"
        )
