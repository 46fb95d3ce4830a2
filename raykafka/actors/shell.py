"""The runtime of every service whose state is a log: the controller and the coordinators.

Rules:
- A command is handled and its records are replayed in one step, without an await in between, so the
  next command sees them; only the answer waits until they are durable.
- Commands that arrive while a flush runs share the next one (group commit). All work on the log
  happens in one thread, so the loop never waits for the disk.
- What others may see (``view``) is the state as of the durable end of the log.
- When an append fails, nothing of it is in the log: the machine, which is ahead of it now, is
  thrown away and rebuilt by replay. When a flush fails nobody knows what is on the disk: the shell
  refuses everything from then on, and its process must be replaced.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from raykafka.clock import Clock
from raykafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaStorageError,
    RaykafkaError,
)

logger = logging.getLogger(__name__)

_MAX_BATCH_BYTES: Final = 4 << 20
"""Records of several commands that share a batch of the log; one command may exceed it alone."""

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class CommandOutcome(Protocol):
    """What a machine's ``handle`` returns."""

    @property
    def records(self) -> Sequence[Any]:
        """What the command changes; may be empty."""

    @property
    def answer(self) -> Any:
        """What the caller is told once the records are durable."""


class ReplicatedMachine(Protocol[V_co]):
    """A deterministic service; see ``ClusterMetadataMachine`` for one."""

    def handle(self, command: Any, *, now_ms: int) -> CommandOutcome:
        """Decide; change nothing. Raises ``RaykafkaError`` to refuse."""

    def replay(self, records: Iterable[Any]) -> None:
        """Change the state: the only way to."""

    def view(self) -> V_co:
        """An immutable picture of the state."""

    def encode(self, record: Any) -> bytes:
        """A record as it is written."""

    def decode(self, data: bytes) -> Any:
        """The reverse of ``encode``."""


class MachineLog(Protocol):
    """Where the records are; blocking, used by one thread at a time."""

    @property
    def end_offset(self) -> int:
        """Offset of the next record."""

    def replay(self) -> Iterator[list[bytes]]:
        """Everything in the log, in the groups in which it was written."""

    def append(self, records: Sequence[bytes], now_ms: int) -> None:
        """Write all of ``records`` or, raising, none."""

    def flush(self) -> None:
        """Make everything appended durable."""

    def close(self) -> None:
        """Close cleanly."""


class ShellState(enum.Enum):
    """From top to bottom, but for RELOADING, which goes back to ACTIVE."""

    NEW = "new"
    LOADING = "loading"
    ACTIVE = "active"
    RELOADING = "reloading"
    FAILED = "failed"
    CLOSED = "closed"


class _Pending(NamedTuple):
    records: list[bytes]
    answer: Any
    view: Any
    future: asyncio.Future[Any]


class _WriteResult(NamedTuple):
    end_offset: int
    append_error: Exception | None = None
    flush_error: Exception | None = None


