"""A kind of coordinator: whose topic it is, which machine, and how requests become commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from raykafka.actors.coordinating.machine import CoordinatorMachine
from raykafka.actors.coordinating.service import HostedService
from raykafka.actors.peers import Peers
from raykafka.clock import Clock
from raykafka.config.coordinators import CoordinatorConfig
from raykafka.protocol.messages import ApiKey, Message

AnswerRequest = Callable[[HostedService, Any], Awaitable[Message]]
"""Serves one request; what it raises is the answer."""


@dataclass(frozen=True, slots=True)
class CoordinatorContext:
    """What kinds of coordinators have in common."""

    config: CoordinatorConfig
    clock: Clock
    peers: Peers


class EndTransaction(Protocol):
    """Ends a transaction in the state of a coordinator."""

    async def __call__(
        self, service: HostedService, producer_id: int, producer_epoch: int, *, commit: bool
    ) -> None:
        """Return once that is committed; doing it again changes nothing."""


def _nothing(service: HostedService) -> None:
    """Most kinds have nothing to do then."""


def _nothing_ran_out(service: HostedService, answer: Any) -> None:
    """Most kinds have nothing to do then either."""


@dataclass(frozen=True, slots=True)
class ServiceKind:
    """One row of the host's table."""

    topic: str
    """The internal topic whose leaders serve it."""
    make_machine: Callable[[], CoordinatorMachine]
    handlers: Mapping[ApiKey, AnswerRequest]
    """Requests have a field ``partition``: that of the topic."""
    on_loaded: Callable[[HostedService], None] = _nothing
    """Called when a service begins to serve, each time its machine has been rebuilt."""
    on_ticked: Callable[[HostedService, Any], None] = _nothing_ran_out
    """Called with what ``on_tick`` of the machine answered, once it is committed."""
    end_transaction: EndTransaction | None = None
    """Stands in the place of markers: the topic's partitions have none."""
