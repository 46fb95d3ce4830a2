"""One replica of a quorum at work: does what its machine asks for and tells it what became of it.

Rules:
- Effects are done in order. Behind a vote that is being saved, everything waits.
- What touches the log goes through one queue in the order of the machine's decisions, so the log
  is always what the machine believes it is, only later.
- What cannot be made so (a vote or a flush that fails, a log that does not follow) ends the node:
  its process is replaced and begins again from what is on the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from raykafka.actors.quorum import wire
from raykafka.actors.quorum.files import QuorumState, Snapshot
from raykafka.actors.quorum.links import PeerLinks
from raykafka.actors.quorum.log import MachineLog, initial_state
from raykafka.actors.quorum.log_queue import LogQueue
from raykafka.actors.quorum.log_writer import LogWriter
from raykafka.actors.quorum.options import NodeListener, QuorumOptions
from raykafka.clock import Clock
from raykafka.errors import NotControllerError, RaykafkaError
from raykafka.model import Endpoint
from raykafka.quorum import effects, events
from raykafka.quorum.machine import QuorumMachine
from raykafka.quorum.messages import AppendRequest, OffsetAndEpoch
from raykafka.quorum.role import QuorumRole
from raykafka.quorum.voters import ReplicaKey, Voter, VotersAt

logger = logging.getLogger(__name__)

_MAX_SEND_BYTES: Final = 1 << 20
_TICK_S: Final = 0.025
_TICK_ALONE_S: Final = 1.0


class QuorumNode:
    """A voter or observer. ``open``, then ``start``; everything happens on the caller's loop."""

    def __init__(
        self,
        name: str,
        open_log: Callable[[], MachineLog],
        clock: Clock,
        listener: NodeListener,
        options: QuorumOptions,
    ) -> None:
        """``open_log`` blocks and is called in a thread."""
        self.name = name
        self.machine: QuorumMachine
        self.log: MachineLog
        self.queue = LogQueue(name, listener.on_gather, self._flush, self.fail)
        self.links = PeerLinks(options.connector, options.secret, name, self.peer_lost)
        self.options = options
        self.has_failed = False
        self.high_watermark = 0
        """What is committed and in this log, or on its way there before anything asked for now."""
        self._open_log = open_log
        self._clock = clock
        self._listener = listener
        self._effects: deque[effects.QuorumEffect] = deque()
        self._records: deque[list[bytes]] = deque()
        self._confirming: set[asyncio.Future[None]] = set()
        self._fetched: Snapshot | None = None
        self._state = QuorumState("")
        self._voters: VotersAt | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._performing = self._saving = False
        self._closed = True
        self.on_fetch_snapshot: Callable[[int, OffsetAndEpoch], None] = lambda *_: None
        """Told which snapshot to get from whom; answered with ``snapshot_fetched``."""

    # --- life -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read log and vote; raises ``LogDamagedError`` and what else the log raises."""
        self.log = await self.queue.call(self._open_log)
        self._writer = LogWriter(self.log, self.queue, self._clock, self.fail)
        options = self.options
        self._state, log_state = await self.queue.call(
            initial_state, self.log, options.replica_id, options.may_found, options.new_directory_id
        )
        election = effects.ElectionState(
            max(self._state.epoch, log_state.last.epoch, 0), self._state.voted_for
        )
        self.machine = QuorumMachine(
            ReplicaKey(options.replica_id, self._state.directory_id),
            election,
            log_state,
            options.jitter,
            timing=options.timing,
            now_ms=self._clock.monotonic_ms(),
        )
        self.high_watermark = self.machine.high_watermark

    def start(self, endpoint: Endpoint) -> None:
        """Take part; ``endpoint`` is where this replica's listener answers."""
        self.endpoint = endpoint
        self._closed = False
        self.queue.start()
        self.machine.log.move_voter(Voter(*self.machine.local, *endpoint))
        self.feed(events.Start())
        self._rearm()

    async def close(self) -> None:
        """Hand the lead on, do what is queued, close the log cleanly."""
        self.feed(events.Resign())
        self._end()
        await self.links.close()
        await self.queue.close(_nothing if self.has_failed else self.log.close)

    async def abandon(self) -> None:
        """Stop at once, as a killed process does."""
        self._end()
        await self.links.close()
        await self.queue.abandon()

    def fail(self, error: Exception) -> None:
        """The disk cannot be trusted: nothing is done any more."""
        if not self.has_failed:
            self.has_failed = True
            self._end()
            self._listener.on_node_failed(error)

    def _end(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._fail_confirming()

    # --- what the shell asks for ------------------------------------------------------------------

    def append(self, records: list[bytes]) -> int:
        """Append to the log as its leader; returns where the records will end.

        Raises ``NotControllerError`` when this replica does not lead.
        """
        machine = self.machine
        self._records.append(records)
        try:
            self.feed(events.Append(machine.epoch, len(records)))
        except RaykafkaError:
            self._records.pop()
            raise
        return machine.log.end_offset

    def unobeyed_ms(self) -> int:
        """For how long no majority may have obeyed this replica as its leader.

        Raises ``NotControllerError`` when it does not lead.
        """
        now_ms, leading = self._clock.monotonic_ms(), self.machine.leading
        if leading is None:
            raise NotControllerError("this controller does not lead any more")
        return now_ms - leading.obeyed_ms(now_ms)

    def predecessor_obeyed_ms(self) -> int:
        """Monotonic time after which no majority has obeyed a leader before this one."""
        leading = self.machine.leading
        return self._clock.monotonic_ms() if leading is None else leading.predecessor_obeyed_ms

    async def confirm(self) -> None:
        """Return when a majority has followed this leader after the call: nobody leads instead.

        Raises ``NotControllerError`` when it leads no more.
        """
        waiting = asyncio.get_running_loop().create_future()
        self._confirming.add(waiting)
        try:
            self.feed(events.Confirm(waiting))
            await waiting
        finally:
            self._confirming.discard(waiting)

    def add_voter(self, voter: Voter) -> None:
        """Make a replica a voter once it has caught up; see ``AddVoter`` for what it raises."""
        self.links.learn(voter.id, Endpoint(voter.host, voter.port))
        was_alone = self._is_alone()
        self.feed(events.AddVoter(voter))
        if was_alone and self._timer is not None:
            self._timer.cancel()
            self._rearm()

    def remove_voter(self, key: ReplicaKey) -> None:
        """Take a vote away; see ``RemoveVoter`` for what it raises."""
        self.feed(events.RemoveVoter(key))

    def save_snapshot(self, offset: int, encode: Callable[[], bytes]) -> None:
        """Replace the log before ``offset``, which is committed, by the machine's state there."""
        log = self.machine.log
        last = OffsetAndEpoch(offset, log.epoch_before(offset))
        voters = log.voters_at(offset)

        def save() -> OffsetAndEpoch | None:
            if offset <= self.log.start.offset:
                return None
            self.log.save_snapshot(Snapshot(last, voters, encode()), self._clock.now_ms())
            return last

        def saved(snapshot: OffsetAndEpoch | None) -> None:
            if snapshot is not None:
                self.feed(events.SnapshotTaken(snapshot))

        self.queue.put(save, saved, self._let_be)

    def snapshot_fetched(self, snapshot: Snapshot) -> None:
        """The leader's snapshot has come."""
        self._fetched = snapshot
        self.feed(events.SnapshotFetched(snapshot.last, snapshot.voters))

    # --- what comes from outside ------------------------------------------------------------------

    def peer_lost(self, replica_id: int) -> None:
        """A connection to or from the replica has ended: perhaps it has died."""
        self.feed(events.PeerLost(replica_id))

    def feed(self, event: events.QuorumEvent) -> None:
        """Let the machine decide, and do what it says."""
        if self._closed:
            return
        now_ms = self._clock.monotonic_ms()
        self._effects.extend(self.machine.on_event(event, now_ms=now_ms))
        self._perform()

    def _tick(self) -> None:
        self._rearm()
        self.feed(events.Tick())

    def _rearm(self) -> None:
        if not self._closed:
            wait_s = _TICK_ALONE_S if self._is_alone() else _TICK_S
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(wait_s, self._tick)

    @property
    def is_active(self) -> bool:
        """Whether this replica leads and has all there is: a record of its epoch is committed."""
        leader = self.machine.leading
        return leader is not None and self.high_watermark > leader.start_offset

    def _is_alone(self) -> bool:
        leader = self.machine.leading
        return leader is not None and not leader.progress

    # --- effects ----------------------------------------------------------------------------------

    def _perform(self) -> None:
        if self._performing:
            return  # further up somebody is at it
        self._performing = True
        try:
            while self._effects and not self._saving and not self._closed:
                effect = self._effects.popleft()
                _PERFORM[type(effect)](self, effect)
        finally:
            self._performing = False
        self._follow_voters()

    def _follow_voters(self) -> None:
        self.queue.answers_early = not self._is_alone()
        if self.machine.log.voters is not self._voters:
            before, self._voters = self._voters, self.machine.log.voters
            for voter in self._voters.voters.voters:
                # What is said once more may be older than what was heard of the voter itself.
                known = None if before is None else before.voters.find(voter.id)
                if voter.id != self.options.replica_id and voter != known:
                    self.links.learn(voter.id, Endpoint(voter.host, voter.port))

    def _save_election(self, effect: effects.SaveElection) -> None:
        state = QuorumState(
            self._state.directory_id,
            effect.election.epoch,
            effect.election.voted_for,
            self._state.founding and not self.machine.log.has_voters,
        )
        self._saving = True

        def saved(_: None) -> None:
            self._state = state
            self._saving = False
            self._perform()

        self.queue.put(lambda: self.log.save_state(state), saved)

    def _send(self, effect: effects.Send) -> None:
        request = effect.request
        if not isinstance(request, AppendRequest) or request.end_offset == request.previous.offset:
            self._send_frame(effect.to, request, b"")
            return

        def send(read: tuple[bytes, int]) -> None:
            self._send_frame(effect.to, wire.clipped(request, read[1]), read[0])

        start, end = request.previous.offset, request.end_offset
        self.queue.put(lambda: self.log.read(start, _MAX_SEND_BYTES, end), send, self._let_be)

    def _send_frame(self, to: ReplicaKey, request: Any, payload: bytes) -> None:
        api_key, frame = wire.request_frame(request, self.endpoint)

        def answered(response: Any, _: memoryview) -> None:
            parsed = None if isinstance(response, RaykafkaError) else wire.parse_response(response)
            if parsed is not None:
                self.feed(events.Answered(to, parsed))

        self.links.send(to.id, api_key, frame, [payload] if payload else (), answered)

    def _reply(self, effect: effects.Reply) -> None:
        effect.token.reply(wire.response_frame(effect.response))

    def _append_records(self, effect: effects.AppendRecords) -> None:
        epoch, records = effect.epoch, self._records.popleft()
        self._writer.append(records, effect, lambda error: self._append_failed(epoch, error))

    def _append_voters(self, effect: effects.AppendVoters) -> None:
        epoch = effect.epoch
        self._writer.append_voters(effect, lambda error: self._append_failed(epoch, error))

    def _append_fetched(self, effect: effects.AppendFetched) -> None:
        self._writer.append_fetched(effect.token.payload, effect.start_offset)

    def _truncate(self, effect: effects.TruncateLog) -> None:
        logger.info("%s: the log is cut to %d", self.name, effect.end_offset)
        self._writer.truncate(effect.end_offset)

    def _install(self, effect: effects.InstallSnapshot) -> None:
        snapshot = self._fetched
        assert snapshot is not None
        assert snapshot.last == effect.snapshot
        logger.info("%s: a snapshot at %d takes the log's place", self.name, snapshot.last.offset)
        self._writer.install(snapshot)

    def _fetch_snapshot(self, effect: effects.FetchSnapshot) -> None:
        self.on_fetch_snapshot(effect.leader.id, effect.snapshot)

    def _committed(self, effect: effects.AdvanceHighWatermark) -> None:
        self.high_watermark = effect.high_watermark
        self._listener.on_committed()

    def _role_changed(self, effect: effects.RoleChanged) -> None:
        if effect.role is not QuorumRole.LEADER:
            self._fail_confirming()
        self._listener.on_role()

    def _confirmed(self, effect: effects.Confirmed) -> None:
        if not effect.token.done():
            effect.token.set_result(None)

    def age_ms(self, moment_ms: int) -> int:
        """Milliseconds since a moment of this node's clock."""
        return max(0, self._clock.monotonic_ms() - moment_ms)

    # --- the queue's answers ----------------------------------------------------------------------

    def _flush(self) -> Callable[[], None]:
        """Runs in the queue's thread."""
        flushed = self._writer.flush()
        return lambda: self.feed(flushed)

    def _append_failed(self, epoch: int, error: Exception) -> None:
        leader = self.machine.leading
        if leader is None or self.machine.epoch != epoch:
            self.fail(error)  # what came after rests on it
            return
        self.feed(events.AppendFailed(epoch, self.log.end_offset))
        self._listener.on_append_failed(error)

    def _let_be(self, error: Exception) -> None:
        """Records not sent and snapshots not written are asked for again."""
        logger.info("%s: %s", self.name, error)

    def _fail_confirming(self) -> None:
        for waiting in self._confirming:
            if not waiting.done():
                waiting.set_exception(NotControllerError(f"{self.name} does not lead any more"))


def _nothing() -> None:
    return


_PERFORM: Final[dict[type, Callable[[QuorumNode, Any], None]]] = {
    effects.SaveElection: QuorumNode._save_election,
    effects.Send: QuorumNode._send,
    effects.Reply: QuorumNode._reply,
    effects.AppendRecords: QuorumNode._append_records,
    effects.AppendVoters: QuorumNode._append_voters,
    effects.AppendFetched: QuorumNode._append_fetched,
    effects.TruncateLog: QuorumNode._truncate,
    effects.InstallSnapshot: QuorumNode._install,
    effects.FetchSnapshot: QuorumNode._fetch_snapshot,
    effects.AdvanceHighWatermark: QuorumNode._committed,
    effects.RoleChanged: QuorumNode._role_changed,
    effects.Confirmed: QuorumNode._confirmed,
}
