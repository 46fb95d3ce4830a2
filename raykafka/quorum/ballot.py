"""The votes for one candidate, and how long ago the last leader may have been obeyed.

A leader grants leases only for as long as a majority has obeyed it lately. Every such majority has
a voter in common with the one that elects its successor: none obeyed it later than the latest word
of these voters. So the successor knows until when leases of any leader before it can last.
"""

from __future__ import annotations

from raykafka.quorum.voters import ReplicaKey, VoterSet


class Ballot:
    """What the voters have answered to one candidate."""

    def __init__(self, local: ReplicaKey, obeyed_ms: int) -> None:
        """``obeyed_ms`` is when the candidate itself obeyed a leader last, or was one."""
        self._votes = {local: True}
        self.obeyed_ms = obeyed_ms
        """When any of those who gave their vote obeyed a leader last, at the latest."""

    def take(self, voter: ReplicaKey, granted: bool, obeyed_ms: int) -> None:
        """Count an answer; only a voter's first one counts."""
        if voter not in self._votes:
            self._votes[voter] = granted
            if granted:
                self.obeyed_ms = max(self.obeyed_ms, obeyed_ms)

    def is_won(self, voters: VoterSet) -> bool:
        """Whether a majority of ``voters`` has voted for the candidate."""
        return sum(self._votes.get(key, False) for key in voters.keys) >= voters.majority

    @property
    def was_refused(self) -> bool:
        """Whether anybody has refused."""
        return not all(self._votes.values())
