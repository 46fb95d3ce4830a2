"""A consumer's part in its group: it joins, takes and gives up partitions, and leaves."""

from __future__ import annotations

import logging
import platform
import uuid
from collections.abc import Callable, Collection, Iterable
from typing import Final

from raykafka.client.cluster.deadline import Deadline
from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.cluster.metadata import ClusterMetadata
from raykafka.client.consuming.fetcher import Fetcher
from raykafka.client.consuming.group_positions import GroupPositions
from raykafka.client.consuming.rebalance_listener import ConsumerRebalanceListener
from raykafka.client.consuming.record_reader import RecordReader
from raykafka.client.consuming.subscription import Subscription
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.client.grouping.heartbeats import Heartbeats
from raykafka.client.grouping.member import NOTHING, MemberSettings, Owned, OwnedPartition, Work
from raykafka.client.grouping.membership import Membership
from raykafka.clock import Clock
from raykafka.config import ConsumerConfig
from raykafka.errors import ClientClosedError, IllegalStateError, RaykafkaError
from raykafka.internal_topics import CONSUMER_OFFSETS
from raykafka.model import ConsumerGroupMetadata, TopicPartition
from raykafka.network.local_address import is_local

logger = logging.getLogger(__name__)

_COMMIT_BEFORE_REVOKING_MS: Final = 10_000


