"""The network between simulated machines: frames in order, late, or not at all.

Frames are encoded and decoded by the real codecs, so nothing is shared between two actors. A pipe
is one direction of a TCP connection: what is sent while the way is cut waits in it and comes after
the cut has healed. A machine that vanished does not say so: its peers wait until they send to it
and it is back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from raykafka.actors.ports import Handler, ListenerSpec, PeerConnection
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    ConnectionLostError,
    NetworkError,
)
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey
from raykafka.testing.simulation.connection import ClientEnd, ServerEnd, Side
from raykafka.testing.simulation.hosts import Host, Process
from raykafka.testing.simulation.loop import settle
from raykafka.testing.simulation.world import World

DELAY_S: Final = (40e-6, 2e-3)
"""Shortest and longest way of a frame between two processes."""
RETRANSMISSION_S: Final = (5e-3, 0.4)
"""How long after a cut has healed the first frame comes through."""
FIRST_PORT: Final = 20_000


class Pipe:
    """What goes from one machine to another, in order."""

    def __init__(self, network: Network, source: Host, target: Host) -> None:
        self.source = source
        self.target = target
        self._network = network
        self._generation = target.generation
        self._queue: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._last = 0.0
        self._stalled = 0
        self.lost: Callable[[], None] | None = None
        """Called when something came to a machine that has forgotten the connection."""

    def send(self, callback: Callable[..., None], *args: Any) -> None:
        """Call ``callback`` when what is sent now has arrived."""
        network = self._network
        world = network.world
        self._queue.append((callback, args))
        self._last = max(self._last, world.now + world.delay(*network.delay_s))
        world.at(self._last, self._arrive)

    @property
    def waiting(self) -> int:
        """Frames on their way."""
        return len(self._queue)

    def heal(self) -> None:
        """The way is open again."""
        world, stalled = self._network.world, self._stalled
        self._stalled = 0
        self._last = max(self._last, world.now + world.delay(*RETRANSMISSION_S))
        for _ in range(stalled):
            world.at(self._last, self._arrive)

    def _arrive(self) -> None:
        if self._network.is_cut(self.source, self.target) or not self.target.up:
            self._stalled += 1
            self._network.stalled[self] = None
            return
        if not self._queue:
            return
        callback, args = self._queue.popleft()
        if self.target.generation != self._generation:
            if self.lost is not None:
                self.lost()
            return
        callback(*args)


class Network:
    """Listeners by their addresses, and the ways between machines."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.delay_s = DELAY_S
        self.stalled: dict[Pipe, None] = {}
        self.listeners: dict[Endpoint, SimulatedListener] = {}
        self.hosts: dict[str, Host] = {}
        self._cut: set[tuple[int, int]] = set()
        self._sides: dict[Side, None] = {}
        self._ports = FIRST_PORT

    def add(self, host: Host) -> None:
        """Connect a machine."""
        self.hosts[host.address] = host

    def is_cut(self, source: Host, target: Host) -> bool:
        """Whether nothing gets from one machine to the other."""
        return (source.number, target.number) in self._cut

    def cut(self, source: Host, target: Host) -> None:
        """Let nothing through in this direction."""
        if source is not target:
            self._cut.add((source.number, target.number))

    def heal(self) -> None:
        """Open every way."""
        self._cut.clear()
        self.wake()

    def wake(self) -> None:
        """Machines have come back or ways were opened: what waits may go on."""
        stalled, self.stalled = self.stalled, {}
        for pipe in stalled:
            pipe.heal()

    def drop_connections(self, count: int) -> int:
        """Break some of the connections, as a router that forgets them does; returns how many."""
        sides = list(self._sides)
        chosen = self.world.random.sample(sides, min(count, len(sides)))
        for side in chosen:
            side.reset("a router has dropped the connection")
        return len(chosen)

    def port(self) -> int:
        """A port that nobody uses."""
        self._ports += 1
        return self._ports

    def opened(self, side: Side) -> None:
        """A connection was made."""
        self._sides[side] = None

    def closed(self, side: Side) -> None:
        """A connection has ended."""
        self._sides.pop(side, None)


