"""The runtime of every service whose state is a log: the controller and the coordinators.

Rules:
- A command is handled and its records are replayed in one step, without an await in between, so the
  next command sees them; only the answer waits until they are committed by the log's quorum.
- Commands that arrive while a flush runs share the next one (group commit). All work on the log
  happens in one thread, so the loop never waits for the disk.
- What others may see (``view``) is the state as of committed records.
- A replica that does not lead applies what is committed, and nothing else. One that is elected
  takes commands once a record of its own epoch is committed: then it has all there is.
- When an append fails, nothing of it is in the log, and when another replica leads, what was not
  committed may never be: the machine, which is ahead of it, is thrown away and rebuilt by replay.
- When a flush fails nobody knows what is on the disk: the shell refuses everything from then on,
  and its process must be replaced.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from raykafka.actors.machines import ReplicatedMachine
from raykafka.actors.pending import PendingCommands, answer, fail
from raykafka.actors.quorum.log import MachineLog
from raykafka.actors.quorum.node import QuorumNode
from raykafka.actors.quorum.options import QuorumOptions
from raykafka.actors.quorum.serving import QuorumServer
from raykafka.actors.timeouts import within
from raykafka.clock import Clock
from raykafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaStorageError,
    NotControllerError,
    RaykafkaError,
    RequestTimedOutError,
)
from raykafka.model import Endpoint

logger = logging.getLogger(__name__)

_DRAIN_S: Final = 5.0
"""How long a clean end waits for what is not committed yet."""

V = TypeVar("V")


class ShellState(enum.Enum):
    """FOLLOWING, LOADING, ACTIVE and RELOADING go round as leaders change."""

    NEW = "new"
    FOLLOWING = "following"
    LOADING = "loading"
    ACTIVE = "active"
    RELOADING = "reloading"
    FAILED = "failed"
    CLOSED = "closed"


class SnapshotPolicy(NamedTuple):
    """After how much a snapshot takes the log's place, whichever comes first."""

    records: int = 20_000
    bytes: int = 20 << 20


class _Replayed(NamedTuple):
    machine: Any
    end_offset: int
    size: int


