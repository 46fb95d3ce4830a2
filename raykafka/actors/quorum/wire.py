"""The quorum's messages as frames and back; see ``protocol.quorum_messages``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.quorum_messages import (
    EndQuorumEpochRequest,
    QuorumAppendRequest,
    QuorumAppendResponse,
    QuorumVoteRequest,
    QuorumVoteResponse,
)
from raykafka.quorum.messages import (
    AppendRequest,
    AppendResponse,
    EndEpochRequest,
    Request,
    Response,
    VoteRequest,
    VoteResponse,
)


class _Kind(NamedTuple):
    api_key: ApiKey
    request: Callable[..., Message]
    response: Callable[..., Message] | None


_KINDS: Final[dict[type, _Kind]] = {
    VoteRequest: _Kind(ApiKey.QUORUM_VOTE, QuorumVoteRequest, QuorumVoteResponse),
    AppendRequest: _Kind(ApiKey.QUORUM_APPEND, QuorumAppendRequest, QuorumAppendResponse),
    EndEpochRequest: _Kind(ApiKey.END_QUORUM_EPOCH, EndQuorumEpochRequest, None),
}
_REQUESTS: Final[dict[type, Any]] = {
    QuorumVoteRequest: VoteRequest,
    QuorumAppendRequest: AppendRequest,
    EndQuorumEpochRequest: EndEpochRequest,
}
_RESPONSES: Final[dict[type, Any]] = {
    QuorumVoteResponse: VoteResponse,
    QuorumAppendResponse: AppendResponse,
}
_TO_RESPONSE: Final[dict[type, Callable[..., Message]]] = {
    VoteResponse: QuorumVoteResponse,
    AppendResponse: QuorumAppendResponse,
}


def request_frame(request: Request, sender: Endpoint) -> tuple[ApiKey, Message]:
    """Api key and header; ``sender`` is where the answer's receiver listens."""
    kind = _KINDS[type(request)]
    fields = request._asdict()
    if not isinstance(request, EndEpochRequest):
        fields.update(host=sender.host, port=sender.port)
    return kind.api_key, kind.request(**fields)


def response_frame(response: Response) -> Message:
    """Header of an answer."""
    return _TO_RESPONSE[type(response)](**response._asdict())


def parse_request(message: Message) -> Request:
    """The reverse of ``request_frame``."""
    request: Request = _parse(_REQUESTS[type(message)], message)
    return request


def parse_response(message: Message) -> Response | None:
    """The reverse of ``response_frame``; None for an error, which says nothing of the quorum."""
    kind = _RESPONSES.get(type(message))
    if kind is None or message.error_code:  # type: ignore[attr-defined]
        return None
    response: Response = _parse(kind, message)
    return response


def clipped(request: AppendRequest, end: int) -> AppendRequest:
    """The request for fewer records."""
    if end == request.end_offset:
        return request
    return request._replace(
        end_offset=end,
        runs=tuple(run for run in request.runs if run.start_offset < end),
        voters=tuple(at for at in request.voters if at.offset < end),
    )


def _parse(kind: Any, message: Message) -> Any:
    return kind(*(getattr(message, name) for name in kind._fields))
