"""Reads a coordinator's log back into its machine; waits until all of that is committed."""

from __future__ import annotations

import asyncio
from typing import Final

from raykafka.actors.coordinating.machine import CoordinatorMachine
from raykafka.actors.replicas.replica import Replica
from raykafka.errors import LogDamagedError, RaykafkaError
from raykafka.log.batch import decode_batch
from raykafka.log.batch_header import Message, read_header
from raykafka.log.schema import UNTYPED_SCHEMA
from raykafka.storage.partition_log import PartitionLog

_SLICE_BYTES: Final = 256 << 10
"""What is read before others on the loop have their turn."""


async def replay_log(log: PartitionLog, machine: CoordinatorMachine) -> int:
    """Replay everything in ``log``; returns the offset after the last record.

    Nobody may append meanwhile. Raises ``LogDamagedError``, ``CorruptMessageError``.
    """
    loop = asyncio.get_running_loop()
    offset, end = log.log_start_offset, log.log_end_offset
    while offset < end:
        load = log.cold(offset, max_bytes=_SLICE_BYTES, up_to=end)
        if load is not None:
            await loop.run_in_executor(None, load)
        messages = log.read(offset, max_bytes=_SLICE_BYTES, up_to=end)
        if not messages:
            raise LogDamagedError(f"no batch from {offset} to {end} is in the log")
        for message in messages:
            offset = _replay_batch(message, machine)
        await asyncio.sleep(0)
    return end


def _replay_batch(message: Message, machine: CoordinatorMachine) -> int:
    header = read_header(message)
    if not header.is_control:
        batch = decode_batch(message, UNTYPED_SCHEMA, columns=["__key", "value"])
        keys = batch.column("__key").to_pylist()
        values = batch.column("value").to_pylist()
        machine.replay(
            [
                machine.decode(key, value)
                for key, value in zip(keys, values, strict=True)
                if key is not None
            ]
        )
    return header.next_offset


class HighWatermarkWaiter:
    """A ``Waiter`` that only wants to know."""

    committed = False

    def __init__(self) -> None:
        self.moved = asyncio.Event()

    def on_committed(self, replica: Replica) -> None:
        """See ``Waiter``."""
        replica.waiters.pop(self, None)
        self.moved.set()

    def on_gone(self, replica: Replica, error: RaykafkaError) -> None:
        """See ``Waiter``; whoever waits looks at the role."""
        self.moved.set()
