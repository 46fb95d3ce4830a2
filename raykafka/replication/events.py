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
    replicas: frozenset[int] = frozenset()
    """Broker ids of all replicas; those in sync are always counted among them."""
    partition_epoch: int = 0
    """Version of the ISR; an older one than is known is ignored."""
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


class FollowerAttached(NamedTuple):
    """A follower opened its stream: its log agrees with this one up to ``offset``, its end."""

    replica_id: int
    incarnation: int
    """Of the follower's partition actor."""
    offset: int


class Replicated(NamedTuple):
    """This follower's log ends at ``offset`` now, by copying or because it was cut."""

    offset: int
    high_watermark: int
    """The leader's, as it said last."""


class IsrChanged(NamedTuple):
    """The controller committed another set of in-sync replicas."""

    isr: frozenset[int]
    partition_epoch: int


class IsrRefused(NamedTuple):
    """The controller refused a proposal for certain; one that was not answered stays open."""


class Tick(NamedTuple):
    """Time has passed: produces past their deadline are given up, followers that have fallen
    behind leave the ISR.
    """


ReplicaEvent = (
    BecomeLeader
    | BecomeFollower
    | Resign
    | Configured
    | Flushed
    | FollowerAttached
    | FollowerAdvanced
    | Replicated
    | IsrChanged
    | IsrRefused
    | Tick
)
