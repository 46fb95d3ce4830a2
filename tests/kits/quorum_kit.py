"""A quorum in one thread: disks, a network and time that a seed rules, and what must always hold.

Disks forget what was not flushed when their node is killed, and flush late. The network loses,
doubles, delays and swaps messages. After every step the invariants are checked; see ``Quorum``.
"""

from __future__ import annotations

import bisect
import heapq
import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from raykafka.errors import DuplicateVoterError, ReassignmentInProgressError
from raykafka.quorum import effects, events
from raykafka.quorum.leading import Timing
from raykafka.quorum.log_state import LogState
from raykafka.quorum.machine import QuorumMachine
from raykafka.quorum.messages import AppendRequest, OffsetAndEpoch, Request, Response
from raykafka.quorum.role import QuorumRole
from raykafka.quorum.voters import ReplicaKey, Voter, VotersAt, VoterSet

TIMING = Timing(election_timeout_ms=100, fetch_timeout_ms=100, heartbeat_ms=20, lost_leader_ms=10)


class Entry(NamedTuple):
    epoch: int
    value: Any
    """A number, or the ``VoterSet`` of a control record."""


class Contents(NamedTuple):
    """What a disk holds: a snapshot, and the entries behind it."""

    start: OffsetAndEpoch = OffsetAndEpoch(0, -1)
    snapshot: tuple[Entry, ...] = ()
    entries: tuple[Entry, ...] = ()

    @property
    def all(self) -> tuple[Entry, ...]:
        return self.snapshot + self.entries

    @property
    def end(self) -> int:
        return self.start.offset + len(self.entries)


class Disk:
    """One directory. ``durable`` survives a kill, ``contents`` is what its node sees."""

    def __init__(self, directory_id: str) -> None:
        self.directory_id = directory_id
        self.election = effects.ElectionState()
        self.contents = self.durable = Contents()
        self.generation = 0

    def log_state(self, bootstrap: VoterSet) -> LogState:
        contents = self.contents
        runs: list[tuple[int, int]] = []
        voters = [VotersAt(-1, bootstrap)] if bootstrap.voters else []
        for offset, entry in enumerate(contents.all):
            if isinstance(entry.value, VoterSet):
                at = offset if offset >= contents.start.offset else contents.start.offset - 1
                voters.append(VotersAt(at, entry.value))
            if offset >= contents.start.offset and (not runs or runs[-1][0] != entry.epoch):
                runs.append((entry.epoch, offset))
        return LogState(contents.start, contents.end, runs, voters)