class StateMachineShell(Generic[V]):
    """Runs one machine on one log. Everything but the log's thread is on the caller's loop."""

    def __init__(
        self,
        name: str,
        make_machine: Callable[[], ReplicatedMachine[V]],
        open_log: Callable[[], MachineLog],
        clock: Clock,
        options: QuorumOptions | None = None,
        snapshots: SnapshotPolicy | None = None,
    ) -> None:
        """``open_log`` blocks (recovery) and is called in the log's thread by ``open``.

        ``options`` tell who else has the log; by default nobody.
        """
        self.name = name
        self.state = ShellState.NEW
        self.node = QuorumNode(name, open_log, clock, self, options or QuorumOptions())
        self.server = QuorumServer(self.node)
        self._make_machine = make_machine
        self._snapshots = snapshots or SnapshotPolicy()
        self._clock = clock
        self._machine = make_machine()
        self._applied = -1
        """Up to where the machine has replayed the log while it only follows; -1: begin anew."""
        self._applying = False
        self._commands = PendingCommands()
        self._failure: RaykafkaError | None = None
        self._changed = asyncio.Event()
        self._failed = asyncio.Event()
        self._waiters: list[tuple[Callable[[V], bool], asyncio.Future[None]]] = []
        self._listeners: list[Callable[[], None]] = []
        self._role_listeners: list[Callable[[], None]] = []
        self._snapshot_offset = 0
        self._bytes_since = 0
        self.view: V = self._machine.view()
        """The committed state; immutable, so it may be kept."""
        self.view_offset = 0
        """End of the log that ``view`` reflects; never goes back."""

    # --- life -------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Open the log and become active, alone; raises what the log or the machine raises."""
        await self.open()
        self.start(Endpoint("", 0))
        await self.wait_decided()

    async def open(self) -> None:
        """Read what is on the disk; raises what the log raises."""
        self.state = ShellState.LOADING
        try:
            await self.node.open()
        except BaseException:
            self.state = ShellState.FAILED
            self.node.queue.shut()
            raise
        self._snapshot_offset = self.node.log.start.offset

    def start(self, endpoint: Endpoint) -> None:
        """Take part in the quorum; this replica's listener answers at ``endpoint``."""
        self.state = ShellState.FOLLOWING
        self.node.start(endpoint)

    async def wait_decided(self) -> None:
        """Return when this replica is active, or knows who leads; raises why it has failed."""
        while self.state is not ShellState.ACTIVE and not self.follows_leader:
            if self._failure is not None:
                raise self._failure
            if self.state is ShellState.CLOSED:
                raise CoordinatorNotAvailableError(f"{self.name} is closed")
            self._changed.clear()
            await self._changed.wait()

    @property
    def follows_leader(self) -> bool:
        """Whether another replica is known to lead."""
        return self.state is ShellState.FOLLOWING and self.node.machine.leader_id >= 0

    async def wait_failed(self) -> None:
        """Return when the log cannot be trusted any more; the process should end then."""
        await self._failed.wait()

    async def close(self) -> None:
        """Write what is queued, close the log cleanly. Later commands are refused."""
        if self.state in (ShellState.NEW, ShellState.CLOSED):
            self.state = ShellState.CLOSED
            return
        self.state = ShellState.CLOSED
        self._tell()
        try:
            await within(self._drained(), _DRAIN_S, "commands that are not committed yet")
        except RequestTimedOutError as error:
            logger.warning("%s: %s", self.name, error)
        self._commands.fail(CoordinatorNotAvailableError(f"{self.name} is closed"))
        await self.server.close()
        await self.node.close()

    async def abandon(self) -> None:
        """Stop at once and leave the log as a killed process would; for test kits.

        Returns when the log's thread has ended, so that a successor is alone with the files.
        """
        self.state = ShellState.CLOSED
        self._commands.fail(CoordinatorNotAvailableError(f"{self.name} has been killed"))
        self._tell()
        await self.server.close()
        await self.node.abandon()

    # --- commands ---------------------------------------------------------------------------------

    async def submit(self, command: Any) -> Any:
        """Handle ``command``; returns its answer once everything it rests on is committed.

        Raises what the machine raises, what the log raises when the append fails, and retriable
        ones: ``NotControllerError`` where another replica leads, ``CoordinatorLoadInProgressError``
        or ``CoordinatorNotAvailableError``.
        """
        self._check_active()
        outcome = self._machine.handle(command, now_ms=self._clock.now_ms())
        if not outcome.records and not self._commands:
            return outcome.answer
        records = [self._machine.encode(record) for record in outcome.records]
        self._machine.replay(outcome.records)
        future = self._commands.add(records, outcome.answer, self._machine.view())
        self.node.queue.wake()
        return await future

    async def wait_for(self, holds: Callable[[V], bool], timeout_s: float) -> bool:
        """Wait until the committed state satisfies ``holds``; False when it took too long."""
        if holds(self.view):
            return True
        waiter = (holds, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await asyncio.wait({waiter[1]}, timeout=timeout_s)
        finally:
            self._waiters.remove(waiter)
        return waiter[1].done()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever ``view`` has changed."""
        self._listeners.append(listener)

    def off_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` no more."""
        self._listeners.remove(listener)

    def on_role_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever this shell has become active, or ceased to be."""
        self._role_listeners.append(listener)

    # --- what the node tells ----------------------------------------------------------------------

    def on_gather(self) -> None:
        """See ``NodeListener``."""
        may_append = self.state in (ShellState.ACTIVE, ShellState.CLOSED)
        if not may_append or not self._commands.has_queued:
            return
        commands = self._commands.take()
        records = [record for pending in commands for record in pending.records]
        try:
            end = self.node.append(records) if records else self.node.machine.log.end_offset
        except NotControllerError as error:
            fail(commands, error)
            return
        self._bytes_since += sum(map(len, records))
        self._commands.appended(end, commands)
        self._settle()
        if self._commands.has_queued:
            self.node.queue.wake()

    def on_committed(self) -> None:
        """See ``NodeListener``."""
        if self.state in (ShellState.ACTIVE, ShellState.RELOADING, ShellState.CLOSED):
            self._settle()
        else:
            self._apply()

    def on_role(self) -> None:
        """See ``NodeListener``."""
        if self.state in (ShellState.FAILED, ShellState.CLOSED):
            return
        was_active = self.state in (ShellState.ACTIVE, ShellState.RELOADING)
        if self.node.machine.leading is not None:
            self.state = ShellState.LOADING
        else:
            self.state = ShellState.FOLLOWING
        if was_active:
            self._applied = -1  # the machine is ahead of what is committed
            self._commands.fail(
                NotControllerError(f"{self.name} does not lead any more; try again")
            )
            self._tell_role()
        self._apply()
        self._tell()

    def on_append_failed(self, error: Exception) -> None:
        """See ``NodeListener``: go back to what the log says."""
        logger.error("%s: could not append to the log: %s", self.name, error)
        failure = _as_storage_error(error, "nothing was changed")
        self._commands.fail(failure, beyond=self.node.machine.log.end_offset)
        if self.state in (ShellState.ACTIVE, ShellState.RELOADING):
            self.state = ShellState.RELOADING
            self.node.queue.put(lambda: self._replayed(-1, self.node.log.end_offset), self._reload)

    def on_node_failed(self, error: Exception) -> None:
        """See ``NodeListener``."""
        logger.critical("%s: the log cannot be trusted any more: %s", self.name, error)
        was_active = self.state in (ShellState.ACTIVE, ShellState.RELOADING)
        if self.state is not ShellState.CLOSED:
            self.state = ShellState.FAILED
        self._failure = _as_storage_error(error, "whether it took effect is not known")
        self._commands.fail(self._failure)
        if was_active:
            self._tell_role()
        self._failed.set()
        self._tell()

    # --- committing -------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Show and answer what is committed by now."""
        done = self._commands.committed(self.node.high_watermark)
        if done:
            self._publish(done[-1].commands[-1].view, done[-1].end_offset)
            answer(done)
            self._tell()

    def _publish(self, view: V, end_offset: int) -> None:
        if end_offset < self.view_offset:
            return  # a machine that was rebuilt has not come as far as the last one yet
        self.view = view
        self.view_offset = end_offset
        for waiter in list(self._waiters):
            holds, future = waiter
            if not future.done() and holds(view):
                future.set_result(None)
        for listener in self._listeners:
            listener()
        grown = end_offset - self._snapshot_offset
        if grown >= self._snapshots.records or self._bytes_since >= self._snapshots.bytes:
            self._snapshot_offset, self._bytes_since = end_offset, 0
            encode = self._make_machine().encode_view
            self.node.save_snapshot(end_offset, lambda: encode(view))

    # --- following --------------------------------------------------------------------------------

    def _apply(self) -> None:
        """Replay what is committed; a leader that has replayed all is active."""
        if self._applying or self.state not in (ShellState.FOLLOWING, ShellState.LOADING):
            return
        applied, end = self._applied, self.node.high_watermark
        if applied < end:
            self._applying = True
            self.node.queue.put(lambda: self._replayed(applied, end), self._on_applied)
        elif self.node.is_active and applied == self.node.machine.log.end_offset:
            self.state = ShellState.ACTIVE
            self._tell_role()
            self._tell()

    def _on_applied(self, replayed: _Replayed) -> None:
        self._applying = False
        self._machine, self._applied = replayed.machine, replayed.end_offset
        self._bytes_since += replayed.size
        if self.state in (ShellState.FOLLOWING, ShellState.LOADING):
            self._publish(self._machine.view(), self._applied)
            self._apply()

    def _reload(self, replayed: _Replayed) -> None:
        if self.state is not ShellState.RELOADING:
            return
        self._machine = replayed.machine
        self.state = ShellState.ACTIVE
        if replayed.end_offset <= self.node.high_watermark:
            self._publish(self._machine.view(), replayed.end_offset)
        self._tell()

    def _replayed(self, applied: int, end: int) -> _Replayed:
        """Runs in the log's thread, on a machine that nobody else uses meanwhile."""
        log, machine, size = self.node.log, self._machine, 0
        if applied < log.start.offset:
            machine, applied = self._make_machine(), log.start.offset
            if log.snapshot is not None:
                machine.restore(log.snapshot.state)
        for batch in log.replay(applied, end):
            if not batch.is_control:
                machine.replay([machine.decode(record) for record in batch.records])
            size += sum(map(len, batch.records))
            applied = batch.end_offset
        return _Replayed(machine, applied, size)

    # --- failure ----------------------------------------------------------------------------------

    def _check_active(self) -> None:
        if self.state is ShellState.ACTIVE:
            return
        if self.state is ShellState.FOLLOWING:
            leader = self.node.machine.leader_id
            known = f"controller {leader} is" if leader >= 0 else "one is being elected"
            raise NotControllerError(f"{self.name} is not the active controller: {known}")
        if self.state in (ShellState.LOADING, ShellState.RELOADING):
            raise CoordinatorLoadInProgressError(f"{self.name} is replaying its log; try again")
        raise CoordinatorNotAvailableError(f"{self.name} is {self.state.value}")

    async def _drained(self) -> None:
        while self._commands and not self._failed.is_set():
            self._changed.clear()
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()

    def _tell_role(self) -> None:
        for listener in self._role_listeners:
            listener()


def _as_storage_error(error: Exception, consequence: str) -> RaykafkaError:
    if isinstance(error, RaykafkaError):
        return error
    return KafkaStorageError(f"the log failed ({error!r}); {consequence}")
