"""One partition led here as one share group sees it: its machine, who waits for it, its timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from raykafka.actors.replicas.replica import Replica
from raykafka.clock import Clock
from raykafka.config.share_group import ShareGroupConfig
from raykafka.errors import RaykafkaError
from raykafka.model import IsolationLevel
from raykafka.share.partition import SharePartition
from raykafka.share.state import StateBatch
from raykafka.share.values import DeadLetter, ShareLimits

_NOBODY_WAITS = 1 << 62
"""An offset that no high watermark reaches: only the end of leadership is told then."""


class Waiting(Protocol):
    """A fetch that waits for records of some partitions."""

    def wake(self) -> None:
        """Look again; it may be in vain."""


class Owner(Protocol):
    """Who keeps shared partitions, and does what takes time."""

    def on_changed(self, shared: SharedPartition) -> None:
        """There are changes to write."""

    def on_dead_letters(self, shared: SharedPartition, letters: list[DeadLetter]) -> None:
        """Records are to be written to the dead-letter topic."""

    def on_gone(self, shared: SharedPartition, error: RaykafkaError) -> None:
        """The partition is not led here any more."""


class Loaded:
    """What a share partition is made of: the coordinator's answer."""

    __slots__ = ("batches", "config", "config_epoch", "start_offset", "state_epoch")

    def __init__(
        self,
        state_epoch: int,
        start_offset: int,
        batches: list[StateBatch],
        config: ShareGroupConfig,
        config_epoch: int,
    ) -> None:
        self.state_epoch = state_epoch
        self.start_offset = start_offset
        self.batches = batches
        self.config = config
        self.config_epoch = config_epoch


class SharedPartition:
    """A share partition and whoever waits for it; a ``Waiter`` of its replica all the time."""

    def __init__(
        self,
        group_id: str,
        replica: Replica,
        loaded: Loaded,
        owner: Owner,
        clock: Clock,
    ) -> None:
        self.group_id = group_id
        self.replica = replica
        self.leader_epoch = replica.leader_epoch
        self.state_epoch = loaded.state_epoch
        self.config = loaded.config
        self.config_epoch = loaded.config_epoch
        self.committed = _committed(loaded.config)
        """``Waiter``: whether records of open transactions are waited out."""
        self.gone: RaykafkaError | None = None
        """Why it is no longer served here."""
        self.users: set[str] = set()
        """Members that have asked for records, each with its connection."""
        self.dead_letters = 0
        """Dead letters that are being written."""
        self._owner = owner
        self._clock = clock
        self._waiting: dict[Waiting, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0
        self.machine = SharePartition(limits_of(loaded.config), loaded.start_offset, loaded.batches)
        replica.waiters[self] = _NOBODY_WAITS

    @property
    def name(self) -> str:
        """Group, topic and partition, for messages."""
        return f"{self.replica.topic}-{self.replica.partition.partition} of {self.group_id}"

    def configure(self, config: ShareGroupConfig, config_epoch: int) -> None:
        """The group's settings have changed; leases that were given stay as they are."""
        self.config, self.config_epoch = config, config_epoch
        self.committed = _committed(config)
        self.machine.limits = limits_of(config)

    def now_ms(self) -> int:
        """Monotonic."""
        return self._clock.monotonic_ms()

    @property
    def readable_end(self) -> int:
        """Where what the group may read ends now."""
        return self.replica.readable_end(int(self.config.share_isolation_level))

    # --- waiting ----------------------------------------------------------------------------------

    def wait(self, waiting: Waiting) -> None:
        """Wake ``waiting``, after those who came before, when there may be a record for it."""
        self._waiting[waiting] = None
        self.replica.waiters[self] = self.machine.end_offset

    def leave(self, waiting: Waiting) -> None:
        """Wake ``waiting`` no more."""
        self._waiting.pop(waiting, None)
        if not self._waiting and self.gone is None:
            self.replica.waiters[self] = _NOBODY_WAITS

    def wake_next(self) -> None:
        """Wake whoever has waited longest, if there may be something; they pass it on."""
        if not self._waiting or self.gone is not None:
            return
        first = self.machine.first_acquirable()
        if first is None or first >= self.readable_end:
            self.replica.waiters[self] = self.machine.end_offset
            return
        waiting = next(iter(self._waiting))
        del self._waiting[waiting]
        if not self._waiting:
            self.replica.waiters[self] = _NOBODY_WAITS
        waiting.wake()

    def on_committed(self, replica: Replica) -> None:
        """``Waiter``: there are new records."""
        replica.waiters[self] = _NOBODY_WAITS
        self.wake_next()

    def on_gone(self, replica: Replica, error: RaykafkaError) -> None:
        """``Waiter``: the replica leads no more."""
        self._owner.on_gone(self, error)

    # --- changes ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Do what a change of the machine asks for; call it after every one."""
        machine = self.machine
        letters = machine.take_dead_letters()
        if letters:
            self._owner.on_dead_letters(self, letters)
        if machine.has_changes:
            self._owner.on_changed(self)
        self._set_timer()
        self.wake_next()

    def close(self, error: RaykafkaError) -> None:
        """Serve nobody any more; whoever waits looks again and meets ``error``."""
        self.gone = error
        self.replica.waiters.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = list(self._waiting), {}
        for each in waiting:
            each.wake()

    def _set_timer(self) -> None:
        deadline_ms = self.machine.next_deadline_ms
        if deadline_ms is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None:
            if self._timer_at_ms <= deadline_ms:
                return  # it comes early at worst, and is set again then
            self._timer.cancel()
        self._timer_at_ms = deadline_ms
        delay_s = max(0, deadline_ms - self.now_ms()) / 1000
        on_time: Callable[[], None] = self._on_time
        self._timer = asyncio.get_running_loop().call_later(delay_s, on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.machine.on_tick(now_ms=self.now_ms())
        self.settle()


def _committed(config: ShareGroupConfig) -> bool:
    return config.share_isolation_level is IsolationLevel.READ_COMMITTED


def limits_of(config: ShareGroupConfig) -> ShareLimits:
    """The part of a group's settings that the machine goes by."""
    return ShareLimits(
        config.share_record_lock_duration_ms,
        config.share_delivery_count_limit,
        config.share_partition_max_record_locks,
        bool(config.errors_deadletterqueue_topic_name),
    )
