"""Proofs hold for one secret, one role, one listener and one challenge."""

from __future__ import annotations

import pytest

from raykafka.protocol.auth import Words, client_proof, proofs_equal, server_proof

SECRET = bytes(range(32))
WORDS = Words("client", "c-1", "default/partitions-0-1", 3, b"\x05" * 32, b"\x07" * 32)
CLIENT_PROOF = "147bd4e99d8e650e72eb98a9015f8ab6291959f316ff945526a43800fc3a10fc"
SERVER_PROOF = "123ee600a98db24072610d084d0ed20b1758c984549fe0e7960086c5ce48927a"


def test_worked_example() -> None:
    """The values of docs/protocol.md; another implementation must get the same."""
    assert client_proof(SECRET, WORDS).hex() == CLIENT_PROOF
    assert server_proof(SECRET, WORDS).hex() == SERVER_PROOF


@pytest.mark.parametrize(
    "other",
    [
        WORDS._replace(role="broker"),
        WORDS._replace(cluster_id="c-2"),
        WORDS._replace(node="default/partitions-0-2"),
        WORDS._replace(incarnation=4),
        WORDS._replace(challenge=b"\x06" * 32),
        WORDS._replace(nonce=b"\x08" * 32),
    ],
)
def test_a_proof_is_about_every_word(other: Words) -> None:
    assert client_proof(SECRET, other) != client_proof(SECRET, WORDS)
    assert server_proof(SECRET, other) != server_proof(SECRET, WORDS)


def test_words_cannot_be_shifted_between_fields() -> None:
    """Without lengths in front, ("ab", "c") and ("a", "bc") would be the same bytes."""
    shifted = WORDS._replace(cluster_id=WORDS.cluster_id + "x", node=WORDS.node[1:])
    joined = WORDS._replace(cluster_id="c-1d", node=WORDS.node[1:])
    assert len({shifted.packed(), joined.packed(), WORDS.packed()}) == 3


def test_the_secret_decides() -> None:
    assert client_proof(SECRET[:-1], WORDS) != client_proof(SECRET, WORDS)


def test_no_side_can_use_the_others_proof() -> None:
    assert client_proof(SECRET, WORDS) != server_proof(SECRET, WORDS)
    as_server = WORDS._replace(role="server")
    assert client_proof(SECRET, as_server) != server_proof(SECRET, WORDS)


def test_comparison() -> None:
    proof = client_proof(SECRET, WORDS)
    assert proofs_equal(proof, bytes(proof))
    assert not proofs_equal(proof, proof[:-1])
    assert not proofs_equal(proof, b"")
    assert not proofs_equal(proof, bytes(32))
