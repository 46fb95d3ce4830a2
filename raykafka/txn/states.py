"""The states of a transactional id, and which follow which (KIP-98, KIP-890, KIP-939)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class TransactionStatus(str, enum.Enum):
    """Kafka's states, with ``Prepared`` for the first phase of a commit in two phases."""

    EMPTY = "Empty"
    """The producer has its id and epoch, and no transaction yet."""
    ONGOING = "Ongoing"
    """A partition or more belong to an open transaction."""
    PREPARED = "Prepared"
    """The transaction waits for its end without a timeout (KIP-939)."""
    PREPARE_COMMIT = "PrepareCommit"
    """The decision is made; the markers are being written."""
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    """Every marker is written."""
    COMPLETE_ABORT = "CompleteAbort"
    DEAD = "Dead"
    """The id has been forgotten."""


_S = TransactionStatus

TRANSITIONS: Final[Mapping[TransactionStatus, frozenset[TransactionStatus]]] = {
    # An abort of nothing ends what may still be under way to a partition (KIP-890).
    _S.EMPTY: frozenset({_S.EMPTY, _S.ONGOING, _S.PREPARED, _S.PREPARE_ABORT, _S.DEAD}),
    _S.ONGOING: frozenset({_S.ONGOING, _S.PREPARED, _S.PREPARE_COMMIT, _S.PREPARE_ABORT}),
    _S.PREPARED: frozenset({_S.PREPARED, _S.PREPARE_COMMIT, _S.PREPARE_ABORT}),
    _S.PREPARE_COMMIT: frozenset({_S.COMPLETE_COMMIT}),
    _S.PREPARE_ABORT: frozenset({_S.COMPLETE_ABORT}),
    _S.COMPLETE_COMMIT: frozenset(
        {_S.EMPTY, _S.ONGOING, _S.PREPARED, _S.PREPARE_ABORT, _S.DEAD},
    ),
    _S.COMPLETE_ABORT: frozenset(
        {_S.EMPTY, _S.ONGOING, _S.PREPARED, _S.PREPARE_ABORT, _S.DEAD},
    ),
    _S.DEAD: frozenset(),
}
"""What may follow each state; total."""

OPEN: Final = frozenset({_S.ONGOING, _S.PREPARED})
"""A transaction waits for its decision."""
DECIDED: Final = frozenset({_S.PREPARE_COMMIT, _S.PREPARE_ABORT})
"""Markers are owed."""
IDLE: Final = frozenset({_S.EMPTY, _S.COMPLETE_COMMIT, _S.COMPLETE_ABORT})
"""Nothing is open: a transaction may begin, and the id may be forgotten in time."""

COMPLETED: Final[Mapping[TransactionStatus, TransactionStatus]] = {
    _S.PREPARE_COMMIT: _S.COMPLETE_COMMIT,
    _S.PREPARE_ABORT: _S.COMPLETE_ABORT,
}
"""Where a decision leads once all markers are written."""
