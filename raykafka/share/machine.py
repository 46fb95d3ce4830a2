"""The share coordinator's machine: the state of every share partition of the groups it looks after.

It keeps what leaders write, fences those whose epoch is over, and knows nothing of members. A
group belongs to one partition of ``__share_group_state``, so that a leader writes all of its share
partitions of the group at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import singledispatchmethod
from typing import NamedTuple

from raykafka.errors import (
    FencedLeaderEpochError,
    FencedStateEpochError,
    GroupIdNotFoundError,
    InvalidRequestError,
    RaykafkaError,
)
from raykafka.share import records
from raykafka.share.commands import (
    AlterOffsets,
    Command,
    ConfigureGroup,
    DeleteState,
    DescribeOffsets,
    GroupAnswer,
    Initialize,
    Outcome,
    PartitionState,
    PartitionWrite,
    Place,
    ReadState,
    WriteState,
)
from raykafka.share.records import (
    AnyRecord,
    ShareGroupConfigured,
    ShareSnapshot,
    ShareStateDeleted,
)
from raykafka.share.state import UNINITIALIZED, ShareState, StateBatch


class _Settings(NamedTuple):
    epoch: int = 0
    configs: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed


class ShareCoordinator:
    """``handle`` decides, ``replay`` changes; times do not matter to it."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[Place, ShareState]] = {}
        self._settings: dict[str, _Settings] = {}

    def handle(self, command: Command, *, now_ms: int, monotonic_ms: int) -> Outcome:
        """Records and answer of one command; raises what refuses it as a whole."""
        outcome: Outcome = self._handle(command)
        return outcome

    def replay(self, committed: Iterable[AnyRecord]) -> None:
        """Take over what the log says; the only way that anything changes."""
        for record in committed:
            if isinstance(record, ShareGroupConfigured):
                self._replay_settings(record)
                continue
            group = self._groups.setdefault(record.group_id, {})
            place = Place(record.topic_id, record.partition)
            if isinstance(record, ShareSnapshot):
                group[place] = ShareState(
                    record.state_epoch, record.leader_epoch, record.start_offset, record.batches
                )
            else:
                group.pop(place, None)
            if not group:
                del self._groups[record.group_id]

    def on_tick(self, *, now_ms: int, monotonic_ms: int) -> Outcome:
        """Nothing expires here: groups are forgotten when they are deleted."""
        return Outcome((), None)

    def on_loaded(self, *, now_ms: int, monotonic_ms: int) -> None:
        """There are no timers to start."""

    def snapshot(self) -> list[AnyRecord]:
        """Records that make an empty machine equal to this one."""
        made: list[AnyRecord] = [
            ShareGroupConfigured(group_id, settings.epoch, settings.configs)
            for group_id, settings in self._settings.items()
        ]
        for group_id, group in self._groups.items():
            made += [_snapshot_of(group_id, place, state) for place, state in group.items()]
        return made

    def encode(self, record: AnyRecord) -> tuple[bytes, bytes | None]:
        """Key and value in the log."""
        return records.encode(record)

    def decode(self, key: bytes, value: bytes | None) -> AnyRecord:
        """The record of key and value."""
        return records.decode(key, value)

    # --- commands ---------------------------------------------------------------------------------

    @singledispatchmethod
    def _handle(self, command: object) -> Outcome:
        raise InvalidRequestError(f"the share coordinator does not know {type(command).__name__}")

    @_handle.register
    def _initialize(self, command: Initialize) -> Outcome:
        made: list[AnyRecord] = []
        results = []
        for place, start in command.start_offsets.items():
            state = self._find(command.group_id, place)
            if state is None or state.start_offset == UNINITIALIZED:
                epochs = (0, -1) if state is None else (state.state_epoch, state.leader_epoch)
                snapshot = ShareSnapshot(command.group_id, *place, *epochs, start)
                made.append(snapshot)
                results.append(PartitionState(place, None, *epochs, start))
            else:
                results.append(_known(place, state))
        return Outcome(made, self._answer(command.group_id, results))

    @_handle.register
    def _read(self, command: ReadState) -> Outcome:
        made: list[AnyRecord] = []
        results = []
        for place, leader_epoch in command.leader_epochs.items():
            state = self._find(command.group_id, place)
            if state is None:
                results.append(PartitionState(place))
            elif leader_epoch < state.leader_epoch:
                results.append(PartitionState(place, _deposed(leader_epoch, state)))
            else:
                if leader_epoch > state.leader_epoch:
                    made.append(_written(command.group_id, place, state, leader_epoch))
                results.append(_known(place, state))
        return Outcome(made, self._answer(command.group_id, results))

    @_handle.register
    def _write(self, command: WriteState) -> Outcome:
        made: list[AnyRecord] = []
        results = []
        for place, write in command.writes.items():
            state = self._find(command.group_id, place)
            error = _refusal(state, write)
            if state is not None and error is None:
                changed = (write.start_offset, write.batches)
                made.append(_written(command.group_id, place, state, write.leader_epoch, *changed))
            results.append(PartitionState(place, error))
        answer = self._answer(command.group_id, results)
        if answer.config_epoch == command.config_epoch:
            answer = answer._replace(configs={})
        return Outcome(made, answer)

    @_handle.register
    def _delete(self, command: DeleteState) -> Outcome:
        group = self._groups.get(command.group_id, {})
        made: list[AnyRecord] = [
            ShareStateDeleted(command.group_id, *place)
            for place in (group if command.places is None else command.places)
            if place in group
        ]
        results = [PartitionState(place) for place in command.places or group]
        if command.places is None:
            if not group and command.group_id not in self._settings:
                raise GroupIdNotFoundError(f"nothing is known of share group {command.group_id!r}")
            if command.group_id in self._settings:
                made.append(ShareGroupConfigured(command.group_id))
        return Outcome(made, GroupAnswer(results))

    @_handle.register
    def _alter(self, command: AlterOffsets) -> Outcome:
        made: list[AnyRecord] = []
        results = []
        for place, start in command.start_offsets.items():
            if start < 0:
                error = InvalidRequestError(f"an offset is an integer from 0, not {start}")
                results.append(PartitionState(place, error))
                continue
            state = self._find(command.group_id, place)
            epochs = (0, -1) if state is None else (state.state_epoch + 1, state.leader_epoch)
            made.append(ShareSnapshot(command.group_id, *place, *epochs, start))
            results.append(PartitionState(place, None, *epochs, start))
        return Outcome(made, self._answer(command.group_id, results))

    @_handle.register
    def _describe(self, command: DescribeOffsets) -> Outcome:
        group = self._groups.get(command.group_id, {})
        results = [_known(place, state) for place, state in sorted(group.items(), key=_place_of)]
        return Outcome((), self._answer(command.group_id, results))

    @_handle.register
    def _configure(self, command: ConfigureGroup) -> Outcome:
        settings = self._settings.get(command.group_id, _Settings())
        merged = {**settings.configs, **command.changes}
        configs = {name: value for name, value in merged.items() if value is not None}
        record = ShareGroupConfigured(command.group_id, settings.epoch + 1, configs)
        return Outcome([record], GroupAnswer((), record.epoch, configs))

    # --- inside -----------------------------------------------------------------------------------

    def _find(self, group_id: str, place: Place) -> ShareState | None:
        return self._groups.get(group_id, {}).get(place)

    def _answer(self, group_id: str, results: Sequence[PartitionState]) -> GroupAnswer:
        settings = self._settings.get(group_id, _Settings())
        return GroupAnswer(results, settings.epoch, settings.configs)

    def _replay_settings(self, record: ShareGroupConfigured) -> None:
        if record.epoch:
            self._settings[record.group_id] = _Settings(record.epoch, record.configs)
        else:
            self._settings.pop(record.group_id, None)