class Node:
    """One replica: its machine while it lives, its disk always."""

    def __init__(self, quorum: Quorum, node_id: int, disk: Disk, bootstrap: VoterSet) -> None:
        self.quorum = quorum
        self.id = node_id
        self.disk = disk
        self.bootstrap = bootstrap
        self.machine: QuorumMachine | None = None
        self.life = 0
        self.paused = False
        self.high_watermark = 0
        """The newest one that was told."""
        self.queue: list[effects.QuorumEffect] = []
        self._held: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._saving = self._flushing = self._dirty = False
        self._values: list[int] = []
        self._fetching = False
        self._snapshot: Contents | None = None

    @property
    def key(self) -> ReplicaKey:
        return ReplicaKey(self.id, self.disk.directory_id)

    def start(self) -> None:
        self.life += 1
        self.paused = self._saving = self._flushing = self._dirty = self._fetching = False
        self.queue, self._values, self._held = [], [], []
        self.high_watermark = self.disk.durable.start.offset
        self.disk.contents = self.disk.durable
        self.disk.generation = 0
        self.machine = QuorumMachine(
            self.key,
            self.disk.election,
            self.disk.log_state(self.bootstrap),
            self.quorum.chance.random,
            timing=TIMING,
            now_ms=self.quorum.now_ms,
        )
        self.feed(events.Start())
        self._tick()

    def kill(self) -> None:
        self.machine = None
        self.life += 1
        self.paused = False
        self._held = []

    def pause(self) -> None:
        self.paused = True

    def go_on(self) -> None:
        self.paused = False
        held, self._held = self._held, []
        for function, args in held:
            function(*args)

    def lose_disk(self) -> None:
        """Dead, and everything on its disk is gone."""
        self.kill()
        self.quorum.lost.append(self.disk)
        self.disk = Disk(f"{self.id}-{self.life}")
        self.bootstrap = VoterSet()

    def later(self, delay_ms: int, function: Callable[..., None], *args: Any) -> None:
        life = self.life

        def run() -> None:
            if self.life == life:
                if self.paused:
                    self._held.append((function, args))
                else:
                    function(*args)

        self.quorum.at(delay_ms, run)

    def feed(self, event: events.QuorumEvent) -> None:
        assert self.machine is not None
        self.queue.extend(self.machine.on_event(event, now_ms=self.quorum.now_ms))
        self._perform()

    def append(self, value: int) -> None:
        assert self.machine is not None
        self._values.append(value)
        self.feed(events.Append(self.machine.epoch, 1))

    def _tick(self) -> None:
        self.later(self.quorum.chance.randint(5, 10), self._tick)
        self.feed(events.Tick())

    def _perform(self) -> None:
        while self.queue and not self._saving:
            effect = self.queue.pop(0)
            _PERFORM[type(effect)](self, effect)

    # --- effects ----------------------------------------------------------------------------------

    def _save_election(self, effect: effects.SaveElection) -> None:
        self._saving = True
        life = self.life

        def saved() -> None:
            if self.quorum.forgets_votes:
                self.disk.election = effect.election._replace(voted_for=None)
            else:
                self.disk.election = effect.election
            self._saving = False
            self._perform()

        assert life == self.life
        self.later(self.quorum.chance.randint(0, 5), saved)

    def _send(self, effect: effects.Send) -> None:
        request, payload = effect.request, ()
        if isinstance(request, AppendRequest):
            contents = self.disk.contents
            start, end = request.previous.offset, request.end_offset
            if start < contents.start.offset:
                return
            if end > start + 1 and self.quorum.chance.random() < 0.3:
                end = self.quorum.chance.randint(start + 1, end)
                request = request._replace(
                    end_offset=end,
                    runs=tuple(run for run in request.runs if run.start_offset < end),
                    voters=tuple(at for at in request.voters if at.offset < end),
                )
            payload = contents.all[start:end]
        self.quorum.send(self, effect.to.id, request, payload)

    def _reply(self, effect: effects.Reply) -> None:
        sender, _, addressed = effect.token
        self.quorum.answer(self, sender, addressed, effect.response)

    def _append_records(self, effect: effects.AppendRecords) -> None:
        count = effect.end_offset - effect.start_offset
        values, self._values = self._values[:count], self._values[count:]
        self._extend(effect.start_offset, [Entry(effect.epoch, value) for value in values])

    def _append_voters(self, effect: effects.AppendVoters) -> None:
        self._extend(effect.offset, [Entry(effect.epoch, effect.voters)])

    def _append_fetched(self, effect: effects.AppendFetched) -> None:
        _, (request, payload), _ = effect.token
        skipped = effect.start_offset - request.previous.offset
        self._extend(effect.start_offset, payload[skipped:])

    def _extend(self, at: int, entries: Iterable[Entry]) -> None:
        contents = self.disk.contents
        assert contents.end == at, "appended elsewhere than at the end"
        self._write(contents._replace(entries=contents.entries + tuple(entries)))

    def _truncate(self, effect: effects.TruncateLog) -> None:
        contents = self.disk.contents
        self.disk.generation += 1
        kept = contents.entries[: effect.end_offset - contents.start.offset]
        self.quorum.check_cut(self, effect.end_offset)
        self._write(contents._replace(entries=kept))

    def _fetch_snapshot(self, effect: effects.FetchSnapshot) -> None:
        if not self._fetching:
            self._fetching = True
            self.quorum.fetch_snapshot(self, effect.leader.id)

    def on_snapshot(self, contents: Contents | None) -> None:
        self._fetching = False
        if contents is not None:
            self._snapshot = contents
            self.feed(events.SnapshotFetched(contents.start, voters_in(contents.snapshot)))

    def _install(self, effect: effects.InstallSnapshot) -> None:
        assert self._snapshot is not None
        assert self._snapshot.start == effect.snapshot
        self.disk.generation += 1
        self._write(self._snapshot._replace(entries=()))

    def take_snapshot(self) -> None:
        """Of what is committed; the log's beginning goes."""
        machine, contents = self.machine, self.disk.contents
        if machine is None or self.queue or machine.high_watermark <= contents.start.offset:
            return
        end = machine.high_watermark
        taken = OffsetAndEpoch(end, machine.log.epoch_before(end))
        count = end - contents.start.offset
        self._write(Contents(taken, contents.all[:end], contents.entries[count:]))
        self.feed(events.SnapshotTaken(taken))

    def _write(self, contents: Contents) -> None:
        self.disk.contents = contents
        self._dirty = True
        self._flush()

    def _flush(self) -> None:
        if self._flushing or not self._dirty:
            return
        self._flushing, self._dirty = True, False
        contents, generation = self.disk.contents, self.disk.generation

        def flushed() -> None:
            self._flushing = False
            self.disk.durable = contents
            self._flush()
            self.feed(events.Flushed(contents.end, generation))

        self.later(self.quorum.chance.randint(0, 10), flushed)

    def _committed(self, effect: effects.AdvanceHighWatermark) -> None:
        assert effect.high_watermark > self.high_watermark
        self.high_watermark = effect.high_watermark
        self.quorum.check_committed(self, effect.high_watermark)

    def _role_changed(self, effect: effects.RoleChanged) -> None:
        if effect.role is QuorumRole.LEADER:
            self.quorum.check_leader(self, effect.epoch)
        else:
            self._values.clear()

    def _confirmed(self, effect: effects.Confirmed) -> None:
        effect.token()


