"""``CoordinatorActor``: any replicated machine behind a listener of its own.

The seam for consumer groups, share groups and transactions: a service is a machine plus a table of
``Service`` rows that translate between its commands and the wire. The controller is the same shell
with other actors to look after.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from raykafka.actors.machines import ReplicatedMachine
from raykafka.actors.ports import ActorStarted, Handler, Listener, ListenerFactory, ListenerSpec
from raykafka.actors.quorum.log import MachineLog
from raykafka.actors.requests import RequestTasks
from raykafka.actors.shell import StateMachineShell
from raykafka.clock import Clock
from raykafka.protocol.messages import ApiKey, Message

V = TypeVar("V")


class Service(NamedTuple):
    """How one api is served: request to command, answer to response."""

    to_command: Callable[[Any], Any]
    to_response: Callable[[Any], Message]


class CoordinatorActor(Generic[V]):
    """Hosts one machine. The constructor only remembers."""

    def __init__(
        self,
        listener_spec: ListenerSpec,
        make_machine: Callable[[], ReplicatedMachine[V]],
        open_log: Callable[[], MachineLog],
        services: Mapping[ApiKey, Service],
        listener_factory: ListenerFactory,
        clock: Clock,
    ) -> None:
        """``open_log`` is called in a thread by ``start`` and may block."""
        self._listener_spec = listener_spec
        self._listener_factory = listener_factory
        self._services = services
        self._requests = RequestTasks()
        self._listener: Listener | None = None
        self.shell = StateMachineShell(listener_spec.node, make_machine, open_log, clock)

    async def start(self) -> ActorStarted:
        """Replay the log, then listen: nothing is served before the state is whole."""
        await self.shell.load()
        handlers = {key: self._handler(service) for key, service in self._services.items()}
        self._listener = self._listener_factory(self._listener_spec, handlers)
        return ActorStarted(os.getpid(), await self._listener.start())

    async def stop(self) -> None:
        """Stop listening, write what is queued, close the log."""
        if self._listener is not None:
            await self._listener.close()
        await self._requests.close()
        await self.shell.close()

    def _handler(self, service: Service) -> Handler:
        async def answer(request: Any) -> Message:
            return service.to_response(await self.shell.submit(service.to_command(request)))

        return self._requests.handler(answer)
