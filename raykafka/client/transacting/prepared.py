"""A prepared transaction as a value that outlives its producer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from raykafka.errors import InvalidRequestError

_TYPES = {"transactional_id": str, "producer_id": int, "producer_epoch": int}


@dataclass(frozen=True, slots=True)
class PreparedTransaction:
    """Names a transaction that is complete but undecided (KIP-939).

    ``Producer.prepare_transaction`` makes it; any process that reaches the cluster decides with
    ``Admin.commit_prepared`` or ``Admin.abort_prepared``. Small, and safe to keep in a file or in
    another system's transaction, as JSON or pickled.
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> PreparedTransaction:
        """What ``to_json`` wrote; raises ``InvalidRequestError`` for anything else."""
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise InvalidRequestError(f"this is not a prepared transaction: {error}") from None
        if not isinstance(fields, dict) or fields.keys() != _TYPES.keys():
            raise InvalidRequestError(
                f"a prepared transaction has the fields {', '.join(_TYPES)} and no others"
            )
        for name, kind in _TYPES.items():
            if type(fields[name]) is not kind:
                raise InvalidRequestError(f"{name} of a prepared transaction is {kind.__name__}")
        return cls(**fields)
