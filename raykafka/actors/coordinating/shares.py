"""Share coordinators: requests of leaders and administrators become commands of the machine.

The machine knows nothing of members. What must not happen under their feet is refused here while
the group coordinator says that there are any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from raykafka.actors.coordinating.kind import CoordinatorContext, ServiceKind
from raykafka.actors.coordinating.service import HostedService
from raykafka.config.share_group import SHARE_GROUP
from raykafka.errors import (
    InvalidConfigError,
    InvalidGroupIdError,
    InvalidRequestError,
    NonEmptyGroupError,
    RaykafkaError,
)
from raykafka.internal_topics import (
    CONSUMER_OFFSETS,
    INTERNAL_TOPICS,
    SHARE_GROUP_STATE,
    coordinator_partition,
)
from raykafka.protocol.group_messages import DescribeGroupsRequest, DescribeGroupsResponse
from raykafka.protocol.messages import ApiKey, ConfigChange
from raykafka.protocol.share_messages import (
    AlterShareGroupConfigsRequest,
    AlterShareGroupConfigsResponse,
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsResponse,
    DeleteShareGroupStateRequest,
    DeleteShareGroupStateResponse,
    DescribedShareOffset,
    DescribeShareGroupConfigsRequest,
    DescribeShareGroupConfigsResponse,
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsResponse,
    InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse,
    InitialShareState,
    ReadShareGroupStateRequest,
    ReadShareGroupStateResponse,
    ShareStateResult,
    WriteShareGroupStateRequest,
    WriteShareGroupStateResponse,
)
from raykafka.share.commands import (
    AlterOffsets,
    Command,
    ConfigureGroup,
    DeleteState,
    DescribeOffsets,
    GroupAnswer,
    Initialize,
    PartitionState,
    PartitionWrite,
    Place,
    ReadState,
    WriteState,
)
from raykafka.share.machine import ShareCoordinator

_TIMEOUT_S: Final = 5.0
_SHARE: Final = "share"
_DEAD_LETTERS: Final = "errors.deadletterqueue.topic.name"


def shares(context: CoordinatorContext) -> ServiceKind:
    """The kind of ``__share_group_state``."""
    handlers = _Handlers(context)
    return ServiceKind(
        SHARE_GROUP_STATE,
        ShareCoordinator,
        {
            ApiKey.INITIALIZE_SHARE_GROUP_STATE: _initialize,
            ApiKey.READ_SHARE_GROUP_STATE: _read,
            ApiKey.WRITE_SHARE_GROUP_STATE: _write,
            ApiKey.DELETE_SHARE_GROUP_STATE: handlers.delete,
            ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS: _describe_offsets,
            ApiKey.ALTER_SHARE_GROUP_OFFSETS: handlers.alter_offsets,
            ApiKey.DESCRIBE_SHARE_GROUP_CONFIGS: _describe_configs,
            ApiKey.ALTER_SHARE_GROUP_CONFIGS: _alter_configs,
        },
    )


# --- leaders --------------------------------------------------------------------------------------


async def _initialize(
    service: HostedService, request: InitializeShareGroupStateRequest
) -> InitializeShareGroupStateResponse:
    answer = await _submit(service, Initialize(_group(request), _starts(request.states)))
    return InitializeShareGroupStateResponse(
        _results(answer), answer.config_epoch, dict(answer.configs)
    )


async def _read(
    service: HostedService, request: ReadShareGroupStateRequest
) -> ReadShareGroupStateResponse:
    epochs = {Place(each.topic_id, each.partition): each.leader_epoch for each in request.states}
    answer = await _submit(service, ReadState(_group(request), epochs))
    return ReadShareGroupStateResponse(_results(answer), answer.config_epoch, dict(answer.configs))


async def _write(
    service: HostedService, request: WriteShareGroupStateRequest
) -> WriteShareGroupStateResponse:
    writes = {
        Place(each.topic_id, each.partition): PartitionWrite(
            each.state_epoch, each.leader_epoch, each.start_offset, each.batches
        )
        for each in request.states
    }
    answer = await _submit(service, WriteState(_group(request), writes, request.config_epoch))
    return WriteShareGroupStateResponse(_results(answer), answer.config_epoch, dict(answer.configs))


# --- administrators -------------------------------------------------------------------------------


class _Handlers:
    """Those that ask the group coordinator first."""

    def __init__(self, context: CoordinatorContext) -> None:
        self._peers = context.peers

    async def alter_offsets(
        self, service: HostedService, request: AlterShareGroupOffsetsRequest
    ) -> AlterShareGroupOffsetsResponse:
        """Raises ``NonEmptyGroupError`` while the group has members."""
        await self._check_empty(_group(request))
        answer = await _submit(service, AlterOffsets(request.group_id, _starts(request.states)))
        return AlterShareGroupOffsetsResponse(_results(answer))

    async def delete(
        self, service: HostedService, request: DeleteShareGroupStateRequest
    ) -> DeleteShareGroupStateResponse:
        """Raises ``NonEmptyGroupError`` while the group has members, ``GroupIdNotFoundError``."""
        await self._check_empty(_group(request))
        states = request.states
        places = (
            None if states is None else [Place(each.topic_id, each.partition) for each in states]
        )
        answer = await _submit(service, DeleteState(request.group_id, places))
        return DeleteShareGroupStateResponse(_results(answer))

    async def _check_empty(self, group_id: str) -> None:
        view = self._peers.view
        if CONSUMER_OFFSETS not in view.topics:
            await view.refresh()
        topic = view.topics.get(CONSUMER_OFFSETS)
        if topic is None or not topic.partitions:
            return  # there has never been a group
        partition = coordinator_partition(group_id, len(topic.partitions))
        answer = await self._peers.call_leader(
            CONSUMER_OFFSETS,
            partition,
            ApiKey.DESCRIBE_GROUPS,
            DescribeGroupsRequest(partition, [group_id]),
            timeout_s=_TIMEOUT_S,
        )
        assert isinstance(answer, DescribeGroupsResponse)
        for group in answer.groups:
            if group.members:
                raise NonEmptyGroupError(
                    f"group {group_id!r} has {len(group.members)} members; stop them first"
                )
            if not group.error_code and group.type not in ("", _SHARE):
                raise InvalidGroupIdError(f"{group_id!r} is a {group.type} group, no share group")


async def _describe_offsets(
    service: HostedService, request: DescribeShareGroupOffsetsRequest
) -> DescribeShareGroupOffsetsResponse:
    answer = await _submit(service, DescribeOffsets(_group(request)))
    return DescribeShareGroupOffsetsResponse(
        [
            DescribedShareOffset(
                *state.place,
                state.start_offset,
                state.state_epoch,
                state.leader_epoch,
                state.in_flight,
            )
            for state in answer.partitions
        ]
    )


async def _describe_configs(
    service: HostedService, request: DescribeShareGroupConfigsRequest
) -> DescribeShareGroupConfigsResponse:
    answer = await _submit(service, DescribeOffsets(_group(request)))
    return DescribeShareGroupConfigsResponse(answer.config_epoch, dict(answer.configs))


async def _alter_configs(
    service: HostedService, request: AlterShareGroupConfigsRequest
) -> AlterShareGroupConfigsResponse:
    changes = {}
    for change in request.changes:
        name, value = _checked(change)
        changes[name] = value
    answer = await _submit(service, ConfigureGroup(_group(request), changes))
    return AlterShareGroupConfigsResponse(answer.config_epoch, dict(answer.configs))


# --- inside ---------------------------------------------------------------------------------------


async def _submit(service: HostedService, command: Command) -> GroupAnswer:
    answer: GroupAnswer = await service.submit(command)
    return answer


def _group(request: Any) -> str:
    group_id: str = request.group_id
    if not group_id:
        raise InvalidGroupIdError("a share group has a name")
    return group_id


def _starts(states: list[InitialShareState]) -> Mapping[Place, int]:
    return {Place(each.topic_id, each.partition): each.start_offset for each in states}


def _results(answer: GroupAnswer) -> list[ShareStateResult]:
    return [_result(state) for state in answer.partitions]


def _result(state: PartitionState) -> ShareStateResult:
    error: RaykafkaError | None = state.error
    return ShareStateResult(
        *state.place,
        state.state_epoch,
        state.start_offset,
        list(state.batches),
        0 if error is None else error.code,
        "" if error is None else error.message,
    )


def _checked(change: ConfigChange) -> tuple[str, str | None]:
    """Name as it is documented, and value; raises ``InvalidConfigError``."""
    name = SHARE_GROUP.find(change.name).name
    if change.op == "delete":
        return name, None
    if change.op != "set":
        raise InvalidRequestError(f"a change is set or delete, not {change.op!r}")
    SHARE_GROUP.parse_value(name, change.value)
    if name == _DEAD_LETTERS and change.value in INTERNAL_TOPICS:
        raise InvalidConfigError(f"{change.value} is a topic of coordinators; name another one")
    return name, change.value
