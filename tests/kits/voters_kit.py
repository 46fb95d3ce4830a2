"""Shells of one quorum in one loop: real logs on stores in memory, frames that skip the sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from shell_kit import SumMachine, until

from raykafka import errors
from raykafka.actors.machine_log import PartitionMachineLog
from raykafka.actors.quorum.options import QuorumOptions
from raykafka.actors.shell import ShellState, SnapshotPolicy, StateMachineShell
from raykafka.clock import SystemClock
from raykafka.errors import ConnectionLostError, error_for
from raykafka.model import Endpoint, PartitionId, TopicId
from raykafka.protocol import apis
from raykafka.protocol.messages import ApiKey, HelloResponse, Message
from raykafka.quorum.leading import Timing
from raykafka.quorum.voters import Voter
from raykafka.testing.memory_store import MemoryStore

PARTITION = PartitionId(TopicId("1" * 32), 0)
TIMING = Timing(election_timeout_ms=500, fetch_timeout_ms=500, heartbeat_ms=50, lost_leader_ms=20)


class LoopbackNetwork:
    """Delivers frames in later turns of the loop, encoded and decoded; endpoints can be cut off."""

    def __init__(self) -> None:
        self.handlers: dict[Endpoint, Any] = {}
        self.connections: list[LoopbackConnection] = []
        self.cut_off: set[Endpoint] = set()

    def connector(self, source: Endpoint) -> Callable[..., Any]:
        async def connect(
            endpoint: Endpoint, secret: bytes, *, client_id: str, timeout_s: float
        ) -> LoopbackConnection:
            await asyncio.sleep(0)
            if endpoint not in self.handlers:
                raise ConnectionLostError(f"nobody listens at {endpoint}")
            connection = LoopbackConnection(self, source, endpoint)
            self.connections.append(connection)
            return connection

        return connect

    def hang_up(self, endpoint: Endpoint) -> None:
        """Its process is gone: nobody listens there, its connections end."""
        self.handlers.pop(endpoint, None)
        for connection in list(self.connections):
            if endpoint in (connection.source, connection.target):
                connection.close()

    def is_cut(self, *endpoints: Endpoint) -> bool:
        return bool(self.cut_off.intersection(endpoints))


class LoopbackConnection:
    """``PeerConnection`` and, for the other side, the connection of a ``Reply``."""

    def __init__(self, network: LoopbackNetwork, source: Endpoint, target: Endpoint) -> None:
        self.network, self.source, self.target = network, source, target
        self.hello = HelloResponse("c", str(target), 1, b"", [])
        self.closed = False
        self._sent = 0
        self._pending: dict[int, tuple[ApiKey, Any]] = {}
        self._callbacks: list[Callable[[], None]] = []

    def send(
        self,
        api_key: ApiKey,
        request: Message,
        payload: Sequence[Any] = (),
        on_response: Any = None,
        *,
        stream: bool = False,
    ) -> int:
        if self.closed:
            raise ConnectionLostError
        self._sent += 1
        if on_response is not None:
            self._pending[self._sent] = (api_key, on_response)
        data = b"".join(payload)
        header = apis.encode(request)
        self._later(self._arrive, api_key, header, data, self._sent)
        return self._sent

    def on_close(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def forget(self, correlation_id: int) -> None:
        self._pending.pop(correlation_id, None)

    async def call(self, api_key: ApiKey, request: Message, *, timeout_s: float) -> Message:
        raise AssertionError("not used")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.network.connections.remove(self)
            for callback in self._callbacks:
                callback()
            for _, on_response in self._pending.values():
                on_response(ConnectionLostError(), memoryview(b""))

    def answer(self, correlation_id: int, response: Message, payload: bytes) -> None:
        pending = self._pending.pop(correlation_id, None)
        if pending is not None and not self.closed:
            decoded: Any = apis.decode_response(pending[0], apis.encode(response))
            if decoded.error_code:
                decoded = error_for(decoded.error_code, decoded.error_message)
            pending[1](decoded, memoryview(payload))

    def _arrive(self, api_key: ApiKey, header: bytes, payload: bytes, correlation_id: int) -> None:
        handlers = self.network.handlers.get(self.target)
        if handlers is not None:
            request = apis.decode_request(api_key, header)
            reply = LoopbackReply(self, correlation_id)
            handlers[api_key](request, memoryview(payload), reply)

    def _later(self, function: Callable[..., None], *args: Any) -> None:
        def run() -> None:
            if not self.network.is_cut(self.source, self.target):
                function(*args)

        asyncio.get_running_loop().call_soon(run)


class LoopbackReply:
    """The other side's way back."""

    role = "broker"

    def __init__(self, connection: LoopbackConnection, correlation_id: int) -> None:
        self.connection: Any = connection
        self.correlation_id = correlation_id

    def __call__(self, response: Message, payload: Sequence[Any] = ()) -> None:
        answer = self.connection.answer
        self.connection._later(answer, self.correlation_id, response, b"".join(payload))

    @property
    def closed(self) -> bool:
        return bool(self.connection.closed)

    writable = True

    def on_close(self, callback: Callable[[], None]) -> None:
        self.connection.on_close(callback)

    def on_writable(self, callback: Callable[[], None]) -> None:
        callback()