class GroupSession:
    """The membership of one consumer.

    For the consumer's own thread, but for what the heartbeats call in theirs.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        metadata: ClusterMetadata,
        subscription: Subscription,
        fetcher: Fetcher,
        reader: RecordReader,
        clock: Clock,
    ) -> None:
        self._config = config
        self._metadata = metadata
        self._subscription = subscription
        self._fetcher = fetcher
        self._reader = reader
        self._clock = clock
        self._listener = ConsumerRebalanceListener()
        self._in_callback = False
        self._going: Owned = NOTHING
        """What the listener is being told that it goes."""
        self._news = False
        """Whether the membership has something for this side to do."""
        self._rebalances = 0
        self._told = False
        """Whether the listener has heard of an assignment since the member joined."""
        self._seen: object = None
        self._seen_handed_out = 0
        self.handed_out = 0
        """Counts the records that somebody hands out one by one."""
        self._membership = Membership(
            MemberSettings(
                config.group_id,
                uuid.uuid4().hex,
                config.group_instance_id,
                config.client_id,
                config.client_rack,
                config.group_remote_assignor,
                config.max_poll_interval_ms,
                config.retry_backoff_ms,
            )
        )
        self.heartbeats = Heartbeats(
            self._membership,
            self._calls(),
            LeaderConnections(
                lambda: metadata.secret,
                client_id=config.client_id,
                clock=clock,
                retry_backoff_ms=config.retry_backoff_ms,
                request_timeout_ms=config.request_timeout_ms,
            ),
            clock,
            host=self._host,
            request_timeout_ms=config.request_timeout_ms,
            on_work=self._on_work,
            on_tick=self._on_tick,
        )
        self._changed = self.heartbeats.changed
        self.positions = GroupPositions(
            config, metadata, subscription, self._calls(), self.identity, self._on_stale, clock
        )

    def _calls(self) -> CoordinatorCalls:
        return CoordinatorCalls(
            self._metadata,
            CONSUMER_OFFSETS,
            client_id=self._config.client_id,
            request_timeout_ms=self._config.request_timeout_ms,
            retry_backoff_ms=self._config.retry_backoff_ms,
            clock=self._clock,
        )

    # --- membership -------------------------------------------------------------------------------

    def subscribe(
        self, topics: Iterable[str], pattern: str, listener: ConsumerRebalanceListener | None
    ) -> None:
        """Be a member that wants these topics; partitions come with the next polls."""
        self._listener = listener if listener is not None else ConsumerRebalanceListener()
        self._subscription.managed = True
        with self.heartbeats.changing() as membership:
            membership.subscribe(topics, pattern, self._clock.monotonic_ms())
        self.heartbeats.start()

    def leave(self, timeout_ms: int, *, tell: bool = True) -> None:
        """Give everything up and leave the group; with ``tell`` the coordinator hears of it.

        What goes wrong on the way is logged: the session ends by itself.
        """
        if not self._subscription.managed:
            return
        deadline = Deadline(self._clock, timeout_ms)
        errors: list[Exception] = []
        self._give_up_all(deadline.remaining_ms(_COMMIT_BEFORE_REVOKING_MS), errors)
        with self.heartbeats.changing() as membership:
            if tell:
                membership.leave(self._clock.monotonic_ms())
            else:
                membership.forget()
        self._subscription.managed = False
        if tell and not self.heartbeats.wait_idle(deadline.remaining_ms(timeout_ms)):
            logger.warning(
                "the coordinator of group %s was not told that a member leaves; its partitions go "
                "to others when its session ends",
                self._config.group_id,
            )
        if errors:
            raise errors[0]

    def close(self, timeout_ms: int, *, leave: bool, commit: bool) -> None:
        """Commit if that is automatic, leave, and end the threads."""
        deadline = Deadline(self._clock, timeout_ms)
        self.positions.automatic &= commit
        try:
            if self._subscription.managed:
                self.leave(timeout_ms, tell=leave)
            else:
                self.positions.commit_if_automatic(list(self._subscription), timeout_ms)
            self.positions.offsets.flush(deadline.remaining_ms(timeout_ms))
            self.positions.offsets.call_back()
        finally:
            self.positions.offsets.close()
            self.heartbeats.stop()

    def abandon(self) -> None:
        """The consumer has been dropped: let the threads end, and so the member's session."""
        self.heartbeats.abandon()
        self.positions.offsets.abandon()

    def rebalance(self) -> None:
        """Ask the coordinator now whether anything has changed."""
        with self.heartbeats.changing() as membership:
            membership.hurry(self._clock.monotonic_ms())

    def metrics(self) -> dict[str, int]:
        """Counters of this member."""
        return {
            "heartbeat_total": self.heartbeats.answered,
            "rebalance_total": self._rebalances,
        }

    def identity(self) -> ConsumerGroupMetadata:
        """Under which membership offsets are committed; raises ``CommitFailedError``."""
        with self._changed:
            return self._membership.identity()

    # --- while polling ----------------------------------------------------------------------------

    def start_poll(self) -> None:
        """See ``BetweenRecords``."""
        if self._in_callback:
            raise IllegalStateError("a rebalance listener cannot poll: it is called by poll")
        with self._changed:
            self._membership.start_poll(self._clock.monotonic_ms())

    def end_poll(self) -> None:
        """See ``BetweenRecords``."""
        with self._changed:
            self._membership.end_poll(self._clock.monotonic_ms())

    def due_in_ms(self, at_most_ms: int) -> int:
        """See ``BetweenRecords``."""
        return max(0, min(at_most_ms, self.positions.due_ms - self._clock.monotonic_ms()))

    def serve(self) -> None:
        """See ``BetweenRecords``; raises what the coordinator refuses this member with."""
        self._reader.interrupted = False
        if self._news:
            self._news = False
            errors: list[Exception] = []
            self._reconcile(errors)
            failure = self._membership.failure
            if failure is not None:
                self._news = True
                raise failure
            if errors:
                raise errors[0]
        self.positions.serve()

    def _reconcile(self, errors: list[Exception]) -> None:
        """Do what the group wants until it wants no more."""
        while True:
            with self._changed:
                work = self._membership.work()
            if work is None:
                return
            if work.lost is not None:
                self._lose(work.lost, errors)
            else:
                self._rebalance(work, errors)

    def _lose(self, lost: Owned, errors: list[Exception]) -> None:
        logger.warning("%s; it has lost %s", self._membership.reason, _listed(lost))
        if lost:
            self._tell_gone(self._listener.on_partitions_lost, lost, errors)
            self._drop(lost)
        self._told = False
        with self.heartbeats.changing() as membership:
            membership.lost(self._clock.monotonic_ms())

    def _rebalance(self, work: Work, errors: list[Exception]) -> None:
        if work.revoked:
            self.positions.commit_if_automatic(_places(work.revoked), _COMMIT_BEFORE_REVOKING_MS)
            self._tell_gone(self._listener.on_partitions_revoked, work.revoked, errors)
            # Whoever gets them goes on where this member's commits say, those under way as well.
            self.positions.offsets.flush(_COMMIT_BEFORE_REVOKING_MS)
            self._drop(work.revoked)
        with self._changed:
            if not self._membership.advance(work):
                return
        self._add(work.added)
        self._rebalances += bool(work.added or work.revoked)
        if work.added or work.revoked or not self._told:
            self._told = True
            self._tell(self._listener.on_partitions_assigned, work.added, errors)
        with self.heartbeats.changing() as membership:
            membership.reconciled(self._clock.monotonic_ms())

    def _give_up_all(self, timeout_ms: int, errors: list[Exception]) -> None:
        """Before leaving: what is owned is revoked, unless it is lost already."""
        deadline = Deadline(self._clock, timeout_ms)
        with self._changed:
            owned, work = self._membership.owned, self._membership.work()
        if work is not None and work.lost is not None:
            self._tell_gone(self._listener.on_partitions_lost, owned, errors)
        elif owned:
            self.positions.commit_if_automatic(_places(owned), timeout_ms)
            self._tell_gone(self._listener.on_partitions_revoked, owned, errors)
        # Commits that are under way are a member's, which this one is until it leaves.
        self.positions.offsets.flush(deadline.remaining_ms(timeout_ms))
        self._drop(owned)
        self._told = False

    def _tell_gone(
        self,
        callback: Callable[[Collection[TopicPartition]], None],
        gone: Owned,
        errors: list[Exception],
    ) -> None:
        """Tell of partitions that go, each once: the listener may unsubscribe or close then."""
        before = self._going
        news = gone - before
        if news or not gone:
            self._going = before | gone
            try:
                self._tell(callback, news, errors)
            finally:
                self._going = before

    def _tell(
        self,
        callback: Callable[[Collection[TopicPartition]], None],
        owned: Owned,
        errors: list[Exception],
    ) -> None:
        before, self._in_callback = self._in_callback, True
        try:
            callback(_places(owned))
        except Exception as error:  # noqa: BLE001 - whatever it is, the rebalance goes on
            errors.append(error)
        finally:
            self._in_callback = before

    def _add(self, added: Owned) -> None:
        """Read these, too; their topics may be newer than what is known of them."""
        stale = {each.topic for each in added if not self._knows(each.topic, each.topic_id)}
        if stale:
            try:
                self._metadata.refresh(stale, timeout_ms=self._config.request_timeout_ms)
            except ClientClosedError:
                raise
            except RaykafkaError as error:
                logger.warning("metadata of new topics did not come: %s", error)
        self._subscription.assign([*self._subscription, *_places(added)])
        self._fetcher.changed()

    def _knows(self, topic: str, topic_id: str) -> bool:
        known = self._metadata.cached(topic)
        return known is not None and known.topic_id == topic_id

    def _drop(self, dropped: Owned) -> None:
        gone = set(_places(dropped))
        left = [place for place in self._subscription if place not in gone]
        for place in self._subscription.assign(left):
            self._fetcher.forget(place)
        self._fetcher.changed()

    # --- in other threads -------------------------------------------------------------------------

    def _on_work(self) -> None:
        """In the heartbeats' thread."""
        self._news = True
        self._reader.interrupt()

    def _on_tick(self, now_ms: int) -> None:
        """In the heartbeats' thread, with its lock: iteration counts as polling."""
        last, handed_out = self._reader.last, self.handed_out
        iterated = last is not None and last is not self._seen
        if iterated or handed_out != self._seen_handed_out:
            self._seen, self._seen_handed_out = last, handed_out
            self._membership.active(now_ms)
            if now_ms >= self.positions.due_ms:
                self._reader.interrupt()

    def _on_stale(self) -> None:
        """In the thread that commits."""
        self.rebalance()

    def _host(self) -> str:
        """This machine's address as the cluster knows it, where brokers run here."""
        for broker in self._metadata.brokers:
            if is_local(broker.host):
                return broker.host
        return platform.node()


def _places(owned: Iterable[OwnedPartition]) -> list[TopicPartition]:
    return sorted({each.place for each in owned})


def _listed(owned: Owned) -> str:
    return ", ".join(map(str, _places(owned))) or "no partitions"
