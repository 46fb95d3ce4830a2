"""Workload files of the OpenMessaging Benchmark (OMB), read as OMB reads them but less forgiving.

OMB ignores fields that it does not know; here they are errors, since a misspelt field would
silently measure something else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.measuring.records import SMALLEST_RECORD

UNLIMITED_RATE = 10_000_000
"""From this ``producerRate`` on nothing is paced: OMB's max-rate files use it for "as fast as"."""
KEY_DISTRIBUTORS = ("NO_KEY", "KEY_ROUND_ROBIN", "RANDOM_NANO")
PAYLOAD_SIZES = {
    "payload-100b.data": 100,
    "payload-200b.data": 200,
    "payload-400b.data": 400,
    "payload-1Kb.data": 1024,
    "payload-2Kb.data": 2048,
    "payload-4Kb.data": 4096,
}
"""The files that OMB ships; what is in them does not matter here, since records are our own."""


class WorkloadError(ValueError):
    """A workload that cannot be run; the text says which field is wrong and what would be right."""


@dataclass(frozen=True)
class Workload:
    """One workload; the fields are OMB's, with OMB's defaults."""

    name: str
    topics: int
    partitionsPerTopic: int
    messageSize: int
    subscriptionsPerTopic: int
    consumerPerSubscription: int
    producersPerTopic: int
    producerRate: int
    """Records per second of all producers together; 0 looks for the highest sustainable rate."""
    testDurationMinutes: float
    keyDistributor: str = "NO_KEY"
    payloadFile: str | None = None
    useRandomizedPayloads: bool = False
    randomBytesRatio: float = 0.0
    randomizedPayloadPoolSize: int = 0
    consumerBacklogSizeGB: float = 0
    """GiB over all subscriptions that the consumers leave unread before they begin to drain it."""
    backlogDrainRatio: float = 1.0
    """Share of the backlog that has to be read before it counts as drained."""
    warmupDurationMinutes: float = 1

    @property
    def unlimited(self) -> bool:
        return self.producerRate >= UNLIMITED_RATE

    @property
    def keyed(self) -> bool:
        return self.keyDistributor != "NO_KEY"

    @property
    def random_share(self) -> float:
        """How much of each record is random; OMB's own payload files are random throughout."""
        return self.randomBytesRatio if self.useRandomizedPayloads else 1.0

    def changed(self, fields: Mapping[str, Any]) -> Workload:
        """The same with other values for some of OMB's fields."""
        return parse({**dataclasses.asdict(self), **fields}, "the changed workload")


def load(path: Path) -> Workload:
    """Read a workload file. Raises ``WorkloadError``."""
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise WorkloadError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise WorkloadError(f"{path} is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise WorkloadError(f"{path} must hold fields such as 'topics: 1'")
    return parse(found, str(path))


def parse(found: Mapping[str, Any], origin: str) -> Workload:
    """Check fields and make a workload of them. Raises ``WorkloadError``."""
    known = {field.name: field for field in dataclasses.fields(Workload)}
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise WorkloadError(
            f"{origin}: no such field: {', '.join(map(str, unknown))}; there are {', '.join(known)}"
        )
    missing = [
        name
        for name, field in known.items()
        if field.default is dataclasses.MISSING and name not in found
    ]
    if missing:
        raise WorkloadError(f"{origin}: give {', '.join(missing)}")
    values = {name: _typed(origin, name, str(known[name].type), found[name]) for name in found}
    workload = Workload(**values)
    _check_ranges(origin, workload)
    _check_payload(origin, workload)
    return workload


def _typed(origin: str, name: str, kind: str, value: Any) -> Any:
    """``value`` as a field of that annotation takes it."""
    wanted: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "str | None": (str, type(None)),
        "bool": (bool,),
        "int": (int,),
        "float": (int, float),
    }
    right = isinstance(value, wanted[kind]) and (kind == "bool" or not isinstance(value, bool))
    if not right:
        raise WorkloadError(f"{origin}: {name} must be of type {kind}, not {value!r}")
    return value


def _check_ranges(origin: str, workload: Workload) -> None:
    least_one = (
        "topics", "partitionsPerTopic", "subscriptionsPerTopic", "consumerPerSubscription",
        "producersPerTopic",
    )  # fmt: skip
    for name in least_one:
        if getattr(workload, name) < 1:
            raise WorkloadError(
                f"{origin}: {name} must be at least 1, not {getattr(workload, name)}"
            )
    for name in ("producerRate", "consumerBacklogSizeGB", "warmupDurationMinutes"):
        if getattr(workload, name) < 0:
            raise WorkloadError(f"{origin}: {name} must not be negative")
    for name in ("randomBytesRatio", "backlogDrainRatio"):
        if not 0 <= getattr(workload, name) <= 1:
            raise WorkloadError(f"{origin}: {name} must lie between 0 and 1")
    if workload.testDurationMinutes <= 0:
        raise WorkloadError(
            f"{origin}: testDurationMinutes must be above 0; a run without an end has no result"
        )
    if workload.keyDistributor not in KEY_DISTRIBUTORS:
        raise WorkloadError(
            f"{origin}: keyDistributor must be one of {', '.join(KEY_DISTRIBUTORS)}, "
            f"not {workload.keyDistributor!r}"
        )
    if workload.consumerBacklogSizeGB and not 0 < workload.producerRate < UNLIMITED_RATE:
        raise WorkloadError(
            f"{origin}: a backlog needs a producerRate between 1 and {UNLIMITED_RATE - 1}: "
            "no rate can be found while consumers stand still"
        )


def _check_payload(origin: str, workload: Workload) -> None:
    if workload.messageSize < SMALLEST_RECORD:
        raise WorkloadError(
            f"{origin}: messageSize must be at least {SMALLEST_RECORD}: that much says who sent a "
            "record, its number and when"
        )
    if workload.useRandomizedPayloads:
        if workload.randomizedPayloadPoolSize < 1:
            raise WorkloadError(f"{origin}: randomizedPayloadPoolSize must be at least 1")
        return
    if workload.payloadFile is None:
        raise WorkloadError(f"{origin}: give a payloadFile, or useRandomizedPayloads: true")
    size = PAYLOAD_SIZES.get(Path(workload.payloadFile).name)
    if size is None:
        raise WorkloadError(
            f"{origin}: payloadFile {workload.payloadFile} is none of OMB's "
            f"({', '.join(PAYLOAD_SIZES)}); use useRandomizedPayloads: true for another size"
        )
    if size != workload.messageSize:
        raise WorkloadError(
            f"{origin}: {workload.payloadFile} has {size} bytes, messageSize says "
            f"{workload.messageSize}"
        )