class Voters:
    """Shells with ids from 0; the first one founds the quorum, the others are added."""

    def __init__(
        self,
        seed: int = 1,
        *,
        snapshots: SnapshotPolicy | None = None,
        timing: Timing = TIMING,
    ) -> None:
        self.timing = timing
        self.network = LoopbackNetwork()
        self.stores: dict[int, MemoryStore] = {}
        self.shells: dict[int, StateMachineShell[int]] = {}
        self.chance = random.Random(seed)
        self.snapshots = snapshots

    async def start(self, replica_id: int) -> StateMachineShell[int]:
        store = self.stores.setdefault(replica_id, MemoryStore())
        endpoint = Endpoint("voter", 9000 + replica_id)
        clock = SystemClock()
        shell = StateMachineShell(
            f"sums-{replica_id}",
            SumMachine,
            lambda: PartitionMachineLog(store, "state", PARTITION, clock),
            clock,
            QuorumOptions(
                replica_id=replica_id,
                may_found=replica_id == 0 and not self.shells,
                connector=self.network.connector(endpoint),
                timing=self.timing,
                jitter=self.chance.random,
            ),
            self.snapshots,
        )
        await shell.open()
        self.shells[replica_id] = shell
        self.network.handlers[endpoint] = shell.server.handlers()
        shell.start(endpoint)
        return shell

    async def kill(self, replica_id: int) -> None:
        shell = self.shells[replica_id]
        self.network.hang_up(Endpoint("voter", 9000 + replica_id))
        await shell.abandon()

    async def stop_all(self) -> None:
        for shell in self.shells.values():
            await shell.abandon()

    async def grow(self, count: int) -> None:
        """Found, and add voters until there are so many."""
        await self.start(0)
        for replica_id in range(1, count):
            await self.start(replica_id)
        for replica_id in range(1, count):
            await self.add(replica_id)

    async def add(self, replica_id: int) -> None:
        """Make a started replica a voter, in the place of an older disk if need be."""
        voter = Voter(*self.shells[replica_id].node.machine.local, "voter", 9000 + replica_id)

        def is_added() -> bool:
            leader = self.active()
            if leader is None:
                return False
            node = leader.node
            present = node.machine.voters.find(replica_id)
            try:
                if present is not None and present.key != voter.key:
                    node.remove_voter(present.key)
                elif present is None:
                    node.add_voter(voter)
                else:
                    return node.machine.log.voters.offset < node.machine.high_watermark
            except errors.ReassignmentInProgressError:
                pass
            return False

        await until(is_added)

    def active(self) -> StateMachineShell[int] | None:
        found = [each for each in self.shells.values() if each.state is ShellState.ACTIVE]
        return max(found, key=lambda shell: shell.node.machine.epoch, default=None)

    async def elected(self) -> StateMachineShell[int]:
        await until(self.active)
        shell = self.active()
        assert shell is not None
        return shell

    async def submit(self, command: Any) -> int:
        """Through whoever leads, as a client does: again after a retriable error."""
        while True:
            shell = await self.elected()
            try:
                total: int = await asyncio.wait_for(shell.submit(command), 5)
            except (errors.NotControllerError, errors.CoordinatorNotAvailableError):
                continue
            else:
                return total
