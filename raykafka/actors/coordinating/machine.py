"""What a coordinator is that a partition's leader can host: deterministic, its state is a log.

Records have keys: the newest record of a key is all that counts of it, as in a compacted topic. So
a log may at any time be replaced by ``snapshot`` and what came after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from raykafka.actors.machines import CommandOutcome

KeyedRecord = tuple[bytes, "bytes | None"]
"""Key and value as they stand in the log; a value of None deletes the key."""


class CoordinatorMachine(Protocol):
    """A service of one partition of an internal topic.

    ``now_ms`` is the time of the wall clock, for what users see and for retention; sessions and
    timeouts go by ``monotonic_ms``, which is this process's own: a machine never writes it down.
    """

    def handle(self, command: Any, *, now_ms: int, monotonic_ms: int) -> CommandOutcome:
        """Decide; change nothing but timers. Raises ``RaykafkaError`` to refuse."""

    def replay(self, records: Iterable[Any]) -> None:
        """Change the state: the only way to."""

    def on_loaded(self, *, now_ms: int, monotonic_ms: int) -> None:
        """The log has been replayed: every session begins now."""

    def on_tick(self, *, now_ms: int, monotonic_ms: int) -> CommandOutcome:
        """What has run out by now, as records; called a few times a second, so it must be cheap."""

    def snapshot(self) -> Sequence[Any]:
        """Records that make an empty machine equal to this one, one for each key."""

    def encode(self, record: Any) -> KeyedRecord:
        """A record as it is written."""

    def decode(self, key: bytes, value: bytes | None) -> Any:
        """The reverse of ``encode``."""
