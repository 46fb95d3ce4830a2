"""Both sides of a connection's first two requests: HELLO, then AUTHENTICATE.

Nothing else is taken before. A connection has one try: a refused peer has to connect again, and
gets a new challenge then, so that an old proof is worth nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from raykafka.actors.ports import ListenerSpec
from raykafka.errors import ClusterAuthorizationFailedError, InvalidRequestError, ProtocolError
from raykafka.protocol import apis, auth
from raykafka.protocol.messages import (
    ApiKey,
    ApiVersionRange,
    AuthenticateRequest,
    AuthenticateResponse,
    HelloResponse,
    Message,
)

RandomBytes = Callable[[int], bytes]


class ServerHandshake:
    """What the listener has heard of one peer; ``role`` is empty until the peer has proven it."""

    __slots__ = ("_challenge", "_ranges", "_spec", "role")

    def __init__(self, spec: ListenerSpec, ranges: list[ApiVersionRange]) -> None:
        self._spec = spec
        self._ranges = ranges
        self._challenge = b""
        self.role = ""

    def step(self, api_key: int, api_version: int, header: Any) -> Message:
        """Answer the peer's next request.

        Every error ends the connection: ``ClusterAuthorizationFailedError`` for a wrong proof or a
        request out of turn, ``UnsupportedVersionError``, and ``InvalidRequestError`` for a header
        that cannot be decoded.
        """
        if api_key == ApiKey.HELLO and not self._challenge:
            apis.check_version(apis.APIS[ApiKey.HELLO], api_version)
            apis.decode_request(ApiKey.HELLO, header)
            self._challenge = secrets.token_bytes(auth.CHALLENGE_BYTES)
            return self._hello()
        if api_key == ApiKey.AUTHENTICATE and self._challenge:
            apis.check_version(apis.APIS[ApiKey.AUTHENTICATE], api_version)
            request = apis.decode_request(ApiKey.AUTHENTICATE, header)
            if isinstance(request, AuthenticateRequest):
                return self._authenticate(request)
        raise ClusterAuthorizationFailedError(
            "a connection begins with HELLO and AUTHENTICATE; "
            f"api key {api_key} is not taken before them"
        )

    def _hello(self) -> HelloResponse:
        spec = self._spec
        return HelloResponse(
            cluster_id=spec.cluster_id,
            node=spec.node,
            incarnation=spec.incarnation,
            challenge=self._challenge,
            apis=self._ranges,
            max_request_bytes=spec.limits.max_request_bytes,
        )

    def _authenticate(self, request: AuthenticateRequest) -> AuthenticateResponse:
        if request.role not in auth.ROLES:
            raise InvalidRequestError(f"a role is one of {', '.join(auth.ROLES)}")
        if len(request.nonce) != auth.NONCE_BYTES:
            raise InvalidRequestError(f"a nonce has {auth.NONCE_BYTES} bytes")
        spec = self._spec
        words = auth.Words(
            request.role,
            spec.cluster_id,
            spec.node,
            spec.incarnation,
            self._challenge,
            request.nonce,
        )
        if not auth.proofs_equal(auth.client_proof(spec.secret, words), request.proof):
            raise ClusterAuthorizationFailedError(
                f"the proof as {request.role} does not hold: this peer has another secret than "
                f"cluster {spec.cluster_id}, or has proven something else with it; the right one "
                "is in endpoint.json of the cluster's data directory"
            )
        self.role = request.role
        return AuthenticateResponse(proof=auth.server_proof(spec.secret, words))


class ClientHandshake(NamedTuple):
    """What a client sends after HELLO, and what the server has to answer."""

    request: AuthenticateRequest
    expected: bytes

    @classmethod
    def answer(cls, hello: HelloResponse, secret: bytes, role: str) -> ClientHandshake:
        """Prove the secret to the listener that said ``hello``.

        Raises ``ProtocolError`` when its challenge is too short to be one.
        """
        if len(hello.challenge) != auth.CHALLENGE_BYTES:
            raise ProtocolError(f"a challenge of {len(hello.challenge)} bytes proves nothing")
        nonce = secrets.token_bytes(auth.NONCE_BYTES)
        words = auth.Words(
            role, hello.cluster_id, hello.node, hello.incarnation, hello.challenge, nonce
        )
        request = AuthenticateRequest(
            nonce=nonce, proof=auth.client_proof(secret, words), role=role
        )
        return cls(request, auth.server_proof(secret, words))

    def check(self, response: AuthenticateResponse) -> None:
        """Raise ``ClusterAuthorizationFailedError`` when the server does not hold the secret."""
        if not auth.proofs_equal(self.expected, response.proof):
            raise ClusterAuthorizationFailedError(
                "the server did not prove the cluster's secret; it is not of this cluster"
            )
