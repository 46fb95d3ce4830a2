"""The seams of catching up: what a leader sends from, and what a follower receives on."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from raykafka.model import Endpoint
from raykafka.protocol.messages import Message
from raykafka.protocol.replication_messages import CatchUpRequest, CatchUpResponse


class FileRange(NamedTuple):
    """Bytes of a file of this machine."""

    path: str
    inode: int
    """Tells another file that has come into the place of this one."""
    position: int
    size: int


@runtime_checkable
class FileReply(Protocol):
    """A ``Reply`` whose connection can send straight from a file."""

    def send_file(self, response: Message, file: FileRange) -> None:
        """Write one frame whose payload is in a file, in a thread; nothing else reads it here.

        Whatever else is sent on the connection waits behind it. The connection ends when the file
        is not what it was.
        """


class CatchUpCourse(Protocol):
    """What is asked of a leader in a row. Called outside of the loop, but by one caller."""

    def first(self) -> CatchUpRequest | None:
        """What to ask for; None for nothing."""

    def next(self, answer: CatchUpResponse, size: int) -> CatchUpRequest | None:
        """What to ask for behind an answer of ``size`` bytes, which may still be coming in."""

    def write(self, answer: CatchUpResponse, payload: memoryview) -> None:
        """Append what came with ``answer``, behind its ``next``; an error ends the course."""


class CatchUpLine(Protocol):
    """A connection to a leader that serves CATCH_UP, and nothing else; see ``CatchUpRequest``."""

    async def run(self, course: CatchUpCourse) -> None:
        """Ask and write until there is nothing more to ask for.

        Raises what ``write`` raises, the error that an answer reports, ``RequestTimedOutError``,
        ``ConnectionLostError``. After an error the line has to be closed.
        """

    def progress(self) -> object:
        """Another value whenever something has come in."""

    def close(self) -> None:
        """End the connection; a course on the way ends with ``ConnectionLostError``."""


class CatchUpConnector(Protocol):
    """Opens lines to leaders."""

    async def __call__(
        self, endpoint: Endpoint, secret: bytes, *, client_id: str, timeout_s: float
    ) -> CatchUpLine:
        """Connect and prove the broker's role; raises as ``ports.Connector`` does."""
