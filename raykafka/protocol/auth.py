"""Proof of the cluster's secret, both ways, without sending it.

The server's HELLO answer carries a challenge of 32 random bytes, used once. The client answers with
a nonce of its own and HMAC-SHA256 over everything that was said so far; the server answers with
another HMAC over the same words. Each purpose has its own key, derived from the secret, so that one
side's proof is never good as the other's, and a client's never as a broker's. The words include the
cluster, the actor and its incarnation: a proof is worth nothing at any other listener.

The secret is meant to be random (32 bytes or more): nothing here makes a guessable one safe.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NamedTuple

CHALLENGE_BYTES: Final = 32
NONCE_BYTES: Final = 32
CLIENT: Final = "client"
BROKER: Final = "broker"
ROLES: Final = (CLIENT, BROKER)

_CONTEXT: Final = b"raykafka authentication 1"
_SERVER: Final = "server"


class Words(NamedTuple):
    """What both sides have heard and what every proof is about."""

    role: str
    cluster_id: str
    node: str
    incarnation: int
    challenge: bytes
    nonce: bytes

    def packed(self) -> bytes:
        """Every part with its length in front, so that no two conversations give the same bytes."""
        parts = (
            self.role.encode(),
            self.cluster_id.encode(),
            self.node.encode(),
            str(self.incarnation).encode(),
            self.challenge,
            self.nonce,
        )
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def client_proof(secret: bytes, words: Words) -> bytes:
    """What a peer of that role sends: 32 bytes that only a holder of the secret can make."""
    return _proof(secret, words.role, words)


def server_proof(secret: bytes, words: Words) -> bytes:
    """What the listener answers: it holds the secret too and heard the same words."""
    return _proof(secret, _SERVER, words)


def proofs_equal(expected: bytes, given: bytes) -> bool:
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(expected, given)


def _proof(secret: bytes, purpose: str, words: Words) -> bytes:
    key = hmac.digest(secret, _CONTEXT + b" " + purpose.encode(), hashlib.sha256)
    return hmac.digest(key, words.packed(), hashlib.sha256)
