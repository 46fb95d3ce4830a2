"""Writes the markers that end transactions, and tries again until all of them stand.

Rules:
- A marker may be written any number of times: a partition that has it already says that it is done.
- A topic that has been deleted needs none.
- Those for one listener that come up in the same turn of the loop share a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, NamedTuple

from raykafka.actors.peers import Peers
from raykafka.clock import Clock
from raykafka.errors import (
    InvalidProducerEpochError,
    RaykafkaError,
    UnknownServerError,
    error_for,
    raise_for,
)
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.txn_messages import (
    TxnMarker,
    TxnPartition,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from raykafka.txn.commands import Markers

logger = logging.getLogger(__name__)

_TIMEOUT_S: Final = 2.0
"""For one request: by then the metadata may know another leader."""
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_GONE_AFTER_MS: Final = 2000
"""How long a topic must be missing from the metadata before it counts as deleted: longer than a
controller can be wrong about being the active one."""
_MAX_PARTITIONS: Final = 2000
"""Of one request."""

_Failure = RaykafkaError | None
_Place = tuple[str, int]


class _Sending(NamedTuple):
    marker: TxnMarker
    failures: asyncio.Future[dict[_Place, _Failure]]


class MarkerWriter:
    """One per partition actor; everything on its loop."""

    def __init__(self, peers: Peers, clock: Clock) -> None:
        self._peers = peers
        self._clock = clock
        self._queued: dict[Endpoint, list[_Sending]] = {}
        self._requests: set[asyncio.Task[None]] = set()

    async def write(self, markers: Markers) -> None:
        """Return when every partition has its marker, however long that takes."""
        left = [
            TxnPartition(topic.topic, topic.topic_id, partition)
            for topic in markers.topics
            for partition in topic.partitions
        ]
        pause_s = _FIRST_PAUSE_S
        missing_since: dict[str, int] = {}
        while left:
            left = await self._attempt(markers, left)
            if not left:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if await self._refresh():
                left = self._existing(left, missing_since)

    async def _attempt(self, markers: Markers, left: list[TxnPartition]) -> list[TxnPartition]:
        """Write to every leader that is known; returns the partitions that need another try."""
        places: dict[Endpoint, list[TxnPartition]] = {}
        again: list[TxnPartition] = []
        for partition in left:
            endpoint = self._leader(partition)
            if endpoint is None:
                again.append(partition)
            else:
                places.setdefault(endpoint, []).append(partition)
        sent = []
        for endpoint, partitions in places.items():
            for start in range(0, len(partitions), _MAX_PARTITIONS):
                part = partitions[start : start + _MAX_PARTITIONS]
                sent.append((part, self._send(endpoint, markers, part)))
        for part, future in sent:
            failures = await future
            for partition in part:
                error = failures.get((partition.topic_id, partition.partition), _NO_ANSWER)
                if error is not None and not isinstance(error, InvalidProducerEpochError):
                    logger.info(
                        "marker of %s for %s-%d: %s",
                        markers.transactional_id,
                        partition.topic,
                        partition.partition,
                        error,
                    )
                    again.append(partition)
        return again

    def _leader(self, partition: TxnPartition) -> Endpoint | None:
        topic = self._peers.view.topics.get(partition.topic)
        if topic is None or topic.topic_id != partition.topic_id:
            return None
        return self._peers.view.leader(partition.topic, partition.partition)

    def _existing(
        self, left: list[TxnPartition], missing_since: dict[str, int]
    ) -> list[TxnPartition]:
        """Those whose topic has not been deleted, as far as the metadata tell."""
        now_ms = self._clock.monotonic_ms()
        topics = self._peers.view.topics
        for partition in left:
            topic = topics.get(partition.topic)
            if topic is not None and topic.topic_id == partition.topic_id:
                missing_since.pop(partition.topic_id, None)
            else:
                missing_since.setdefault(partition.topic_id, now_ms)
        gone = {
            topic_id for topic_id, since in missing_since.items() if now_ms - since > _GONE_AFTER_MS
        }
        return [partition for partition in left if partition.topic_id not in gone]

    async def _refresh(self) -> bool:
        try:
            await self._peers.view.refresh()
        except RaykafkaError as error:
            logger.debug("no metadata: %s", error)
            return False
        return True

    # --- requests ---------------------------------------------------------------------------------

    def _send(
        self, endpoint: Endpoint, markers: Markers, partitions: list[TxnPartition]
    ) -> asyncio.Future[dict[_Place, _Failure]]:
        loop = asyncio.get_running_loop()
        queue = self._queued.get(endpoint)
        if queue is None:
            queue = self._queued[endpoint] = []
            loop.call_soon(self._flush, endpoint)
        marker = TxnMarker(
            markers.transaction.producer_id, markers.marker_epoch, markers.commit, partitions
        )
        sending = _Sending(marker, loop.create_future())
        queue.append(sending)
        return sending.failures

    def _flush(self, endpoint: Endpoint) -> None:
        task = asyncio.ensure_future(self._request(endpoint, self._queued.pop(endpoint)))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _request(self, endpoint: Endpoint, sendings: list[_Sending]) -> None:
        request = WriteTxnMarkersRequest([sending.marker for sending in sendings])
        outcomes: dict[int, dict[_Place, _Failure]] = {}
        failure: RaykafkaError | None = None
        try:
            answer = await self._peers.call(
                endpoint, ApiKey.WRITE_TXN_MARKERS, request, timeout_s=_TIMEOUT_S
            )
            assert isinstance(answer, WriteTxnMarkersResponse)
            raise_for(answer.error_code, answer.error_message)
            for one in answer.partitions:
                error = error_for(one.error_code, one.error_message) if one.error_code else None
                places = outcomes.setdefault(one.producer_id, {})
                places[one.topic_id, one.partition] = error
        except RaykafkaError as error:
            failure = error
        finally:
            for marker, future in sendings:
                if future.done():
                    continue
                if failure is not None:
                    future.set_result(_all_failed(marker.partitions, failure))
                else:
                    future.set_result(outcomes.get(marker.producer_id, {}))


_NO_ANSWER: Final = UnknownServerError("the leader's answer says nothing of the partition")


def _all_failed(partitions: Iterable[TxnPartition], error: RaykafkaError) -> dict[_Place, _Failure]:
    return {(partition.topic_id, partition.partition): error for partition in partitions}