class SimulatedListener:
    """``Listener`` of one process."""

    def __init__(
        self,
        network: Network,
        process: Process,
        spec: ListenerSpec,
        handlers: Mapping[ApiKey, Handler],
    ) -> None:
        self.process = process
        self.spec = spec
        self.handlers = handlers
        self._network = network
        self._endpoint: Endpoint | None = None
        self._ends: dict[ServerEnd, None] = {}

    async def start(self) -> Endpoint:
        """See ``Listener``; raises ``NetworkError`` when the port is taken."""
        endpoint = Endpoint(self.process.host.address, self.spec.port or self._network.port())
        taken = self._network.listeners.get(endpoint)
        if taken is not None and taken.process.alive:
            raise NetworkError(f"cannot listen on {endpoint}: it is taken")
        self._network.listeners[endpoint] = self
        self.process.on_death.append(self._forget)
        self._endpoint = endpoint
        return endpoint

    async def close(self) -> None:
        """See ``Listener``."""
        self._forget()
        for end in list(self._ends):
            end.close()

    def accept(self, end: ServerEnd) -> None:
        """A peer has proven the secret."""
        self._ends[end] = None
        end.on_close(lambda: self._ends.pop(end, None))

    def _forget(self) -> None:
        if self._endpoint is not None and self._network.listeners.get(self._endpoint) is self:
            del self._network.listeners[self._endpoint]


class SimulatedConnector:
    """``Connector`` of one process; simulated clients use it in the role of a client."""

    def __init__(self, network: Network, process: Process, role: str = "broker") -> None:
        self._network = network
        self._process = process
        self._role = role

    async def __call__(
        self, endpoint: Endpoint, secret: bytes, *, client_id: str, timeout_s: float
    ) -> PeerConnection:
        """See ``Connector``."""
        loop = self._process.loop
        answer: asyncio.Future[ClientEnd] = loop.create_future()
        _Attempt(self._network, self._process, endpoint, secret, self._role, answer).begin()
        try:
            await asyncio.wait({answer}, timeout=timeout_s)
        except asyncio.CancelledError:
            answer.add_done_callback(_give_up)
            raise
        if not answer.done():
            answer.add_done_callback(_give_up)
            answer.cancel()
            raise ConnectionLostError(f"{endpoint} did not answer in {timeout_s:g} s")
        return answer.result()


def _give_up(answer: asyncio.Future[ClientEnd]) -> None:
    """Nobody waits any more for a connection that may yet be made."""
    if not answer.cancelled() and answer.exception() is None:
        answer.result().close()


class _Attempt:
    """One connection that is being made."""

    def __init__(
        self,
        network: Network,
        process: Process,
        endpoint: Endpoint,
        secret: bytes,
        role: str,
        answer: asyncio.Future[ClientEnd],
    ) -> None:
        self._network = network
        self._process = process
        self._endpoint = endpoint
        self._secret = secret
        self._role = role
        self._answer = answer

    def begin(self) -> None:
        """Knock at the listener's machine."""
        host = self._network.hosts.get(self._endpoint.host)
        if host is not None:
            self._there = Pipe(self._network, self._process.host, host)
            self._back = Pipe(self._network, host, self._process.host)
            self._there.send(self._knock)

    def _knock(self) -> None:
        listener = self._network.listeners.get(self._endpoint)
        if listener is None or not listener.process.alive:
            error = ConnectionLostError(f"cannot connect to {self._endpoint}: connection refused")
            self._back.send(self._fail, error)
            return
        # The kernel has accepted; the handshake is for the process, once it gets its turn.
        listener.process.loop.call_soon(self._shake_hands, listener)

    def _shake_hands(self, listener: SimulatedListener) -> None:
        if listener.spec.secret != self._secret:
            self._back.send(self._fail, ClusterAuthorizationFailedError("the proof does not hold"))
            return
        server = ServerEnd(self._network, listener.process, listener.handlers, self._role)
        client = ClientEnd(self._network, self._process, listener.spec, self._endpoint)
        server.join(client, self._back)
        client.join(server, self._there)
        listener.accept(server)
        self._back.send(self._succeed, client)

    def _succeed(self, client: ClientEnd) -> None:
        self._process.loop.call_soon(self._settle, client)

    def _settle(self, client: ClientEnd) -> None:
        if self._answer.done():
            client.close()
            return
        broken = ConnectionLostError("the connection broke at once") if client.closed else None
        settle(self._answer, client, broken)

    def _fail(self, error: Exception) -> None:
        self._process.loop.call_soon(settle, self._answer, None, error)
