"""Everything that can happen to a replica. Offsets are exclusive ends; positions are offsets."""

from __future__ import annotations

from typing import NamedTuple


class BecomeLeader(NamedTuple):
    """The controller made this replica the leader of ``leader_epoch``.

    The same epoch again only updates the ISR. Handled, it is as if ``Configured`` came with it.
    """

    leader_epoch: int
    isr: frozenset[int]
    """Broker ids in sync, this replica's among them."""
    log_end_offset: int
    flushed_offset: int
    high_watermark: int
    """The last one known (checkpoint), at most the log end; it never goes back from there."""
    min_insync_replicas: int = 1
    durable: bool = False
    """Topic setting ``fsync=batch``: only flushed records count as this replica's position."""


class BecomeFollower(NamedTuple):
    """The controller named another leader for ``leader_epoch``."""

    leader_epoch: int
    leader_id: int


class Resign(NamedTuple):
    """The replica stops serving: it is moved, deleted, or its log failed."""


class Configured(NamedTuple):
    """The topic's settings changed; see ``BecomeLeader`` for the fields."""

    min_insync_replicas: int
    durable: bool


class Flushed(NamedTuple):
    """Everything below ``offset`` survives a power cut on this replica."""

    offset: int


class FollowerAdvanced(NamedTuple):
    """A follower holds everything below ``offset``; stale or repeated reports change nothing."""

    replica_id: int
    offset: int


class IsrChanged(NamedTuple):
    """The controller committed another set of in-sync replicas."""

    isr: frozenset[int]


class Tick(NamedTuple):
    """Time has passed: produces past their deadline are given up."""


ReplicaEvent = (
    BecomeLeader
    | BecomeFollower
    | Resign
    | Configured
    | Flushed
    | FollowerAdvanced
    | IsrChanged
    | Tick
)