class StateMachineShell(Generic[V]):
    """Runs one machine on one log. Everything but the log's thread is on the caller's loop."""

    def __init__(
        self,
        name: str,
        make_machine: Callable[[], ReplicatedMachine[V]],
        open_log: Callable[[], MachineLog],
        clock: Clock,
    ) -> None:
        """``open_log`` blocks (recovery) and is called in the log's thread by ``load``."""
        self.name = name
        self.state = ShellState.NEW
        self._make_machine = make_machine
        self._open_log = open_log
        self._clock = clock
        self._machine = make_machine()
        self._log: MachineLog | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._queue: deque[_Pending] = deque()
        self._in_flight: Sequence[_Pending] = ()
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._failed = asyncio.Event()
        self._waiters: list[tuple[Callable[[V], bool], asyncio.Future[None]]] = []
        self._listeners: list[Callable[[], None]] = []
        self.view: V = self._machine.view()
        """The durable state; immutable, so it may be kept."""
        self.view_offset = 0
        """End of the log that ``view`` reflects; never goes back."""

    async def load(self) -> None:
        """Open the log and replay it; raises what the log or the machine raises."""
        self.state = ShellState.LOADING
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{self.name} log")
        try:
            self._log = await self._in_thread(self._open_log)
            self._machine = await self._in_thread(self._replayed, self._log)
        except BaseException:
            self.state = ShellState.FAILED
            self._thread.shutdown(wait=False)
            raise
        self.state = ShellState.ACTIVE
        self._publish(self._machine.view(), self._log.end_offset)
        self._writer = asyncio.ensure_future(self._write())

    async def submit(self, command: Any) -> Any:
        """Handle ``command``; returns its answer once everything it rests on is durable.

        Raises what the machine raises, what the log raises when the append fails, and
        ``CoordinatorLoadInProgressError`` (retriable) or ``CoordinatorNotAvailableError``.
        """
        self._check_active()
        outcome = self._machine.handle(command, now_ms=self._clock.now_ms())
        if not outcome.records and not self._queue and not self._in_flight:
            return outcome.answer
        records = [self._machine.encode(record) for record in outcome.records]
        self._machine.replay(outcome.records)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(_Pending(records, outcome.answer, self._machine.view(), future))
        self._wake.set()
        return await future

    async def wait_for(self, holds: Callable[[V], bool], timeout_s: float) -> bool:
        """Wait until the durable state satisfies ``holds``; False when it took too long."""
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

    async def wait_failed(self) -> None:
        """Return when the log cannot be trusted any more; the process should end then."""
        await self._failed.wait()

    async def close(self) -> None:
        """Write what is queued, close the log cleanly. Later commands are refused."""
        if self.state in (ShellState.NEW, ShellState.CLOSED):
            self.state = ShellState.CLOSED
            return
        was_active = self.state is ShellState.ACTIVE
        self.state = ShellState.CLOSED
        self._wake.set()
        if self._writer is not None:
            await self._writer
        assert self._thread is not None
        if self._log is not None and was_active and not self._failed.is_set():
            await self._in_thread(self._log.close)
        self._thread.shutdown(wait=False)

    async def abandon(self) -> None:
        """Stop at once and leave the log as a killed process would; for test kits.

        Returns when the log's thread has ended, so that a successor is alone with the files.
        """
        self.state = ShellState.CLOSED
        if self._writer is not None:
            self._writer.cancel()
        self._fail_queue([], CoordinatorNotAvailableError(f"{self.name} has been killed"))
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    # --- writing ----------------------------------------------------------------------------------

    async def _write(self) -> None:
        while self.state is ShellState.ACTIVE or (self.state is ShellState.CLOSED and self._queue):
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._in_flight = group = self._take()
            result = await self._in_thread(self._append_and_flush, group, self._clock.now_ms())
            self._in_flight = ()
            if result.flush_error is not None:
                self._give_up(group, result.flush_error)
            elif result.append_error is not None:
                await self._rebuild(group, result.append_error)
            else:
                self._publish(group[-1].view, result.end_offset)
                for pending in group:
                    if not pending.future.done():
                        pending.future.set_result(pending.answer)

    def _take(self) -> list[_Pending]:
        group: list[_Pending] = []
        size = 0
        while self._queue and size < _MAX_BATCH_BYTES:
            pending = self._queue.popleft()
            size += sum(map(len, pending.records))
            group.append(pending)
        return group

    def _append_and_flush(self, group: Sequence[_Pending], now_ms: int) -> _WriteResult:
        """Runs in the log's thread."""
        log = self._log
        assert log is not None
        records = [record for pending in group for record in pending.records]
        if records:
            try:
                log.append(records, now_ms)
            except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it is
                return _WriteResult(-1, append_error=error)
            try:
                log.flush()
            except Exception as error:  # noqa: BLE001
                return _WriteResult(-1, flush_error=error)
        return _WriteResult(log.end_offset)

    def _publish(self, view: V, end_offset: int) -> None:
        self.view = view
        self.view_offset = end_offset
        for waiter in list(self._waiters):
            holds, future = waiter
            if not future.done() and holds(view):
                future.set_result(None)
        for listener in self._listeners:
            listener()

    # --- failure ----------------------------------------------------------------------------------

    async def _rebuild(self, group: Sequence[_Pending], error: Exception) -> None:
        """The append left nothing behind: go back to what the log says."""
        logger.error("%s: could not append to the log: %s", self.name, error)
        self._fail_queue(group, _as_storage_error(error, "nothing was changed"))
        if self.state is ShellState.CLOSED:
            return
        self.state = ShellState.RELOADING
        assert self._log is not None
        try:
            self._machine = await self._in_thread(self._replayed, self._log)
        except Exception as reload_error:  # noqa: BLE001  # the shell ends here, and says so
            self._give_up([], reload_error)
            return
        if self.state is ShellState.RELOADING:
            self.state = ShellState.ACTIVE
            self._publish(self._machine.view(), self._log.end_offset)

    def _give_up(self, group: Sequence[_Pending], error: Exception) -> None:
        logger.critical("%s: the log cannot be trusted any more: %s", self.name, error)
        self.state = ShellState.FAILED
        self._fail_queue(group, _as_storage_error(error, "whether it took effect is not known"))
        self._failed.set()

    def _fail_queue(self, group: Sequence[_Pending], error: RaykafkaError) -> None:
        """Answer everyone: what is queued rests on state that never came to be."""
        for pending in (*group, *self._in_flight, *self._queue):
            if not pending.future.done():
                pending.future.set_exception(error)
        self._queue.clear()

    def _replayed(self, log: MachineLog) -> ReplicatedMachine[V]:
        """Runs in the log's thread, on a machine that nobody else knows yet."""
        machine = self._make_machine()
        for records in log.replay():
            machine.replay([machine.decode(record) for record in records])
        return machine

    def _check_active(self) -> None:
        if self.state is ShellState.ACTIVE:
            return
        if self.state in (ShellState.LOADING, ShellState.RELOADING):
            raise CoordinatorLoadInProgressError(f"{self.name} is replaying its log; try again")
        raise CoordinatorNotAvailableError(f"{self.name} is {self.state.value}")

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


def _as_storage_error(error: Exception, consequence: str) -> RaykafkaError:
    if isinstance(error, RaykafkaError):
        return error
    return KafkaStorageError(f"the log failed ({error!r}); {consequence}")
