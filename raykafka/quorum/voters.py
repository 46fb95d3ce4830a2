"""Who votes (KIP-853): voters are named by id and directory id, and change one at a time.

A disk that was lost takes its voter with it: the same id comes back with another directory id and
is no voter until the leader has replaced the old one, so no vote is ever given twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class ReplicaKey(NamedTuple):
    """One voter or observer: its id, and the identity of the disk it stands on."""

    id: int
    directory_id: str


class Voter(NamedTuple):
    """A voter as the log knows it; host and port are where it listened last, a hint."""

    id: int
    directory_id: str
    host: str = ""
    port: int = 0

    @property
    def key(self) -> ReplicaKey:
        """Its identity without the address."""
        return ReplicaKey(self.id, self.directory_id)


class VoterSet(NamedTuple):
    """The voters of one stretch of the log, by id."""

    voters: tuple[Voter, ...] = ()

    @classmethod
    def of(cls, voters: Iterable[Voter]) -> VoterSet:
        """In order of their ids."""
        return cls(tuple(sorted(voters)))

    @property
    def keys(self) -> frozenset[ReplicaKey]:
        """Identities of the voters."""
        return frozenset(voter.key for voter in self.voters)

    @property
    def majority(self) -> int:
        """How many voters are more than half."""
        return len(self.voters) // 2 + 1

    def find(self, voter_id: int) -> Voter | None:
        """The voter of that id, or None."""
        return next((voter for voter in self.voters if voter.id == voter_id), None)

    def holds(self, key: ReplicaKey) -> bool:
        """Whether exactly this replica votes."""
        return any(voter.key == key for voter in self.voters)

    def with_voter(self, voter: Voter) -> VoterSet:
        """The set with one more voter, or with that id's new address."""
        return VoterSet.of([*(other for other in self.voters if other.id != voter.id), voter])

    def without(self, key: ReplicaKey) -> VoterSet:
        """The set with one voter less."""
        return VoterSet.of(voter for voter in self.voters if voter.key != key)


class VotersAt(NamedTuple):
    """A voter set and the offset of the record that brought it."""

    offset: int
    voters: VoterSet