_PERFORM: dict[type, Callable[[Node, Any], None]] = {
    effects.SaveElection: Node._save_election,
    effects.Send: Node._send,
    effects.Reply: Node._reply,
    effects.AppendRecords: Node._append_records,
    effects.AppendVoters: Node._append_voters,
    effects.AppendFetched: Node._append_fetched,
    effects.TruncateLog: Node._truncate,
    effects.FetchSnapshot: Node._fetch_snapshot,
    effects.InstallSnapshot: Node._install,
    effects.AdvanceHighWatermark: Node._committed,
    effects.RoleChanged: Node._role_changed,
    effects.Confirmed: Node._confirmed,
}


def voters_in(entries: Iterable[Entry]) -> VoterSet:
    found = [entry.value for entry in entries if isinstance(entry.value, VoterSet)]
    return found[-1] if found else VoterSet()


class Quorum:
    """Nodes, their network and their time.

    Invariants, after every step: epochs never go back; an epoch has one leader; a high watermark
    never goes back; committed records are equal everywhere; they had reached a majority's disks;
    a leader has what was committed in older epochs; a snapshot ends where the log begins.
    """

    forgets_votes = False
    """A mistake to plant: epochs are saved, but not for whom was voted."""

    def __init__(self, seed: int, voters: int = 3, *, lossy: bool = False) -> None:
        self.chance = random.Random(seed)
        self.now_ms = 0
        self.lossy = lossy
        self.cut: set[frozenset[int]] = set()
        self.committed: list[Entry] = []
        self.lost: list[Disk] = []
        """Disks that are no more; what they had acknowledged counts."""
        self.leaders: dict[int, ReplicaKey] = {}
        self.steps = 0
        self._epochs: dict[ReplicaKey, int] = {}
        self._high_watermarks: dict[tuple[int, int], int] = {}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._committed_in: list[int] = []
        bootstrap = VoterSet.of(Voter(index, f"{index}-0") for index in range(voters))
        self.nodes = [Node(self, index, Disk(f"{index}-0"), bootstrap) for index in range(voters)]
        for node in self.nodes:
            node.start()

    # --- time -------------------------------------------------------------------------------------

    def at(self, delay_ms: int, function: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._count, function))

    def step(self) -> None:
        self.now_ms, _, function = heapq.heappop(self._events)
        function()
        self.steps += 1
        self.check()

    def run(self, duration_ms: int) -> None:
        end = self.now_ms + duration_ms
        while self._events and self._events[0][0] <= end:
            self.step()
        self.now_ms = end

    def until(self, condition: Callable[[], Any], timeout_ms: int = 10_000) -> None:
        end = self.now_ms + timeout_ms
        while not condition():
            assert self._events[0][0] <= end, "it did not come to hold in time"
            self.step()

    # --- network ----------------------------------------------------------------------------------

    def send(self, sender: Node, to: int, request: Request, payload: Any) -> None:
        self._deliver(sender.id, to, lambda node: self._receive(node, sender, request, payload))

    def answer(self, node: Node, sender: Node, addressed: ReplicaKey, response: Response) -> None:
        answered = events.Answered(addressed, response)
        self._deliver(node.id, sender.id, lambda target: target.feed(answered))

    def _receive(self, node: Node, sender: Node, request: Request, payload: Any) -> None:
        addressed = getattr(request, "replica", getattr(request, "voter", node.key))
        node.feed(events.Received(request, (sender, (request, payload), addressed)))

    def fetch_snapshot(self, node: Node, leader_id: int) -> None:
        leader = self.node(leader_id)
        contents = None if leader is None or leader.machine is None else leader.disk.contents
        if contents is not None and not contents.snapshot:
            contents = None
        node.later(self.chance.randint(1, 60), node.on_snapshot, contents)

    def node(self, node_id: int) -> Node | None:
        return next((node for node in self.nodes if node.id == node_id), None)

    def _deliver(self, source: int, target: int, receive: Callable[[Node], None]) -> None:
        copies = 1
        if self.lossy:
            copies = self.chance.choices([0, 1, 2], [10, 80, 10])[0]
        for _ in range(copies):
            delay = self.chance.randint(1, 4)
            if self.lossy and self.chance.random() < 0.05:
                delay = self.chance.randint(5, 300)

            def arrive() -> None:
                node = self.node(target)
                if frozenset((source, target)) in self.cut:
                    return
                if node is not None and node.machine is not None:
                    node.later(0, receive, node)

            self.at(delay, arrive)

    # --- faults -----------------------------------------------------------------------------------

    def kill(self, node: Node) -> None:
        """The others' connections end."""
        node.kill()
        for other in self.living():
            if frozenset((other.id, node.id)) not in self.cut:
                other.later(self.chance.randint(0, 5), other.feed, events.PeerLost(node.id))

    def isolate(self, node: Node) -> None:
        self.cut |= {frozenset((node.id, other.id)) for other in self.nodes if other is not node}

    def heal(self) -> None:
        self.cut.clear()
        for node in self.nodes:
            if node.paused:
                node.go_on()
            if node.machine is None:
                node.start()

    def add_node(self) -> Node:
        """An observer with an empty disk."""
        node_id = max(node.id for node in self.nodes) + 1
        node = Node(self, node_id, Disk(f"{node_id}-0"), VoterSet())
        self.nodes.append(node)
        node.start()
        return node

    # --- looking ----------------------------------------------------------------------------------

    def living(self) -> list[Node]:
        return [node for node in self.nodes if node.machine is not None]

    def leader(self) -> Node | None:
        """The leader of the newest epoch that has one, if it may act."""
        found = [
            node
            for node in self.living()
            if node.machine is not None and node.machine.is_active and not node.paused
        ]
        return max(found, key=lambda node: node.machine.epoch if node.machine else -1, default=None)

    def elected(self) -> Node:
        self.until(self.leader)
        leader = self.leader()
        assert leader is not None
        return leader

    def commit(self, value: int) -> None:
        """Through whoever leads, as often as it takes."""
        end = self.now_ms + 20_000
        while not any(entry.value == value for entry in self.committed):
            assert self.now_ms < end, "nothing is committed"
            leader = self.leader()
            if leader is not None and not leader.queue:
                leader.append(value)
            self.run(100)

    def ask(self, event: events.QuorumEvent) -> bool:
        """Hand an order to the leader; False when it cannot take it now."""
        leader = self.leader()
        if leader is None:
            return False
        try:
            leader.feed(event)
        except (ReassignmentInProgressError, DuplicateVoterError):
            return False
        return True

    def mend_voters(self) -> bool:
        """What the controller does about lost disks; True when every node is a voter."""
        leader = self.leader()
        if leader is None or leader.machine is None:
            return False
        voters = leader.machine.voters
        for node in self.nodes:
            present = voters.find(node.id)
            if present is not None and present.key != node.key:
                self.ask(events.RemoveVoter(present.key))
                return False
            if present is None:
                self.ask(events.AddVoter(Voter(*node.key)))
                return False
        at = leader.machine.log.voters.offset
        return at < leader.machine.high_watermark

    # --- invariants -------------------------------------------------------------------------------

    def check(self) -> None:
        for node in self.living():
            machine = node.machine
            assert machine is not None
            assert machine.epoch >= self._epochs.get(node.key, 0), "an epoch went back"
            if not node.queue:
                self._epochs[node.key] = machine.epoch
                assert machine.log.end_offset == node.disk.contents.end
                assert machine.log.start == node.disk.contents.start, "snapshot, then the log"
            life = (node.id, node.life)
            assert machine.high_watermark >= self._high_watermarks.get(life, 0)
            self._high_watermarks[life] = machine.high_watermark
            assert machine.high_watermark <= machine.log.end_offset
        self.check_leases()

    def check_leases(self) -> None:
        """A leader knows until when those before it can have been obeyed by a majority."""
        leaders = [node.machine for node in self.living() if node.machine and node.machine.leading]
        for newer in leaders:
            for older in leaders:
                if older.epoch < newer.epoch:
                    assert older.leading is not None
                    assert newer.leading is not None
                    obeyed_ms = older.leading.obeyed_ms(self.now_ms)
                    assert obeyed_ms <= newer.leading.predecessor_obeyed_ms

    def check_leader(self, node: Node, epoch: int) -> None:
        known = self.leaders.setdefault(epoch, node.key)
        assert known == node.key, f"two leaders in epoch {epoch}"
        before = bisect.bisect_left(self._committed_in, epoch)
        mine = node.disk.contents.all[:before]
        assert mine == tuple(self.committed[:before]), "a leader lacks what was committed"

    def check_cut(self, node: Node, end: int) -> None:
        assert end >= node.high_watermark, "committed records were cut"

    def check_committed(self, node: Node, high_watermark: int) -> None:
        mine = node.disk.contents.all[:high_watermark]
        assert len(mine) == high_watermark, "committed beyond the log"
        known = self.committed[:high_watermark]
        assert tuple(known) == mine[: len(known)], "committed records differ"
        if high_watermark > len(known):
            assert node.machine is not None
            voters = node.machine.voters
            disks = [*(other.disk for other in self.nodes), *self.lost]
            directories = {voter.directory_id for voter in voters.voters}
            holders = sum(
                disk.durable.all[:high_watermark] == mine
                for disk in disks
                if disk.directory_id in directories
            )
            assert holders >= voters.majority, "committed without a majority's disks"
            self.committed.extend(mine[len(known) :])
            self._committed_in.extend([node.machine.epoch] * (high_watermark - len(known)))

    def check_converged(self) -> None:
        """Healed and quiet: everyone has the same log."""
        for node in self.nodes:
            assert node.disk.contents.all == tuple(self.committed)
