"""What a service is that a shell can run: deterministic, and its state is a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

V = TypeVar("V")


class CommandOutcome(Protocol):
    """What a machine's ``handle`` returns."""

    @property
    def records(self) -> Sequence[Any]:
        """What the command changes; may be empty."""

    @property
    def answer(self) -> Any:
        """What the caller is told once the records are committed."""


class ReplicatedMachine(Protocol[V]):
    """A deterministic service; see ``ClusterMetadataMachine`` for one."""

    def handle(self, command: Any, *, now_ms: int) -> CommandOutcome:
        """Decide; change nothing. Raises ``RaykafkaError`` to refuse."""

    def replay(self, records: Iterable[Any]) -> None:
        """Change the state: the only way to."""

    def view(self) -> V:
        """An immutable picture of the whole state."""

    def encode(self, record: Any) -> bytes:
        """A record as it is written."""

    def decode(self, data: bytes) -> Any:
        """The reverse of ``encode``."""

    def encode_view(self, view: V) -> bytes:
        """A view as it stands in a snapshot."""

    def restore(self, data: bytes) -> None:
        """Take the state of a snapshot; called before anything is replayed."""
