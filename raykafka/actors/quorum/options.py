"""A replica's place in its quorum, and who works with it."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from raykafka.actors.environment import unconnected
from raykafka.actors.ports import Connector, Reply
from raykafka.quorum.leading import Timing

DEFAULT_TIMING: Final = Timing()


@dataclass(frozen=True, slots=True)
class QuorumOptions:
    """A replica's place in its quorum; by default it is alone in it."""

    replica_id: int = 0
    may_found: bool = True
    """Whether an empty log begins a quorum of its own; else it is filled by one that exists."""
    secret: bytes = field(default=b"", repr=False)
    connector: Connector = unconnected
    timing: Timing = DEFAULT_TIMING
    jitter: Callable[[], float] = random.random
    new_directory_id: Callable[[], str] = lambda: secrets.token_hex(16)


class NodeListener(Protocol):
    """Who works with what is committed; called on the loop."""

    def on_gather(self) -> None:
        """The log has nothing to do: what waits may be appended now."""

    def on_role(self) -> None:
        """Who leads has changed, or whether it is this replica."""

    def on_committed(self) -> None:
        """The high watermark has moved."""

    def on_append_failed(self, error: Exception) -> None:
        """Records could not be written; none of them is in the log."""

    def on_node_failed(self, error: Exception) -> None:
        """The node ends: what is on the disk is not known any more."""


class RequestToken(NamedTuple):
    """A request that came, for the machine to name it."""

    reply: Reply
    payload: bytes
