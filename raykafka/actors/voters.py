"""The seam between the active controller and the other voters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from raykafka.model import Endpoint


@dataclass(frozen=True, slots=True)
class VoterStarted:
    """First word of a controller that is to be a voter."""

    pid: int
    node_id: str
    """Where it runs; empty when it does not know."""
    directory_id: str
    endpoint: Endpoint


class VoterPort(Protocol):
    """The active controller's view of another voter."""

    async def start_voter(self) -> VoterStarted:
        """Open the log and listen; idempotent. ``LogDirLockedError`` while another lives."""

    async def leave(self) -> None:
        """Close the log cleanly; the other voters go on."""

    async def wait_dead(self) -> None:
        """Return when the actor's process is gone."""

    def kill(self) -> None:
        """End the process without ceremony, for good."""
