"""Asks leaders for records of a share group and tells them what became of earlier ones.

A leader has at most one fetch to answer. Nothing is fetched ahead: a lease runs from the moment in
which a record is acquired. What is acknowledged travels with the next fetch, or by itself where a
fetch is under way or not wanted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from raykafka.client.cluster.leader_connections import LeaderConnections
from raykafka.client.cluster.retries import Retries
from raykafka.client.consuming.fetch_plan import Leader
from raykafka.client.consuming.fetch_queue import FetchedFrame
from raykafka.client.consuming.frame_cutting import FrameCutter, payload_size
from raykafka.client.consuming.topic_view import TopicView
from raykafka.client.sharing.acknowledgements import Acknowledgements
from raykafka.client.sharing.decoding import decode_acquired
from raykafka.client.sharing.share_records import ShareRows
from raykafka.clock import Clock
from raykafka.config import ConsumerConfig
from raykafka.errors import (
    ConnectionLostError,
    CorruptMessageError,
    RaykafkaError,
    UnknownTopicOrPartitionError,
    error_for,
)
from raykafka.model import AcknowledgeType, Endpoint, TopicPartition
from raykafka.protocol.messages import ApiKey, FetchedPartition, Message
from raykafka.protocol.share_messages import (
    AcknowledgementBatch,
    AcquiredRecords,
    ShareAcknowledgePartition,
    ShareAcknowledgeRequest,
    ShareAcknowledgeResponse,
    ShareFetchedPartition,
    ShareFetchPartition,
    ShareFetchRequest,
    ShareFetchResponse,
)

Outcomes = dict[TopicPartition, "RaykafkaError | None"]
"""By partition: None where every acknowledgement was taken, else why one was not."""
Said = Mapping[TopicPartition, list[AcknowledgementBatch]]

_LATE_MS: Final = 2000
"""A leader that is so late with its answer may be none any more."""


class _Fetch(NamedTuple):
    """A fetch that a leader has not answered."""

    places: Mapping[tuple[str, int], TopicPartition]
    late_ms: int


class ShareFetcher:
    """Not thread-safe."""

    def __init__(
        self,
        config: ConsumerConfig,
        member_id: str,
        topics: TopicView,
        connections: LeaderConnections,
        retries: Retries,
        acknowledgements: Acknowledgements,
        clock: Clock,
    ) -> None:
        self._config = config
        self._member_id = member_id
        self._topics = topics
        self._connections = connections
        self._retries = retries
        self._acknowledgements = acknowledgements
        self._clock = clock
        self._cutter = FrameCutter(config.mapped_reads, config.check_crcs)
        self._fetches: dict[Endpoint, _Fetch] = {}
        self._unanswered = 0
        self._turn = 0
        self._ids: dict[TopicPartition, str] = {}
        """Ids of the topics under which records were acquired."""
        self._used: dict[Endpoint, set[TopicPartition]] = {}
        self.ready: deque[ShareRows] = deque()
        """Records that were acquired and not handed out."""
        self.error: RaykafkaError | None = None
        """What only the caller can solve."""
        self.outcomes: Outcomes = {}
        """What became of acknowledgements since this was looked at last."""
        self.records = 0
        self.lock_timeout_ms = 0
        """How long a record is held, as the leaders said last; 0 before they did."""

    @property
    def unanswered(self) -> int:
        """Requests with acknowledgements whose answers have not come."""
        return self._unanswered

    def fetch(self, partitions: Collection[TopicPartition], max_records: int) -> None:
        """Ask every leader of ``partitions`` that is not asked already for so many records."""
        self._retries.start()
        self._look_late()
        by_leader: dict[Endpoint, list[tuple[TopicPartition, Leader]]] = {}
        for place in partitions:
            if self._retries.waits(place):
                continue
            leader = self._leader_of(place)
            if leader is None:
                self._retries.pause(place)
                self._topics.refresh(place.topic)
            elif leader.endpoint not in self._fetches:
                by_leader.setdefault(leader.endpoint, []).append((place, leader))
        self._turn += 1
        for endpoint, found in by_leader.items():
            turn = self._turn % len(found)
            self._send_fetch(endpoint, found[turn:] + found[:turn], max_records)

    def tell(self) -> None:
        """Send every acknowledgement that has not been sent."""
        for endpoint in self._acknowledgements.endpoints():
            said = self._acknowledgements.take(endpoint)
            self._send_acknowledge(endpoint, said)

    def release(self) -> None:
        """Give everything back that the application has not seen, and tell what is to be told."""
        self.ready.clear()
        for endpoint in {*self._used, *self._acknowledgements.endpoints()}:
            said = self._acknowledgements.take(endpoint)
            others = self._used.get(endpoint, set())
            self._send_acknowledge(
                endpoint, {**{place: [] for place in others}, **said}, release=True
            )

    def take_outcomes(self) -> Outcomes:
        """What became of acknowledgements; forgotten here."""
        outcomes, self.outcomes = self.outcomes, {}
        return outcomes

    def retry_in_ms(self, at_most_ms: int) -> int:
        """When ``fetch`` should be called again although nothing has arrived."""
        return self._retries.remaining_ms(min(at_most_ms, _LATE_MS))

    def close(self) -> None:
        """Let go of mapped files; connections belong to the consumer."""
        self._cutter.close()

    def on_lost(self, endpoint: Endpoint) -> None:
        """The connection has ended: what was acquired over it is not ours any more."""
        self._fetches.pop(endpoint, None)
        self.ready = deque(rows for rows in self.ready if rows.endpoint != endpoint)
        for place in self._used.pop(endpoint, set()):
            self._topics.refresh(place.topic)
        self._retries.at(self._connections.retry_at_ms(endpoint))

    # --- requests ---------------------------------------------------------------------------------

    def _leader_of(self, place: TopicPartition) -> Leader | None:
        """None also for a topic that was deleted, which the coordinator is about to notice."""
        try:
            return self._topics.leader_of(place)
        except UnknownTopicOrPartitionError:
            return None

    def _send_fetch(
        self,
        endpoint: Endpoint,
        found: Sequence[tuple[TopicPartition, Leader]],
        max_records: int,
    ) -> None:
        columns = self._topics.fetch_columns({place.topic for place, _ in found})
        connection = self._connections.get(endpoint)
        if connection is None:
            for place, _ in found:
                self._topics.refresh(place.topic)
            self._retries.at(self._connections.retry_at_ms(endpoint))
            return
        config = self._config
        said = dict(self._acknowledgements.take(endpoint))
        parts = []
        for place, leader in found:
            self._ids[place] = leader.topic_id
            parts.append(
                ShareFetchPartition(
                    leader.topic_id,
                    place.partition,
                    leader.leader_epoch,
                    config.max_partition_fetch_bytes,
                    said.pop(place, []),
                )
            )
        told = [place for place, part in zip(found, parts, strict=True) if part.acknowledgements]
        if said:  # partitions that this member reads no more
            self._send_acknowledge(endpoint, said)
        request = ShareFetchRequest(
            config.group_id,
            self._member_id,
            parts,
            config.fetch_max_wait_ms,
            config.fetch_max_bytes,
            max_records,
            columns,
            self._cutter.host_id if self._cutter.maps(endpoint) else "",
        )
        places = {(leader.topic_id, place.partition): place for place, leader in found}
        late_ms = self._clock.monotonic_ms() + config.fetch_max_wait_ms + _LATE_MS
        fetch = self._fetches[endpoint] = _Fetch(places, late_ms)
        self._used.setdefault(endpoint, set()).update(places.values())
        acknowledged = [place for place, _ in told]
        self._unanswered += bool(acknowledged)

        def on_response(answer: Message | RaykafkaError, payload: memoryview) -> None:
            self._unanswered -= bool(acknowledged)
            self._on_fetched(endpoint, fetch, acknowledged, columns is not None, answer, payload)

        self._send(endpoint, ApiKey.SHARE_FETCH, request, on_response)

    def _send_acknowledge(self, endpoint: Endpoint, said: Said, *, release: bool = False) -> None:
        parts = [
            ShareAcknowledgePartition(self._ids[place], place.partition, list(batches))
            for place, batches in said.items()
        ]
        if not parts:
            return
        request = ShareAcknowledgeRequest(self._config.group_id, self._member_id, parts, release)
        places = {(self._ids[place], place.partition): place for place in said}
        self._unanswered += 1

        def on_response(answer: Message | RaykafkaError, payload: memoryview) -> None:
            self._unanswered -= 1
            self._on_acknowledged(places, answer)

        self._send(endpoint, ApiKey.SHARE_ACKNOWLEDGE, request, on_response)

    def _send(
        self,
        endpoint: Endpoint,
        api_key: ApiKey,
        request: Message,
        on_response: Callable[[Any, memoryview], None],
    ) -> None:
        error: RaykafkaError = ConnectionLostError(f"{endpoint} cannot be reached")
        try:
            connection = self._connections.get(endpoint)
            if connection is not None:
                connection.send(api_key, request, on_response=on_response)
                return
        except RaykafkaError as failed:
            if not failed.retriable:
                raise
            self._connections.lose(endpoint)
            error = failed
        on_response(error, memoryview(b""))

    def _look_late(self) -> None:
        """Give up leaders that are late, if others lead by now, or after a long time anyway."""
        now_ms = self._clock.monotonic_ms()
        for endpoint, fetch in list(self._fetches.items()):
            if now_ms < fetch.late_ms:
                continue
            moved = now_ms >= fetch.late_ms + self._config.request_timeout_ms
            for place in fetch.places.values():
                self._topics.refresh(place.topic)
                leader = self._leader_of(place)
                moved |= leader is not None and leader.endpoint != endpoint
            if moved:
                self._connections.lose(endpoint)
                self.on_lost(endpoint)

    # --- answers ----------------------------------------------------------------------------------

    def _on_fetched(
        self,
        endpoint: Endpoint,
        fetch: _Fetch,
        acknowledged: Sequence[TopicPartition],
        projected: bool,
        answer: Message | RaykafkaError,
        payload: memoryview,
    ) -> None:
        if self._fetches.get(endpoint) is fetch:
            del self._fetches[endpoint]
        if isinstance(answer, RaykafkaError):
            self.outcomes.update(dict.fromkeys(acknowledged, answer))
            for place in fetch.places.values():
                self._failed(place, answer)
            return
        assert isinstance(answer, ShareFetchResponse)
        self._connections.healthy(endpoint)
        self.lock_timeout_ms = answer.acquisition_lock_timeout_ms or self.lock_timeout_ms
        start = 0
        for part in answer.partitions:
            place = fetch.places[part.topic_id, part.partition]
            if place in acknowledged:
                self._note(place, part.acknowledge_error_code, part.acknowledge_error_message)
            if part.error_code:
                self._failed(place, error_for(part.error_code, part.error_message))
            else:
                self._retries.settled(place)
            if part.fetched is not None:
                size = payload_size(part.fetched)
                piece = payload[start : start + size]
                start += size
                self._take(endpoint, place, part, part.fetched, piece, projected)

    def _on_acknowledged(
        self,
        places: Mapping[tuple[str, int], TopicPartition],
        answer: Message | RaykafkaError,
    ) -> None:
        if isinstance(answer, RaykafkaError):
            self.outcomes.update(dict.fromkeys(places.values(), answer))
            return
        assert isinstance(answer, ShareAcknowledgeResponse)
        self.lock_timeout_ms = answer.acquisition_lock_timeout_ms or self.lock_timeout_ms
        for part in answer.partitions:
            self._note(places[part.topic_id, part.partition], part.error_code, part.error_message)

    def _note(self, place: TopicPartition, code: int, message: str) -> None:
        """An earlier error of the same partition is not forgotten for a later success."""
        if code:
            self.outcomes[place] = error_for(code, f"{place}: {message}")
        else:
            self.outcomes.setdefault(place, None)

    def _failed(self, place: TopicPartition, error: RaykafkaError) -> None:
        if not error.retriable:
            self.error = type(error)(f"{place}: {error.message}")
            return
        self._retries.pause(place)
        if error.refresh_metadata:
            self._topics.refresh(place.topic)

    def _take(
        self,
        endpoint: Endpoint,
        place: TopicPartition,
        part: ShareFetchedPartition,
        fetched: FetchedPartition,
        payload: memoryview,
        projected: bool,
    ) -> None:
        """Decode what was acquired; what cannot be decoded is given back."""
        cut = self._cutter.cut(endpoint, fetched, payload)
        if cut is None or cut.last_header is None:
            error = None if cut is None else cut.error
            self._give_back(endpoint, place, part.acquired, error)
            return
        frame = FetchedFrame(
            place,
            part.topic_id,
            0,
            cut.messages,
            cut.costs,
            cut.last_header,
            cut.trusted,
            projected and fetched.mapped is None,
            None,
            cut.runs,
            cut.last_header.next_offset,
        )
        try:
            found = decode_acquired(
                self._topics.decoder(place.topic), frame, part.acquired, endpoint
            )
        except RaykafkaError as error:
            self._give_back(endpoint, place, part.acquired, error)
            return
        self.ready += found
        self.records += sum(rows.count for rows in found)

    def _give_back(
        self,
        endpoint: Endpoint,
        place: TopicPartition,
        acquired: Sequence[AcquiredRecords],
        error: RaykafkaError | None,
    ) -> None:
        batches = [
            AcknowledgementBatch(
                each.first_offset, each.last_offset, bytes([AcknowledgeType.RELEASE])
            )
            for each in acquired
        ]
        self._send_acknowledge(endpoint, {place: batches})
        if error is not None and not isinstance(error, CorruptMessageError):
            self._failed(place, error)
        elif error is not None:
            self.error = type(error)(f"{place}: {error.message}; its records were given back")
