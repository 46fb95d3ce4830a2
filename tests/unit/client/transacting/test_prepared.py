"""A prepared transaction as a value."""

from __future__ import annotations

import pickle

import pytest

from raykafka import PreparedTransaction
from raykafka.errors import InvalidRequestError

HANDLE = PreparedTransaction("trainer-1", 4000, 3)


def test_it_survives_json_and_pickle_and_is_small() -> None:
    assert PreparedTransaction.from_json(HANDLE.to_json()) == HANDLE
    assert PreparedTransaction.from_json(HANDLE.to_json().encode()) == HANDLE
    assert pickle.loads(pickle.dumps(HANDLE)) == HANDLE
    assert len(HANDLE.to_json()) < 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        '{"transactional_id": "a", "producer_id": 1}',
        '{"transactional_id": "a", "producer_id": 1, "producer_epoch": "3"}',
        '{"transactional_id": "a", "producer_id": true, "producer_epoch": 3}',
        '{"transactional_id": "a", "producer_id": 1, "producer_epoch": 3, "more": 4}',
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="prepared transaction"):
        PreparedTransaction.from_json(text)
