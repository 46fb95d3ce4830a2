"""One coordinator: a machine on the log of a partition of an internal topic that is led here.

Rules:
- A command is handled and its records are replayed in one step, without an await in between, so the
  next command sees them; answers wait until everything they rest on is committed (acks=all).
- Commands of one turn of the loop share a batch, which a log keeps whole or not at all.
- Nothing is served before the whole log has been replayed and is committed: a new leader then knows
  all that any leader before it has answered.
- When an append fails, the machine is ahead of the log: it is thrown away and rebuilt by replay.
- A leader that is deposed never answers again; whoever waits hears ``NotCoordinatorError``, and
  what they asked for may have happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from raykafka.actors.coordinating.compaction import Compaction
from raykafka.actors.coordinating.loading import HighWatermarkWaiter, replay_log
from raykafka.actors.coordinating.machine import CoordinatorMachine, KeyedRecord
from raykafka.actors.replicas.lease import Lease
from raykafka.actors.replicas.own_appends import CommitReply, OwnAppends
from raykafka.actors.replicas.replica import Replica
from raykafka.actors.timeouts import cancel_all
from raykafka.clock import Clock
from raykafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    RaykafkaError,
    ServerBusyError,
)
from raykafka.log.batch import encode_batch
from raykafka.log.small_batch import MAX_ROWS, SmallRecords, encode_records
from raykafka.replication.role import Role

logger = logging.getLogger(__name__)

MAX_PENDING: Final = 20_000
"""Commands of one coordinator that may wait to be committed."""
_RELOAD_PAUSE_S: Final = 0.2


class _Waiting(NamedTuple):
    answer: Any
    future: asyncio.Future[Any]


class _Group:
    """Commands whose records go into one batch."""

    def __init__(self) -> None:
        self.records: list[KeyedRecord] = []
        self.waiting: list[_Waiting] = []


class HostedService:
    """See the module's docstring. Made when a replica leads, closed when it does not any more."""

    def __init__(
        self,
        replica: Replica,
        make_machine: Callable[[], CoordinatorMachine],
        appends: OwnAppends,
        lease: Lease,
        clock: Clock,
        on_loaded: Callable[[HostedService], None],
    ) -> None:
        """``on_loaded`` is called each time the machine has been rebuilt and serves."""
        self.replica = replica
        self._make_machine = make_machine
        self._appends = appends
        self._lease = lease
        self._clock = clock
        self._on_loaded = on_loaded
        self._machine = make_machine()
        self._active = False
        self._closed = False
        self._loading: asyncio.Task[None] | None = None
        self._queued: _Group | None = None
        self._in_flight: list[_Group] = []
        self._pending = 0
        self._compaction = Compaction()
        self.tasks: set[asyncio.Task[Any]] = set()
        """Work of the service's kind that ends with it."""

    @property
    def name(self) -> str:
        """Topic and partition."""
        return f"{self.replica.topic}-{self.replica.partition.partition}"

    @property
    def machine(self) -> Any:
        """The machine, for questions about its state that need not be committed."""
        return self._machine

    @property
    def is_active(self) -> bool:
        """Whether commands are taken."""
        return self._active and not self._closed

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load; commands are refused as ``CoordinatorLoadInProgressError`` until that is done."""
        self._active = False
        self._loading = asyncio.ensure_future(self._load())

    def resign(self) -> None:
        """Answer nobody any more but with an error, from now on."""
        self._closed = True
        self._fail_all(self._deposed())
        for task in (*self.tasks, *([self._loading] if self._loading is not None else [])):
            task.cancel()

    async def close(self) -> None:
        """Resign, and return when nothing of it runs any more."""
        self.resign()
        await cancel_all([*self.tasks, *([self._loading] if self._loading is not None else [])])

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine that is cancelled when this service ends."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._on_task_done)

    # --- commands ---------------------------------------------------------------------------------

    async def submit(self, command: Any) -> Any:
        """Handle ``command``; returns its answer once everything it rests on is committed.

        Raises what the machine raises, and retriable ones: ``NotCoordinatorError``,
        ``CoordinatorLoadInProgressError``, ``CoordinatorNotAvailableError`` (too few copies are in
        sync, or the disk is full), ``ServerBusyError``.
        """
        self._check()
        try:
            outcome = self._machine.handle(
                command, now_ms=self._clock.now_ms(), monotonic_ms=self._clock.monotonic_ms()
            )
        except RaykafkaError:
            await self._settled((), None)  # a refusal, too, rests on what may be lost yet
            raise
        return await self._settled(outcome.records, outcome.answer)

    def tell(self, command: Any) -> Any:
        """Handle, at once and always, a ``command`` that leads to no records; what it answers may
        rest on what is not committed yet.
        """
        return self._machine.handle(
            command, now_ms=self._clock.now_ms(), monotonic_ms=self._clock.monotonic_ms()
        ).answer

    async def tick(self) -> Any:
        """Let the machine see what has run out; returns its answer, None while nothing has."""
        if not self.is_active or not self._may_append():
            return None
        outcome = self._machine.on_tick(
            now_ms=self._clock.now_ms(), monotonic_ms=self._clock.monotonic_ms()
        )
        if self._compaction.is_due:
            self.spawn(self._compact())
        if not outcome.records:
            return outcome.answer
        return await self._settled(outcome.records, outcome.answer)

    async def _settled(self, records: Sequence[Any], answer: Any) -> Any:
        group = self._queued
        if not records and group is None:
            if not self._in_flight:
                return answer
            group = self._in_flight[-1]
        if group is None:
            group = self._queued = _Group()
            asyncio.get_running_loop().call_soon(self._append_queued)
        if records:
            encoded = [self._machine.encode(record) for record in records]
            group.records += encoded
            self._machine.replay(records)
            self._compaction.on_appended(encoded)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        group.waiting.append(_Waiting(answer, future))
        self._pending += 1
        return await future

    def _check(self) -> None:
        if self._closed or self.replica.machine.role is not Role.LEADER:
            raise self._deposed()
        if not self._active:
            raise CoordinatorLoadInProgressError(f"{self.name} is being replayed; try again")
        if self._pending >= MAX_PENDING:
            raise ServerBusyError(f"{MAX_PENDING} requests wait for {self.name}; try again")
        if len(self.replica.machine.in_sync.replicas) > 1:
            try:
                self._lease.check(self._clock.monotonic_ms())
            except RaykafkaError as error:
                raise NotCoordinatorError(error.message) from None
        if not self._may_append():
            raise CoordinatorNotAvailableError(
                f"too few copies of {self.name} are in sync to change anything; try again"
            )

    def _may_append(self) -> bool:
        machine = self.replica.machine
        return len(machine.in_sync.isr) >= machine.min_insync_replicas

    def _deposed(self) -> NotCoordinatorError:
        return NotCoordinatorError(
            f"{self.name} is not led here any more; refresh the metadata and ask its leader"
        )

    # --- the log ----------------------------------------------------------------------------------

    def _append_queued(self) -> None:
        group, self._queued = self._queued, None
        if group is None:
            return
        if not group.records:
            self._answer(group, None)
            return
        self._in_flight.append(group)
        try:
            self._append(group, group.records)
        except Exception as error:  # noqa: BLE001  # else all of them would wait for ever
            logger.warning("%s: could not append: %r", self.name, error)
            self._in_flight.remove(group)
            self._answer(group, CoordinatorNotAvailableError(f"nothing was changed: {error}"))
            self._reload()

    def _append(self, group: _Group, records: Sequence[KeyedRecord]) -> None:
        now_ms = self._clock.now_ms()
        keys: list[bytes | None] = [key for key, _ in records]
        small = SmallRecords([now_ms] * len(keys), keys, [value for _, value in records])
        partition = self.replica.partition
        if len(keys) <= MAX_ROWS:
            batch = encode_records(small, partition)
        else:
            batch = encode_batch(small.to_arrow(), partition)
        reply = CommitReply(partial(self.on_replied, group))
        self._appends.append(self.replica, batch, reply.parked)

    def on_replied(self, group: _Group, error: RaykafkaError | None) -> None:
        """The group's batch is committed; or nobody knows whether it will be."""
        if group in self._in_flight:
            self._in_flight.remove(group)
        self._answer(group, None if error is None else self._deposed())

    def _answer(self, group: _Group, error: RaykafkaError | None) -> None:
        self._pending -= len(group.waiting)
        for answer, future in group.waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(answer)
            else:
                future.set_exception(type(error)(error.message))
        group.waiting.clear()

    def _fail_all(self, error: RaykafkaError) -> None:
        queued, self._queued = self._queued, None
        groups, self._in_flight = self._in_flight, []
        for group in (*groups, *([queued] if queued is not None else [])):
            self._answer(group, error)

    # --- loading ----------------------------------------------------------------------------------

    def _reload(self) -> None:
        self._active = False
        queued, self._queued = self._queued, None
        if queued is not None:
            self._answer(queued, CoordinatorNotAvailableError("nothing was changed; try again"))
        self._loading = asyncio.ensure_future(self._load())

    async def _load(self) -> None:
        while not self._closed:
            try:
                await self._replay()
            except RaykafkaError as error:
                logger.error("%s cannot be loaded: %s", self.name, error)
            except Exception:
                # A coordinator that is silent for ever would be worse than one that tries again.
                logger.exception("%s cannot be loaded", self.name)
            else:
                return
            await asyncio.sleep(_RELOAD_PAUSE_S)

    async def _replay(self) -> None:
        machine, log = self._make_machine(), self.replica.log
        end = await replay_log(log, machine)
        await self._wait_committed(end)
        if self._closed:
            return
        self._machine = machine
        self._compaction.restart(end - log.log_start_offset)
        machine.on_loaded(now_ms=self._clock.now_ms(), monotonic_ms=self._clock.monotonic_ms())
        self._active = True
        self._on_loaded(self)

    async def _wait_committed(self, end: int) -> None:
        """Until everything below ``end`` is committed; a service that is closed is cancelled."""
        waiter = HighWatermarkWaiter()
        while self.replica.high_watermark < end and not self._closed:
            waiter.moved.clear()
            self.replica.waiters[waiter] = end - 1
            await waiter.moved.wait()
        self.replica.waiters.pop(waiter, None)

    # --- compaction -------------------------------------------------------------------------------

    async def _compact(self) -> None:
        """Write the state once more and let the log begin there; see ``compaction``."""
        self._append_queued()  # what has been replayed already must stand before the snapshot
        machine, compaction, replica = self._machine, self._compaction, self.replica
        if compaction.is_running or not self.is_active:
            return
        records = [machine.encode(record) for record in machine.snapshot()]
        compaction.begin(records, replica.log.log_end_offset)
        start = compaction.start_offset
        try:
            while self._still_serves(machine) and (part := compaction.next_slice()):
                await self._append_slice(part)
            # Keys that were left out since they have changed: what they are now must be committed.
            await self._settled((), None)
            if self._still_serves(machine):
                replica.log.delete_records(start)
        except RaykafkaError as error:
            logger.warning("%s: was not compacted: %s", self.name, error)
        finally:
            if machine is self._machine:  # else another rewriting may be under way
                compaction.end()

    async def _append_slice(self, records: Sequence[KeyedRecord]) -> None:
        group = _Group()
        self._in_flight.append(group)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        group.waiting.append(_Waiting(None, future))
        self._pending += 1
        try:
            self._append(group, records)
        except Exception:
            self._in_flight.remove(group)
            self._pending -= 1
            raise
        await future

    def _still_serves(self, machine: CoordinatorMachine) -> bool:
        return self.is_active and machine is self._machine

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, RaykafkaError):
            logger.debug("%s: %s", self.name, error)
        elif error is not None:
            logger.error("%s: a task failed", self.name, exc_info=error)