def _place_of(item: tuple[Place, ShareState]) -> Place:
    return item[0]


def _refusal(state: ShareState | None, write: PartitionWrite) -> RaykafkaError | None:
    if state is None:
        return FencedStateEpochError("the share partition is not known (any more); read it")
    if write.leader_epoch < state.leader_epoch:
        return _deposed(write.leader_epoch, state)
    if write.state_epoch != state.state_epoch:
        return FencedStateEpochError(
            f"state epoch {write.state_epoch} is not the current one, {state.state_epoch}: the "
            "offsets have been reset; read the state again"
        )
    return None


def _written(
    group_id: str,
    place: Place,
    state: ShareState,
    leader_epoch: int,
    start_offset: int = UNINITIALIZED,
    batches: Sequence[StateBatch] = (),
) -> ShareSnapshot:
    """The state as a write would leave it; the one that is known stays as it is."""
    after = ShareState(state.state_epoch, state.leader_epoch, state.start_offset, state.batches)
    after.write(leader_epoch, start_offset, batches)
    return _snapshot_of(group_id, place, after)


def _known(place: Place, state: ShareState) -> PartitionState:
    return PartitionState(
        place,
        None,
        state.state_epoch,
        state.leader_epoch,
        state.start_offset,
        state.batches,
        state.in_flight,
    )


def _snapshot_of(group_id: str, place: Place, state: ShareState) -> ShareSnapshot:
    return ShareSnapshot(
        group_id,
        *place,
        state.state_epoch,
        state.leader_epoch,
        state.start_offset,
        state.batches,
    )


def _deposed(leader_epoch: int, state: ShareState) -> FencedLeaderEpochError:
    return FencedLeaderEpochError(
        f"leader epoch {leader_epoch} is over: one of epoch {state.leader_epoch} has taken over"
    )
