"""What a handler gets to answer a request with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raykafka.actors.lines import FileRange
from raykafka.actors.ports import Buffer
from raykafka.protocol.messages import Message

if TYPE_CHECKING:
    from raykafka.network.serving import ServerConnection


class ServerReply:
    """Answers one request; see ``actors.ports.Reply``."""

    __slots__ = ("connection", "correlation_id", "role")

    def __init__(self, connection: ServerConnection, correlation_id: int, role: str) -> None:
        self.connection: Any = connection
        self.correlation_id = correlation_id
        self.role = role

    def __call__(self, response: Message, payload: Sequence[Buffer] = ()) -> None:
        """Write one frame; nothing happens when the connection has ended."""
        self.connection.send(self.correlation_id, response, payload)

    def send_file(self, response: Message, file: FileRange) -> None:
        """Write one frame whose payload is in a file; see ``actors.lines.FileReply``."""
        self.connection.send_file(self.correlation_id, response, file)

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return bool(self.connection.closed)

    @property
    def writable(self) -> bool:
        """False while too much waits to be sent on the connection."""
        return bool(self.connection.writable)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Keep ``callback`` until the connection ends, however often the request is answered."""
        self.connection.on_close(callback)

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Call once when ``writable`` is true again, at once if it is now."""
        self.connection.on_writable(callback)
