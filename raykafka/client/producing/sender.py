"""Drives the transmitter: by the thread that waits for a result, or else by one in the background.

Who sends:

- ``get``, ``flush`` and a ``send`` that waits for memory take the turn and do the I/O themselves,
  without waiting for ``linger_ms``;
- a ``send`` that fills a chunk, or finds it has lingered, hands out what is ready and takes in what
  has arrived, without waiting: under load no second thread fights for the interpreter;
- the background thread does what is left: records that linger after the last ``send``, answers
  that nobody waits for, repeated attempts. It lets go as soon as somebody else asks for the turn.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from raykafka.client.cluster.deadline import Deadline
from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.producing.accumulator import NEVER_MS, Accumulator
from raykafka.client.producing.counters import Counters
from raykafka.client.producing.delivery import Group
from raykafka.client.producing.futures import Callbacks
from raykafka.client.producing.gate import Gate, Identities
from raykafka.client.producing.producer_ids import ProducerIds
from raykafka.client.producing.transmitter import Transmitter
from raykafka.client.producing.turn import Bell, Turn
from raykafka.clock import Clock
from raykafka.config.producer import ProducerConfig
from raykafka.errors import ClientClosedError, RaykafkaError, UnknownServerError

logger = logging.getLogger(__name__)

STEP_MS = 5
"""Pace of the background thread while something is under way that nobody waits for."""
PROMPT_STEP_MS = 1
"""The same while a callback waits to hear of it."""
QUIET_STEPS = 20
"""Steps without anything to do after which the background thread sleeps until it is called."""
DIRECT_WAIT_MS = 2
"""How long one connection is waited for by itself, which saves a system call but cannot be
interrupted by other threads of this producer."""


class Sender:
    """The engine of one producer. Thread-safe."""

    def __init__(
        self,
        config: ProducerConfig,
        metadata: ClusterMetadata,
        clock: Clock,
        gate: Gate | None = None,
    ) -> None:
        """``gate`` is there for a producer with a transactional id."""
        self._clock = clock
        self._lingers = config.linger_ms > 0
        self._patience_ms = max(config.linger_ms, STEP_MS) + STEP_MS
        self._metadata = metadata
        self.callbacks = Callbacks()
        self.ids: Identities = gate or ProducerIds(
            metadata, enabled=config.enable_idempotence, on_change=self._cluster_changed
        )
        self.accumulator = Accumulator(
            self,
            batch_size=config.batch_size,
            linger_ms=config.linger_ms,
            buffer_memory=config.buffer_memory,
            max_block_ms=config.max_block_ms,
            clock=clock,
        )
        self._connections = LeaderConnections(
            lambda: metadata.secret,
            client_id=config.client_id,
            clock=clock,
            retry_backoff_ms=config.retry_backoff_ms,
            request_timeout_ms=config.request_timeout_ms,
        )
        self._transmitter = Transmitter(
            config,
            metadata,
            self.ids,
            self.accumulator,
            self._connections,
            self.callbacks,
            clock,
            gate,
        )
        metadata.on_update(self._cluster_changed)
        self._turn = Turn()
        self._bell = Bell()
        self._asleep = False
        self._polling = False
        self._served_ms = 0
        self._stopping = False
        self._thread = threading.Thread(
            target=self._background, name="raykafka-producer", daemon=True
        )
        self._thread.start()

    @property
    def counters(self) -> Counters:
        """Totals so far."""
        return self._transmitter.counters

    @property
    def in_flight(self) -> int:
        """Batches sent and not answered."""
        return self._transmitter.in_flight

    def notice(self) -> None:
        """See ``accumulator.Sending``."""
        if self._asleep or not self._lingers:
            self._bell.ring()

    def expect_answer(self) -> None:
        """See ``delivery.Driver``."""
        self._bell.ring()

    def assist(self) -> None:
        """See ``accumulator.Sending``."""
        if not self._turn.try_enter():
            self._turn.wanted = True
            self._wake()
            return
        try:
            self._served_ms = now_ms = self._clock.monotonic_ms()
            self._transmitter.serve(now_ms)
            self._connections.pump(0)
            if self.callbacks.waiting and self._transmitter.unsettled:
                self.expect_answer()
        except BaseException:
            self._transmitter.reset()
            raise
        finally:
            self._leave()

    def wait_for(
        self, settled: Callable[[], bool], timeout_s: float | None, group: Group | None
    ) -> bool:
        """See ``delivery.Driver``; ``group`` is sent at once, whatever it lingers for."""
        if group is not None:
            self.accumulator.close_chunk(group)
        now_ms = self._clock.monotonic_ms()
        deadline = Deadline(self._clock, None if timeout_s is None else timeout_s * 1000, now_ms)
        while True:
            if not self._stopping and self._turn.try_enter():
                try:
                    done = self._run(settled, deadline, now_ms)
                finally:
                    self._leave()
            else:
                self._turn.wanted = True
                self._wake()
                self._turn.wait(settled, deadline.remaining_ms(NEVER_MS) / 1000)
                done = settled()
            if done:
                return True
            if deadline.expired:
                return settled()
            now_ms = self._clock.monotonic_ms()

    def flush(self, timeout_s: float | None, hopeless: Callable[[], bool] | None = None) -> bool:
        """Deliver everything now, or until ``hopeless()``; False when something is left.

        Callbacks of what was delivered have run when it returns.
        """
        deadline = Deadline(self._clock, None if timeout_s is None else timeout_s * 1000)
        for group in self.accumulator.close_all():
            left_s = None if timeout_s is None else deadline.remaining_ms(NEVER_MS) / 1000
            settled = group.complete if hopeless is None else partial(_either, group, hopeless)
            if not self.wait_for(settled, left_s, group) or not group.complete():
                return False
        self.callbacks.run(wait=True)
        return True

    def abandon(self, error: RaykafkaError) -> None:
        """Fail everything that is not acknowledged, and number what follows from zero."""
        self._fail_all(error, start_over=True)

    def close(self, timeout_s: float | None) -> None:
        """Deliver what there is for up to ``timeout_s``, fail the rest, stop. Idempotent."""
        self.accumulator.shut()
        deadline = Deadline(self._clock, None if timeout_s is None else timeout_s * 1000)
        for group in self.accumulator.close_all():
            self.wait_for(group.complete, deadline.remaining_ms(NEVER_MS) / 1000, group)
        self._stopping = True
        self._bell.ring()
        self._wake()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._fail_all(ClientClosedError("the producer was closed before the delivery"))
        self._connections.close()
        self.callbacks.run(wait=True)

    # --- with the turn ----------------------------------------------------------------------------

    def _run(
        self,
        settled: Callable[[], bool],
        deadline: Deadline,
        now_ms: int,
        *,
        patient: bool = False,
    ) -> bool:
        """Do the I/O until ``settled()``, or until callbacks are due, which want no turn held.

        A patient holder also stops when somebody else wants the turn. Returns whether it is settled
        as far as it has looked.
        """
        transmitter, callbacks, turn = self._transmitter, self.callbacks, self._turn
        self._served_ms = now_ms
        try:
            while not (callbacks.due or self._stopping):
                if settled():
                    return True
                transmitter.serve(now_ms)
                if transmitter.news:
                    transmitter.news = False
                    turn.notify()
                    if settled():
                        return True
                if patient and turn.wanted:
                    return False
                directly = not patient and self._pump_directly()
                if directly and settled():
                    return True
                if deadline.expired:
                    return False
                if not directly:
                    wait_ms = min(transmitter.next_event_ms() - self._clock.monotonic_ms(), 1000)
                    self._pump(deadline.remaining_ms(max(0, wait_ms)), patient=patient)
                now_ms = self._served_ms = self._clock.monotonic_ms()
            return False
        except BaseException:
            transmitter.reset()
            raise

    def _pump_directly(self) -> bool:
        """Wait a moment for the only connection on which something is expected, if it is only one.

        False when nothing came, so that everything else is looked at as well.
        """
        sole = self._transmitter.sole_connection()
        if sole is None:
            return False
        endpoint, connection = sole
        try:
            return connection.pump(DIRECT_WAIT_MS)
        except RaykafkaError:
            self._connections.lose(endpoint)
            return True

    def _pump(self, timeout_ms: int, *, patient: bool) -> None:
        """Take in what arrives within ``timeout_ms``, or until ``_wake``."""
        self._polling = True
        # Whoever asked before it could see that we poll is not going to wake us.
        asked = bool(self.accumulator.ready) or self._transmitter.cluster_changed
        if asked or (patient and self._turn.wanted):
            timeout_ms = 0
        self._connections.pump(timeout_ms)
        self._polling = False

    def _leave(self) -> None:
        """Let go of the turn and call those who wait for what has happened meanwhile."""
        if self._transmitter.news:
            self._transmitter.news = False
            self._turn.notify()
        self._turn.leave()
        self.callbacks.run()

    # --- from other threads -----------------------------------------------------------------------

    def _wake(self) -> None:
        if self._polling:
            self._polling = False
            self._connections.wake()

    def _cluster_changed(self) -> None:
        self._transmitter.cluster_changed = True
        self._wake()
        if self._asleep:
            self._bell.ring()

    # --- in the background ------------------------------------------------------------------------

    def _background(self) -> None:
        quiet = 0
        while not self._stopping:
            quiet = quiet + 1 if self.accumulator.idle else 0
            self._sleep(quiet)
            if self.accumulator.idle:
                continue
            try:
                self._take_over()
            except Exception as error:
                logger.exception("the producer's background thread failed")
                self._fail_all(UnknownServerError(f"the producer failed: {error!r}"))
                self.accumulator.shut()
                return

    def _sleep(self, quiet: int) -> None:
        if quiet > QUIET_STEPS:
            self._asleep = True
            if self.accumulator.idle and not self._stopping:
                self._bell.wait(None)
            self._asleep = False
        else:
            now_ms = self._clock.monotonic_ms()
            pause = self.accumulator.next_due_ms(()) - now_ms + 1
            if self.callbacks.waiting and self._transmitter.unsettled:
                pause = min(pause, PROMPT_STEP_MS)
            elif self._transmitter.unsettled or quiet:
                # While somebody else does the I/O there is nothing to do here.
                pause = min(pause, max(STEP_MS, self._served_ms + self._patience_ms - now_ms))
            self._bell.wait(min(max(pause, 0), 1000))

    def _take_over(self) -> None:
        """Do the I/O until nothing is under way, unless another thread is at it."""
        now_ms = self._clock.monotonic_ms()
        due = self.callbacks.waiting > 0 or self.accumulator.next_due_ms(()) <= now_ms
        if not due and now_ms - self._served_ms < self._patience_ms:
            return
        if not self._turn.try_enter():
            return
        try:
            self._transmitter.serve(now_ms)
            deadline = Deadline(self._clock, None)
            self._run(self._nothing_under_way, deadline, now_ms, patient=True)
        except BaseException:
            self._transmitter.reset()
            raise
        finally:
            self._leave()

    def _nothing_under_way(self) -> bool:
        return not self._transmitter.unsettled

    def _fail_all(self, error: RaykafkaError, *, start_over: bool = False) -> None:
        while not self._turn.try_enter():
            self._turn.wanted = True
            self._wake()
            self._turn.wait(lambda: False, 0.05)
        try:
            self._transmitter.give_up(error, start_over=start_over)
        finally:
            self._leave()


def _either(group: Group, hopeless: Callable[[], bool]) -> bool:
    return group.complete() or hopeless()
