"""What is under way: batches for one partition, and the groups of records they were cut from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from raykafka.client.producing.futures import Callbacks
from raykafka.errors import RaykafkaError
from raykafka.log.batch import EncodedBatch
from raykafka.log.small_batch import SmallRecords
from raykafka.model import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE

Records: TypeAlias = "pa.RecordBatch | SmallRecords"


class Driver(Protocol):
    """Whoever gets groups delivered: the sender."""

    callbacks: Callbacks

    def wait_for(
        self, settled: Callable[[], bool], timeout_s: float | None, group: Group | None
    ) -> bool:
        """Do the I/O, or wait for who does, until ``settled()``; False when the time is up."""

    def expect_answer(self) -> None:
        """A callback waits for an answer that is on its way: look for it. Must not block."""


class Delivery:
    """One batch on its way to one partition. Owned by whoever holds the sender's turn."""

    __slots__ = (
        "append_time_ms",
        "attempts",
        "base_offset",
        "base_sequence",
        "batch",
        "count",
        "created_ms",
        "done",
        "encoded",
        "error",
        "group",
        "max_timestamp",
        "ordinal",
        "outstanding",
        "partition",
        "producer_epoch",
        "producer_id",
        "schema_id",
        "sent_ms",
        "topic",
    )

    def __init__(
        self, group: Group, topic: str, partition: int, batch: Records, schema_id: int
    ) -> None:
        self.group: Group | None = group
        """None once it is settled: a group and its deliveries must not keep each other alive, or
        every batch is left to the garbage collector, whose pauses producers would feel."""
        self.topic = topic
        self.partition = partition
        self.batch: Records | None = batch
        """Records in the storage schema; dropped when the fate of the batch is known."""
        self.schema_id = schema_id
        self.count: int = batch.num_rows
        self.created_ms = group.created_ms
        self.producer_id = int(NO_PRODUCER_ID)
        self.producer_epoch = int(NO_PRODUCER_EPOCH)
        self.base_sequence = NO_SEQUENCE
        self.encoded: EncodedBatch | None = None
        self.attempts = 0
        self.ordinal = -1
        """Counts the batches of a partition in the order in which they were first sent."""
        self.outstanding = False
        """Sent, and neither answered nor lost with its connection."""
        self.sent_ms = 0
        self.base_offset = -1
        self.append_time_ms = -1
        self.max_timestamp = -1
        """Of its records, as readers see it; known once it has been encoded."""
        self.error: RaykafkaError | None = None
        self.done = False

    def settle(self, error: RaykafkaError | None = None) -> None:
        """The fate is known; ``base_offset`` and ``append_time_ms`` are set if it is a good one."""
        self.error = error
        self.batch = None
        self.encoded = None
        self.group = None
        self.done = True


class Group(ABC):
    """Records that were handed over together: their deliveries, and who waits for them."""

    __slots__ = ("callbacks", "created_ms", "deliveries", "driver", "pending", "size", "topic")

    def __init__(self, driver: Driver, topic: str, created_ms: int) -> None:
        self.driver = driver
        self.topic = topic
        self.created_ms = created_ms
        """Monotonic time of the first record."""
        self.size = 0
        """Bytes that it holds of ``buffer_memory``."""
        self.deliveries: Sequence[Delivery] | None = None
        """None until it has been cut into batches."""
        self.pending = 0
        self.callbacks: list[tuple[int, Callable[[], None]]] | None = None

    def complete(self) -> bool:
        """Whether the fate of every record is known."""
        return self.deliveries is not None and self.pending == 0

    @abstractmethod
    def settled(self, index: int) -> bool:
        """Whether the fate of one result is known."""

    @abstractmethod
    def error(self, index: int) -> RaykafkaError | None:
        """Why a settled result failed, if it has."""

    @abstractmethod
    def result(self, index: int) -> Any:
        """What a settled result without error became."""

    @abstractmethod
    def fail(self, error: RaykafkaError) -> None:
        """Nothing of it was or will be sent; only for a group that has not been cut yet."""

    def wait(self, index: int, timeout_s: float | None) -> bool:
        """See ``futures.Group``."""
        return self.driver.wait_for(partial(self.settled, index), timeout_s, self)

    def subscribe(self, index: int, callback: Callable[[], None]) -> bool:
        """See ``futures.Group``."""
        waits = self.driver.callbacks.add(self, index, callback)
        if waits and self.deliveries is not None:
            self.driver.expect_answer()
        return waits
