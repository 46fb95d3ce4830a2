"""What callers of ``Admin`` give and get, in the forms that are convenient and on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from raykafka.errors import InvalidRequestError, error_for
from raykafka.model import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, MAX_TIMESTAMP
from raykafka.protocol.messages import ConfigChange, TopicResult

_SPECIAL = {
    "latest": LATEST_TIMESTAMP,
    "earliest": EARLIEST_TIMESTAMP,
    "max_timestamp": MAX_TIMESTAMP,
}


def checked(results: list[TopicResult]) -> list[TopicResult]:
    """The results, unless one failed; the first error then, which names the others."""
    failed = [result for result in results if result.error_code]
    if not failed:
        return results
    first = failed[0]
    others = ", ".join(repr(result.name) for result in failed[1:])
    more = f" (also failed: {others})" if others else ""
    raise error_for(first.error_code, f"{first.error_message}{more}")


def name_list(names: Iterable[str]) -> list[str]:
    """A list of names; a single text is refused."""
    if isinstance(names, str):
        raise InvalidRequestError(f"give a list of names: [{names!r}]")
    return list(names)


def config_changes(wanted: Sequence[ConfigChange] | Mapping[str, str | None]) -> list[ConfigChange]:
    """Changes of settings in either spelling."""
    if not isinstance(wanted, Mapping):
        return list(wanted)
    return [
        ConfigChange(name, op="delete") if value is None else ConfigChange(name, str(value))
        for name, value in wanted.items()
    ]


def timestamp(at: int | str | datetime) -> int:
    """What LIST_OFFSETS is asked for."""
    if isinstance(at, datetime):
        return int(at.timestamp() * 1000)
    if isinstance(at, int):
        return at
    if at not in _SPECIAL:
        raise InvalidRequestError(
            f"{at!r} is not an offset to ask for; use {', '.join(map(repr, _SPECIAL))}, "
            "milliseconds since the epoch or a datetime"
        )
    return _SPECIAL[at]
