"""What a consumer does as a member of a group, and with the offsets of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from raykafka.client.consuming.group_session import GroupSession
from raykafka.client.consuming.positioned_consumer import PositionedConsumer, check_from_zero
from raykafka.client.consuming.rebalance_listener import ConsumerRebalanceListener
from raykafka.client.consuming.subscription import checked
from raykafka.client.grouping.offsets import OnCommit
from raykafka.errors import (
    IllegalStateError,
    InvalidGroupIdError,
    InvalidRegularExpressionError,
    InvalidRequestError,
)
from raykafka.model import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition

CLOSE_TIMEOUT_MS = 10_000

Committable = int | tuple[int, str] | OffsetAndMetadata
"""An offset to commit, alone or with its note."""


class GroupConsumer(PositionedConsumer):
    """The part of ``Consumer`` that has to do with its group."""

    _subscribed: frozenset[str] = frozenset()
    _pattern = ""

    # --- who decides on the partitions ------------------------------------------------------------

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these partitions from now on, in place of those before.

        A partition that stays keeps its position; a new one starts at the offset that the group
        has committed, if there is one, else where ``auto_offset_reset`` says, unless ``seek`` is
        called. Nobody is contacted: a topic that does not exist is reported by the next ``poll``.
        Raises ``InvalidPartitionsError``, ``IllegalStateError`` for a consumer that has subscribed.
        """
        with self._exclusive():
            if self._subscription.managed:
                raise IllegalStateError(
                    "the consumer has subscribed, so its group assigns partitions; unsubscribe() "
                    "first"
                )
            for dropped in self._subscription.assign(partitions):
                self._fetcher.forget(dropped)
            self._fetcher.changed()

    def subscribe(
        self,
        topics: Iterable[str] = (),
        pattern: str | re.Pattern[str] | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        """Join the group and read what it gives of these topics, in place of those before.

        Or of all topics, now and later, whose whole name the regular expression ``pattern``
        matches. Partitions come, and go when others join, during ``poll``; ``listener`` hears of
        it. Without topics and pattern it is ``unsubscribe``.

        Raises ``InvalidGroupIdError`` without ``group_id``, ``IllegalStateError`` for a consumer
        that has partitions by ``assign``, ``InvalidRegularExpressionError``.
        """
        if isinstance(topics, str):
            raise InvalidRequestError(f"give a list of topics: [{topics!r}]")
        wanted = frozenset(topics)
        if wanted and pattern is not None:
            raise IllegalStateError("subscribe to topics or to a pattern, not to both")
        text = _checked_pattern(pattern)
        if not wanted and not text:
            self.unsubscribe()
            return
        with self._exclusive():
            group = self._need_group("subscribe")
            if len(self._subscription) and not self._subscription.managed:
                raise IllegalStateError(
                    "the consumer has partitions by assign(); unsubscribe() first"
                )
            self._subscribed, self._pattern = wanted, text
            group.subscribe(wanted, text, listener)

    def unsubscribe(self) -> None:
        """Give all partitions up, those of ``assign`` as well, and leave the group.

        Positions are committed first with ``enable_auto_commit``. Raises what the rebalance
        listener raises.
        """
        with self._exclusive():
            self._subscribed, self._pattern = frozenset(), ""
            if self._group is not None and self._subscription.managed:
                self._group.leave(CLOSE_TIMEOUT_MS)
            for dropped in self._subscription.assign(()):
                self._fetcher.forget(dropped)
            self._fetcher.changed()

    def subscription(self) -> set[str]:
        """The topics subscribed to; with a pattern, those of which there are partitions now."""
        if self._pattern:
            return {partition.topic for partition in self._subscription}
        return set(self._subscribed)

    def enforce_rebalance(self, reason: str = "") -> None:
        """Ask the coordinator at once whether this member's partitions have changed.

        Balancing is the coordinator's business and needs no prompting (KIP-848); ``reason`` is
        taken for Kafka's sake. Raises ``InvalidGroupIdError`` without ``group_id``.
        """
        with self._exclusive():
            self._need_group("enforce_rebalance").rebalance()

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Who this is in its group, for ``Producer.send_offsets_to_transaction``.

        Raises ``InvalidGroupIdError`` without ``group_id``, ``CommitFailedError`` while the member
        is not in its group.
        """
        with self._exclusive():
            return self._need_group("group_metadata").identity()

    def interrupted(self) -> bool:
        """Whether the group wants something before more records are taken from what was polled.

        For those who hand out records one by one: that they ask counts as polling. Thread-safe.
        """
        if self._group is None:
            return False
        self._group.handed_out += 1
        return self._reader.interrupted

    # --- offsets ----------------------------------------------------------------------------------

    def commit(
        self,
        offsets: Mapping[TopicPartition, Committable] | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        """Commit these offsets, by default all positions, and wait until that is durable.

        An offset is that of the next record to read: one more than that of the last record dealt
        with. Tries for ``timeout_ms`` (by default ``request_timeout_ms``). Raises
        ``CommitFailedError`` when the member is not in its group any more (others have its
        partitions; the next ``poll`` joins again) and for a partition that another member owns,
        ``RequestTimedOutError`` when it is not known whether the commit took place,
        ``InvalidGroupIdError`` without ``group_id``.
        """
        with self._exclusive():
            group = self._need_group("commit")
            wanted = self._wanted(group, offsets)
            if wanted:
                group.positions.offsets.commit(wanted, self._limit(timeout_ms))
            group.positions.offsets.call_back()

    def commit_async(
        self,
        offsets: Mapping[TopicPartition, Committable] | None = None,
        callback: OnCommit | None = None,
    ) -> None:
        """Commit these offsets, by default all positions, in the background.

        Commits take effect in the order of the calls, also of ``commit``, and are tried again for
        ``request_timeout_ms``. ``callback(offsets, error)`` is called by a later ``poll``, commit
        or ``close``; ``error`` is None, or what ``commit`` would have raised. Raises
        ``InvalidGroupIdError`` without ``group_id``.
        """
        with self._exclusive():
            group = self._need_group("commit_async")
            group.positions.offsets.call_back()
            group.positions.offsets.commit_later(self._wanted(group, offsets), callback)

    def committed(
        self, partition: TopicPartition, metadata: bool = False, timeout_ms: int | None = None
    ) -> int | OffsetAndMetadata | None:
        """The offset that the group has committed, with ``metadata`` an ``OffsetAndMetadata``.

        None where nothing is committed, or for a topic that was deleted and made again since.
        Raises ``InvalidGroupIdError`` without ``group_id``.
        """
        with self._exclusive():
            group = self._need_group("committed")
            place = checked(partition)
            found = group.positions.committed([place], self._limit(timeout_ms))[place]
            return found if found is None or metadata else found.offset

    def _wanted(
        self, group: GroupSession, offsets: Mapping[TopicPartition, Committable] | None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        if offsets is None:
            return group.positions.consumed(self._subscription)
        return {checked(place): _committable(place, each) for place, each in offsets.items()}

    def _need_group(self, what: str) -> GroupSession:
        if self._group is None:
            raise InvalidGroupIdError(f"{what}() needs a consumer group: give group_id a name")
        return self._group

    def _limit(self, timeout_ms: int | None) -> int:
        return self._config.request_timeout_ms if timeout_ms is None else timeout_ms


def _checked_pattern(pattern: str | re.Pattern[str] | None) -> str:
    text = pattern.pattern if isinstance(pattern, re.Pattern) else (pattern or "")
    try:
        re.compile(text)
    except re.error as error:
        raise InvalidRegularExpressionError(f"pattern {text!r} is not valid: {error}") from None
    return text


def _committable(place: TopicPartition, wanted: Committable) -> OffsetAndMetadata:
    found = OffsetAndMetadata(*wanted) if isinstance(wanted, tuple) else OffsetAndMetadata(wanted)
    check_from_zero(f"an offset of {place}", found.offset)
    return found
