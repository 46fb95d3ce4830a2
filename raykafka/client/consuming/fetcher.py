"""Keeps a fetch open at every leader and queues what arrives; the consumer's engine room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.cluster.retries import Retries, may_pass
from raykafka.client.consuming.decoding import decode_frame
from raykafka.client.consuming.fetch_plan import PlannedFetch, plan_fetches
from raykafka.client.consuming.fetch_queue import FetchedBatch, FetchedFrame, FetchQueue
from raykafka.client.consuming.fetch_session import FetchSession, LeaderAccount
from raykafka.client.consuming.frame_cutting import FrameCutter, payload_size
from raykafka.client.consuming.leader_watch import LeaderWatch
from raykafka.client.consuming.positions import Positions
from raykafka.client.consuming.subscription import Subscription
from raykafka.client.consuming.topic_view import TopicView
from raykafka.clock import Clock
from raykafka.config import ConsumerConfig
from raykafka.errors import (
    CorruptMessageError,
    LogDamagedError,
    OffsetOutOfRangeError,
    RaykafkaError,
    error_for,
)
from raykafka.model import Endpoint, IsolationLevel, TopicPartition
from raykafka.protocol.messages import (
    ApiKey,
    FetchCreditRequest,
    FetchedPartition,
    FetchResponse,
    Message,
)

_SURFACED = (OffsetOutOfRangeError, CorruptMessageError, LogDamagedError)
"""Errors that belong to an offset: the reader has to hear of them, whether retriable or not."""
_MAPPED_CREDIT = 1 << 20
"""Credit where segments are mapped: 16 bytes name a batch, and only small batches are sent."""
_CREDIT_SHARE = 4
"""Credit is given back when this fraction of it has been consumed."""


class FetchFailure(NamedTuple):
    """An error that stands at this place in a partition; raised when everything before is read."""

    partition: TopicPartition
    offset: int
    error: RaykafkaError


class PartitionProgress(NamedTuple):
    """What a leader last said about a partition."""

    end_offset: int
    """High watermark, or last stable offset for a reader of committed records."""
    log_start_offset: int


class Fetcher:
    """Plans, opens and renews fetches; takes their frames. Not thread-safe.

    ``maintain`` compares what is open with what the subscription needs and changes the difference;
    it costs next to nothing while nothing has happened. Losing a connection, an error of one
    partition and fresh metadata all just mark the difference and leave the rest to it.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        topics: TopicView,
        subscription: Subscription,
        connections: LeaderConnections,
        positions: Positions,
        retries: Retries,
        watch: LeaderWatch,
        clock: Clock,
    ) -> None:
        self._config = config
        self._topics = topics
        self._subscription = subscription
        self._connections = connections
        self._positions = positions
        self._retries = retries
        self._watch = watch
        self._clock = clock
        self.queue = FetchQueue(self._decode, self._release, self._fail)
        self.progress: dict[TopicPartition, PartitionProgress] = {}
        self.frames = 0
        """Frames with records taken so far."""
        self.bytes = 0
        """Bytes of their payloads."""
        self.sessions_opened = 0
        self._accounts: dict[Endpoint, LeaderAccount] = {}
        self._failures: dict[TopicPartition, FetchFailure] = {}
        self._doubted: dict[TopicPartition, int] = {}
        """Where a batch failed its checksum last."""
        self._cutter = FrameCutter(config.mapped_reads, config.check_crcs)
        self._committed = config.isolation_level is IsolationLevel.READ_COMMITTED
        self._push = config.fetch_min_bytes <= 1
        self._error: RaykafkaError | None = None
        self._stale = True

    # --- called by the consumer -------------------------------------------------------------------

    def changed(self) -> None:
        """The subscription, the metadata or the connections are not what they were."""
        self._stale = True

    def forget(self, partition: TopicPartition) -> None:
        """Drop what was fetched of a partition whose position or assignment has changed."""
        self.queue.drop(partition)
        self._failures.pop(partition, None)
        self._retries.settled(partition)
        self._stale = True

    def maintain(self) -> None:
        """Look up missing positions and open, renew or close fetches where it is needed.

        Raises what only the caller can solve: an unknown topic, no position with
        ``auto_offset_reset=none``, a column that a topic does not have.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if not self._stale and not self._retries.due:
            return
        self._stale = False
        self._retries.start()
        try:
            self._renew()
        except RaykafkaError:
            self._stale = True
            raise

    def _renew(self) -> None:
        for partition in self._positions.recreated():
            self.queue.drop(partition)
            self._failures.pop(partition, None)
        self._positions.look_up()
        plan = plan_fetches(self._wanted(), self._topics.source_of)
        for partition in plan.leaderless:
            self._topics.refresh(partition.topic)
            self._retries.pause(partition)
        for endpoint, account in list(self._accounts.items()):
            if endpoint not in plan.fetches:
                self._close(account)
                if not account.held:
                    del self._accounts[endpoint]
        for endpoint, fetches in plan.fetches.items():
            account = self._accounts.setdefault(endpoint, LeaderAccount(endpoint))
            if account.session is None or account.session.expected != fetches:
                self._open(account, fetches)
        self._watch.check([a.session for a in list(self._accounts.values()) if a.session])

    def retry_in_ms(self, at_most_ms: int) -> int:
        """Milliseconds until ``maintain`` has something to do, as far as is known."""
        return 0 if self._stale else self._retries.remaining_ms(at_most_ms)

    def due_failure(self) -> FetchFailure | None:
        """Take out a failure that stands at a partition's position now, if there is one."""
        if not self._failures:
            return None
        paused = self._subscription.paused
        for failure in list(self._failures.values()):
            if failure.partition in self.queue or failure.partition in paused:
                continue
            del self._failures[failure.partition]
            self._stale = True
            out_of_range = isinstance(failure.error, OffsetOutOfRangeError)
            if out_of_range and self._positions.out_of_range(failure.partition, failure.offset):
                continue
            return failure
        return None

    def close(self) -> None:
        """Let go of mapped files; connections belong to the consumer."""
        self._cutter.close()

    def on_lost(self, endpoint: Endpoint) -> None:
        """A connection broke or could not be made."""
        account = self._accounts.get(endpoint)
        if account is not None:
            account.session = None
        self._retries.at(self._connections.retry_at_ms(endpoint))
        self._stale = True
        for topic in self._topics.fetched_from(endpoint, self._subscription):
            self._topics.refresh(topic)

    # --- fetches ----------------------------------------------------------------------------------

    def _wanted(self) -> Iterator[tuple[TopicPartition, int]]:
        for partition, position in self._subscription.fetchable():
            if partition not in self._failures and not self._retries.waits(partition):
                yield partition, self.queue.end_offset(partition, position)

    def _open(self, account: LeaderAccount, fetches: dict[TopicPartition, PlannedFetch]) -> None:
        self._close(account)
        endpoint = account.endpoint
        mapped = self._cutter.maps(endpoint)
        credit = self._config.fetch_max_bytes
        if mapped:
            credit = min(credit, _MAPPED_CREDIT)
        credit -= account.held
        if credit <= 0:
            return  # told again when something has been consumed
        columns = self._topics.fetch_columns({partition.topic for partition in fetches})
        connection = self._connections.get(endpoint)
        if connection is None:
            self._retries.at(self._connections.retry_at_ms(endpoint))
            return
        session = FetchSession(
            account,
            fetches,
            push=self._push,
            mapped=mapped,
            credit=credit,
            columns=columns,
            now_ms=self._clock.monotonic_ms(),
        )
        request = session.request(
            host_id=self._cutter.host_id,
            min_bytes=self._config.fetch_min_bytes,
            max_wait_ms=self._config.fetch_max_wait_ms,
            max_partition_bytes=self._config.max_partition_fetch_bytes,
            isolation=int(self._config.isolation_level),
            follower_reads=self._config.follower_fetch_enable,
            doubted=self._doubted,
        )
        account.session = session
        self.sessions_opened += 1

        def on_response(answer: Message | RaykafkaError, payload: memoryview) -> None:
            self._on_answer(session, answer, payload)

        try:
            session.correlation_id = connection.send(
                ApiKey.FETCH, request, on_response=on_response, stream=session.push
            )
        except RaykafkaError as error:
            account.session = None
            if not error.retriable:
                raise
            self._connections.lose(endpoint)

    def _close(self, account: LeaderAccount) -> None:
        session, account.session = account.session, None
        if session is not None and session.push:
            self._tell(session, FetchCreditRequest(session.correlation_id, close=True))

    def _tell(self, session: FetchSession, request: FetchCreditRequest) -> None:
        connection = self._connections.get(session.endpoint)
        if connection is None:
            return
        try:
            connection.send(ApiKey.FETCH_CREDIT, request)
        except RaykafkaError:
            self._connections.lose(session.endpoint)

    def _release(self, account: LeaderAccount, size: int) -> None:
        account.held -= size
        session = account.session
        if session is None:
            self._stale = True
            return
        session.consumed += size
        if session.push and session.consumed * _CREDIT_SHARE >= session.credit:
            returned, session.consumed = session.consumed, 0
            self._tell(session, FetchCreditRequest(session.correlation_id, returned))

    # --- answers ----------------------------------------------------------------------------------

    def _on_answer(
        self, session: FetchSession, answer: Message | RaykafkaError, payload: memoryview
    ) -> None:
        account = session.account
        if account.session is not session:
            return  # a frame that was on its way when the fetch was replaced
        session.heard(self._clock.monotonic_ms())
        if isinstance(answer, RaykafkaError):
            self._on_session_error(session, answer)
            return
        assert isinstance(answer, FetchResponse)
        self._connections.healthy(account.endpoint)
        start = 0
        for fetched in answer.partitions:
            size = payload_size(fetched)
            self._on_partition(session, fetched, payload[start : start + size])
            start += size
        if not session.push or not answer.partitions:
            account.session = None
            self._stale = True

    def _on_session_error(self, session: FetchSession, error: RaykafkaError) -> None:
        session.account.session = None
        self._stale = True
        if not may_pass(error):
            self._error = error
            return
        for partition in session.expected:
            self._wait(partition, error)

    def _on_partition(
        self, session: FetchSession, fetched: FetchedPartition, payload: memoryview
    ) -> None:
        partition = session.partition(fetched.topic_id, fetched.partition)
        if partition is None:
            return
        planned = session.expected[partition]
        position = self._subscription.position(partition)
        if position is None or self.queue.end_offset(partition, position) != planned.offset:
            # It was moved after this had been sent; what is open is replaced by ``maintain``.
            del session.expected[partition]
            self._stale = True
            return
        end_offset = fetched.last_stable_offset if self._committed else fetched.high_watermark
        if end_offset >= 0:
            self.progress[partition] = PartitionProgress(end_offset, fetched.log_start_offset)
        if fetched.error_code:
            error = error_for(fetched.error_code, fetched.error_message)
            self._on_partition_error(session, partition, planned.offset, error)
            return
        cut = self._cutter.cut(session.endpoint, fetched, payload)
        if cut is None:
            self._close(session.account)
            self._stale = True
            return
        next_offset = planned.offset
        skipped = fetched.next_offset if cut.error is None else -1
        if cut.last_header is not None:
            next_offset = cut.last_header.next_offset
        if skipped > next_offset:
            next_offset = skipped
            if cut.last_header is None and not self.queue.skip_to(partition, skipped):
                self._subscription.state(partition).position = skipped
        if next_offset != planned.offset:
            self._retries.settled(partition)
            session.expected[partition] = PlannedFetch(planned[0], planned[1], next_offset)
        if cut.last_header is not None:
            size = sum(cut.costs)
            session.account.held += size
            self.frames += 1
            self.bytes += size
            self.queue.put(
                FetchedFrame(
                    partition,
                    fetched.topic_id,
                    planned.offset,
                    cut.messages,
                    cut.costs,
                    cut.last_header,
                    cut.trusted,
                    session.columns is not None and fetched.mapped is None,
                    session.account,
                    cut.runs,
                    -1 if fetched.next_offset < 0 else next_offset,
                )
            )
        if cut.error is not None:
            self._on_partition_error(session, partition, next_offset, cut.error)

    def _on_partition_error(
        self, session: FetchSession, partition: TopicPartition, offset: int, error: RaykafkaError
    ) -> None:
        del session.expected[partition]
        self._stale = True
        if self._topics.leader_of(partition) != self._topics.source_of(partition):
            self._topics.avoid_followers(partition)
        self._fail(partition, offset, error)

    def _fail(self, partition: TopicPartition, offset: int, error: RaykafkaError) -> None:
        """A partition cannot go on at ``offset``."""
        self._stale = True
        if isinstance(error, CorruptMessageError) and self._doubted.get(partition) != offset:
            # A leader may not know what its disk did: asked again, it looks and gives way.
            self._doubted[partition] = offset
            self._retries.pause(partition)
            return
        if isinstance(error, _SURFACED) or not may_pass(error):
            self._failures[partition] = FetchFailure(partition, offset, error)
            return
        self._wait(partition, error)

    def _wait(self, partition: TopicPartition, error: RaykafkaError) -> None:
        """Try again a little later."""
        self._retries.pause(partition)
        if error.refresh_metadata or not error.retriable:
            self._topics.refresh(partition.topic)

    def _decode(self, frame: FetchedFrame, index: int, offset: int) -> FetchedBatch:
        return decode_frame(self._topics.decoder(frame.partition.topic), frame, index, offset)
