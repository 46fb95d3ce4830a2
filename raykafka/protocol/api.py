"""What a row of the api table says; the rows stand beside their messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raykafka.protocol.messages import ApiKey, Message

EVERY_LISTENER: Final = "every listener"
CONTROLLER: Final = "controller"
PARTITION: Final = "partition actor"
COORDINATOR: Final = "partition actor that leads the key's partition of an internal topic"


@dataclass(frozen=True, slots=True)
class Api:
    """One row of the table."""

    key: ApiKey
    request: type[Message]
    response: type[Message] | None
    """None for a request that is never answered, except by an error."""
    served_by: str
    payload: bool = False
    """Whether the request may carry a payload."""
    response_payload: bool = False
    """Whether the response may carry one."""
    authenticated: bool = True
    """Whether the peer must have proven the cluster's secret."""
    broker_only: bool = False
    """Whether it must have proven to be a broker, not merely a client."""
    min_version: int = 0
    max_version: int = 0
