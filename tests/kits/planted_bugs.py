"""Bugs that are planted on purpose, one at a time, to see whether the simulator finds them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

from raykafka.actors.replicas.following import FollowedPartition
from raykafka.actors.replicas.lease import Lease
from raykafka.controller import isr as isr_commands
from raykafka.replication.leader import ReplicaMachine
from raykafka.testing.simulation.scenario import Result, run_seed


class Planted(NamedTuple):
    """What is replaced while the bug is there."""

    name: str
    patches: tuple[Any, ...]


def _answer_at_once(machine: ReplicaMachine, end_offset: int, *_: Any, **__: Any) -> bool:
    machine.log_end_offset = max(machine.log_end_offset, end_offset)
    return True


_open = FollowedPartition._open


def _cut_to_high_watermark(followed: FollowedPartition) -> None:
    """As Kafka did before KIP-101: what is not known to be committed is cut, then copied again."""
    replica = followed.replica
    if not followed.ended and replica.log.log_end_offset > replica.high_watermark:
        replica.log.truncate_to(replica.high_watermark)
        replica.on_cut(now_ms=0)
    _open(followed)


def _never_refuse(*_: Any, **__: Any) -> None:
    """Every epoch is fine."""


def _check_acks_only(machine: ReplicaMachine, acks: int, leader_epoch: int) -> None:
    machine.check_epoch(leader_epoch)


ACK_BEFORE_COMMIT = Planted(
    "ack before commit", (mock.patch.object(ReplicaMachine, "on_appended", _answer_at_once),)
)
TRUNCATION_BY_HIGH_WATERMARK = Planted(
    "truncation by high watermark",
    (mock.patch.object(FollowedPartition, "_open", _cut_to_high_watermark),),
)
MISSING_EPOCH_CHECK = Planted(
    "missing epoch check", (mock.patch.object(isr_commands, "_check", _never_refuse),)
)
ACKS_BELOW_MINIMUM = Planted(
    "ISR below its minimum still acks",
    (
        mock.patch.object(ReplicaMachine, "check_produce", _check_acks_only),
        mock.patch.object(ReplicaMachine, "_under_min_isr", return_value=False),
        mock.patch.object(ReplicaMachine, "_shortage", return_value=None),
    ),
)
STALE_LEADER_SERVES_READS = Planted(
    "stale leader serves reads", (mock.patch.object(Lease, "check", _never_refuse),)
)
PLANTED = (
    ACK_BEFORE_COMMIT,
    TRUNCATION_BY_HIGH_WATERMARK,
    MISSING_EPOCH_CHECK,
    ACKS_BELOW_MINIMUM,
    STALE_LEADER_SERVES_READS,
)


def find(planted: Planted, first: int, seeds: int) -> Result | None:
    """The first result with a violation among the seeds, or None."""
    with _planted(planted):
        for seed in range(first, first + seeds):
            result = run_seed(seed)
            if result.violations:
                return result
    return None


@contextlib.contextmanager
def _planted(planted: Planted) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for patch in planted.patches:
            stack.enter_context(patch)
        yield
