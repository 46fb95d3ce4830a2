"""What an actor touches outside of its own loop, in one value that it is handed.

``raykafka.assembly`` makes the real one; the simulator makes one in which time, network, disks and
chance come from a seed, and the same actors run in it.

Rules for what runs in an actor:
- It waits and sets timers on its loop, and blocking work goes through ``loop.run_in_executor`` or
  ``group_commit``: it starts no threads of its own.
- Time, random bytes, files, directories and connections come from here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from raykafka.actors.lines import CatchUpConnector, CatchUpLine
from raykafka.actors.ports import Connector, ListenerFactory, PeerConnection
from raykafka.clock import Clock
from raykafka.errors import ConnectionLostError, RaykafkaError
from raykafka.model import Endpoint
from raykafka.storage.api import SegmentStore
from raykafka.storage.disk_usage import UsageOf, disk_usage
from raykafka.storage.group_commit import Flushable, GroupCommit
from raykafka.storage.local_store import LocalStore
from raykafka.storage.log_directory import LogDirectory, LogDirectoryMeta


class OwnedDirectory(Protocol):
    """A directory of segments, and the right to write in it; ``LogDirectory`` is one."""

    path: str
    """Absolute."""
    clean_shutdown: bool
    """After ``lock``: whether the last owner closed every log."""

    def lock(self) -> None:
        """Become the owner; raises ``LogDirLockedError`` while another one lives."""

    def unlock(self, *, clean: bool = False) -> None:
        """Give the directory up; ``clean`` says that every log in it was closed."""

    def is_intact(self) -> bool:
        """After ``lock``: whether all that was ever written here is still there."""

    def claim(
        self, cluster_id: str, broker_id: int, incarnation: int = -1, directory_id: str = ""
    ) -> LogDirectoryMeta:
        """Write whose directory this is, or check it; see ``LogDirectory.claim``."""

    def read_meta(self) -> LogDirectoryMeta | None:
        """Whose directory this is, None where nobody has claimed it yet."""

    def read_private(self, name: str) -> bytes | None:
        """Content of a small file that only its owner may read, None where there is none."""

    def write_private(self, name: str, content: bytes) -> None:
        """Write such a file, durably and as a whole."""


class DirectoryFactory(Protocol):
    """Makes the directory at a path. ``slot`` names one of several owners that share it."""

    def __call__(self, path: str, *, slot: int | None = None) -> OwnedDirectory:
        """Nothing on the disk is touched yet."""


class LogFlusher(Protocol):
    """Forces logs to the disk beside the loop; ``GroupCommit`` does it with threads."""

    def request(self, log: Any) -> None:
        """Flush ``log`` soon; several requests before it starts are one."""

    def close(self) -> None:
        """Finish what was requested; blocks."""


OnLogFlushed = Callable[[Any, int | RaykafkaError], None]
"""Gets a log and its durable end offset, or the error; called outside of the loop."""
GroupCommitFactory = Callable[[OnLogFlushed], LogFlusher]
StoreFactory = Callable[[str], SegmentStore]
"""Makes the store of a log directory."""


def _threads(on_flushed: OnLogFlushed) -> LogFlusher:
    commit: GroupCommit[Flushable] = GroupCommit(on_flushed)
    return commit


async def unconnected(
    endpoint: Endpoint, secret: bytes, *, client_id: str, timeout_s: float
) -> PeerConnection:
    """A ``Connector`` for actors that have nobody to talk to: reaches nobody."""
    raise ConnectionLostError(f"{client_id} opens no connections, not to {endpoint} either")


async def no_line(
    endpoint: Endpoint, secret: bytes, *, client_id: str, timeout_s: float
) -> CatchUpLine:
    """A ``CatchUpConnector`` for actors that copy nothing."""
    raise ConnectionLostError(f"{client_id} opens no lines, not to {endpoint} either")


@dataclass(frozen=True, slots=True)
class Environment:
    """Clock, network, files and chance of one actor's process; by default the machine's own."""

    clock: Clock
    listener_factory: ListenerFactory
    connector: Connector = unconnected
    catch_up_connector: CatchUpConnector = no_line
    store_factory: StoreFactory = LocalStore
    directory_factory: DirectoryFactory = LogDirectory
    disk_usage: UsageOf = disk_usage
    group_commit: GroupCommitFactory = _threads
    random_bytes: Callable[[int], bytes] = secrets.token_bytes
    """Secrets and identifiers are made of these."""
    host_id: str = ""
    """Names the machine for clients that can map its files; empty for none."""
    pid: int = field(default_factory=os.getpid)
