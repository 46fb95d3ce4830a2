"""Commits offsets and looks them up, for a member of a group or for nobody in particular."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from raykafka.client.cluster.deadline import Backoff, Deadline
from raykafka.client.grouping.coordinator_calls import CoordinatorCalls
from raykafka.clock import Clock
from raykafka.errors import (
    CommitFailedError,
    FencedMemberEpochError,
    NonEmptyGroupError,
    RaykafkaError,
    RequestTimedOutError,
    ServerBusyError,
    StaleMemberEpochError,
    UnknownMemberIdError,
    error_for,
)
from raykafka.model import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition
from raykafka.protocol.group_messages import (
    FetchedOffset,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetToCommit,
    TopicPartitions,
)
from raykafka.protocol.messages import ApiKey

OnCommit = Callable[[Mapping[TopicPartition, OffsetAndMetadata], "RaykafkaError | None"], None]
"""Told what was to be committed, and the error or None."""

_MOST_QUEUED: Final = 1000
_LONGEST_PAUSE_MS: Final = 250
_JOIN_S: Final = 1.0


def offset_to_commit(
    place: tuple[str, int], topic_id: str, wanted: OffsetAndMetadata
) -> OffsetToCommit:
    """An offset as it travels."""
    topic, partition = place
    return OffsetToCommit(
        topic, topic_id, partition, wanted.offset, wanted.leader_epoch, wanted.metadata
    )


def by_topic(places: Iterable[tuple[str, int]]) -> list[TopicPartitions]:
    """Partitions as they travel where the coordinator looks at names only."""
    topics: dict[str, list[int]] = {}
    for topic, partition in places:
        topics.setdefault(topic, []).append(partition)
    return [TopicPartitions(topic, "", numbers) for topic, numbers in topics.items()]


class _Job(NamedTuple):
    offsets: Mapping[TopicPartition, OffsetAndMetadata]
    listed: list[OffsetToCommit]
    on_commit: OnCommit | None


class GroupOffsets:
    """The committed offsets of one group, over one connection.

    Commits take effect in the order in which they are asked for: one that is made to wait
    (``commit``) follows those that are not (``commit_later``), which a thread sends, several in one
    request. For one owner, who calls everything but that thread.
    """

    def __init__(
        self,
        calls: CoordinatorCalls,
        group_id: str,
        *,
        identity: Callable[[], ConsumerGroupMetadata],
        topic_id_of: Callable[[TopicPartition], str],
        on_stale: Callable[[], None],
        clock: Clock,
        request_timeout_ms: int,
        retry_backoff_ms: int,
    ) -> None:
        """``identity`` says under which membership to commit, or raises ``CommitFailedError``;
        ``on_stale`` is told that the coordinator knows of a newer member epoch. ``topic_id_of`` is
        asked in the owner's thread, and may raise.
        """
        self._calls = calls
        self._group_id = group_id
        self._identity = identity
        self._topic_id_of = topic_id_of
        self._on_stale = on_stale
        self._clock = clock
        self._request_timeout_ms = request_timeout_ms
        self._retry_backoff_ms = retry_backoff_ms
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._done: deque[tuple[_Job, RaykafkaError | None]] = deque()
        self._busy = False
        """Whether a thread uses the connection."""
        self._stopping = False
        self._thread: threading.Thread | None = None

    # --- committing -------------------------------------------------------------------------------

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], timeout_ms: int) -> None:
        """Commit, after what was queued; raises what keeps the offsets from being committed.

        ``CommitFailedError`` where the member is not in the group any more,
        ``RequestTimedOutError`` and other retriable errors after ``timeout_ms``.
        """
        deadline = Deadline(self._clock, timeout_ms)
        listed = self._listed(offsets)
        with self._connection(deadline):
            for error in self._send(listed, deadline).values():
                raise error

    def commit_later(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], on_commit: OnCommit | None
    ) -> None:
        """Commit in the background; ``on_commit`` is called by ``call_back``."""
        job = _Job(offsets, self._listed(offsets), on_commit)
        with self._changed:
            if len(self._jobs) >= _MOST_QUEUED:
                busy = f"{_MOST_QUEUED} commits wait for the coordinator of {self._group_id}"
                self._done.append((job, ServerBusyError(busy)))
                return
            self._jobs.append(job)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="raykafka-commits", daemon=True)
            self._thread.start()

    def call_back(self) -> None:
        """Call back for the background's commits that are done."""
        while self._done:
            job, error = self._done.popleft()
            if job.on_commit is not None:
                job.on_commit(job.offsets, error)

    def flush(self, timeout_ms: int) -> bool:
        """Wait for the queued commits; whether all are done in that time."""
        deadline = Deadline(self._clock, timeout_ms)
        with self._changed:
            while (self._jobs or self._busy) and not deadline.expired:
                self._changed.wait(deadline.remaining_ms(timeout_ms) / 1000)
            return not self._jobs and not self._busy

    def abandon(self) -> None:
        """Let the thread end, some time; what still waits is not committed."""
        with self._changed:
            self._stopping = True
            self._jobs.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread and the connection; what still waits is not committed."""
        self.abandon()
        self._calls.interrupt()
        if self._thread is not None:
            # It may be asking a controller that is gone; it ends when the metadata are closed.
            self._thread.join(_JOIN_S)
        else:
            self._calls.close()

    # --- looking up -------------------------------------------------------------------------------

    def fetch(
        self,
        partitions: Iterable[TopicPartition],
        *,
        require_stable: bool,
        timeout_ms: int,
        once: bool = False,
    ) -> dict[TopicPartition, FetchedOffset]:
        """What is committed, with the id of the topic it was committed for; offset -1 for nothing.

        Errors of single partitions stand in the answers. Raises what keeps the coordinator from
        answering for ``timeout_ms``, with ``once`` the first time that something does.
        """
        asked = by_topic(partitions)

        def request(partition: int) -> OffsetFetchRequest:
            return OffsetFetchRequest(
                self._group_id, partition, asked, require_stable=require_stable
            )

        deadline = Deadline(self._clock, timeout_ms)
        with self._connection(deadline):
            if once:
                answer = self._calls.attempt(self._group_id, ApiKey.OFFSET_FETCH, request, deadline)
            else:
                answer = self._calls.call(
                    self._group_id, ApiKey.OFFSET_FETCH, request, timeout_ms=timeout_ms
                )
        assert isinstance(answer, OffsetFetchResponse)
        return {TopicPartition(each.topic, each.partition): each for each in answer.offsets}

    # --- inside -----------------------------------------------------------------------------------

    @contextmanager
    def _connection(self, deadline: Deadline) -> Iterator[None]:
        """The connection, once everything that is queued has been sent."""
        with self._changed:
            while self._jobs or self._busy:
                if deadline.expired:
                    raise RequestTimedOutError(
                        f"commits of group {self._group_id} that were made before wait for its "
                        "coordinator"
                    )
                self._changed.wait(deadline.remaining_ms(self._request_timeout_ms) / 1000)
            self._busy = True
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def _run(self) -> None:
        while jobs := self._next_jobs():
            last = {(each.topic, each.partition): each for job in jobs for each in job.listed}
            errors: Mapping[TopicPartition, RaykafkaError]
            try:
                deadline = Deadline(self._clock, self._request_timeout_ms)
                errors = self._send(list(last.values()), deadline)
            except RaykafkaError as failed:
                errors = {place: failed for job in jobs for place in job.offsets}
            for job in jobs:
                first = next((errors[place] for place in job.offsets if place in errors), None)
                self._done.append((job, first))
            self._release()
        self._calls.close()

    def _next_jobs(self) -> list[_Job]:
        """What is queued, with the connection to send it over; empty when the thread is to end."""
        with self._changed:
            while (not self._jobs or self._busy) and not self._stopping:
                self._changed.wait()
            jobs = [] if self._stopping else list(self._jobs)
            self._jobs.clear()
            self._busy |= bool(jobs)
            return jobs

    def _listed(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> list[OffsetToCommit]:
        return [
            offset_to_commit(place, self._topic_id_of(place), wanted)
            for place, wanted in offsets.items()
        ]

    def _send(
        self, listed: list[OffsetToCommit], deadline: Deadline
    ) -> Mapping[TopicPartition, RaykafkaError]:
        """Why single partitions were refused; raises what keeps all from being committed."""
        backoff = Backoff(self._retry_backoff_ms, _LONGEST_PAUSE_MS)
        while True:
            identity = self._identity()
            try:
                return self._send_as(identity, listed, deadline)
            except (FencedMemberEpochError, UnknownMemberIdError, NonEmptyGroupError) as error:
                self._on_stale()
                raise CommitFailedError(self._refused(identity, error)) from error
            except StaleMemberEpochError:
                # The coordinator has moved on; so will this member, with its next heartbeat.
                self._on_stale()
                pause = backoff.next_ms()
                if deadline.remaining_ms(pause + 1) <= pause:
                    raise
            self._calls.pause(pause)

    def _refused(self, identity: ConsumerGroupMetadata, error: RaykafkaError) -> str:
        if not identity.member_id:
            return (
                f"group {self._group_id} has members, and only they commit its offsets; subscribe, "
                f"use another group_id, or stop them first ({error.message})"
            )
        return (
            f"group {self._group_id} has removed member {identity.member_id}, so its offsets were "
            f"not committed ({error.message}); the next poll() joins again"
        )

    def _send_as(
        self,
        identity: ConsumerGroupMetadata,
        listed: list[OffsetToCommit],
        deadline: Deadline,
    ) -> Mapping[TopicPartition, RaykafkaError]:
        def request(partition: int) -> OffsetCommitRequest:
            return OffsetCommitRequest(
                self._group_id,
                partition,
                listed,
                identity.member_id,
                identity.member_epoch,
                identity.group_instance_id,
            )

        timeout_ms = max(1, deadline.remaining_ms(self._request_timeout_ms))
        answer = self._calls.call(
            self._group_id, ApiKey.OFFSET_COMMIT, request, timeout_ms=timeout_ms
        )
        assert isinstance(answer, OffsetCommitResponse)
        errors: dict[TopicPartition, RaykafkaError] = {}
        for outcome in answer.partitions:
            if outcome.error_code:
                place = TopicPartition(outcome.topic, outcome.partition)
                error = error_for(outcome.error_code, f"{place}: {outcome.error_message}")
                if isinstance(error, StaleMemberEpochError):
                    # Another member owns it, which no newer epoch of this one changes.
                    error = CommitFailedError(error.message)
                errors[place] = error
        return errors
