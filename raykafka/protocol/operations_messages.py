"""Headers of the apis that operate a cluster; see ``messages`` for the rules."""

from __future__ import annotations

from typing import Final

from raykafka.protocol.api import CONTROLLER, Api
from raykafka.protocol.messages import ApiKey, Message


class PartitionName(Message, frozen=True):
    topic: str
    partition: int


class PartitionResult(Message, frozen=True):
    """What became of a request about one partition."""

    topic: str
    partition: int
    error_code: int = 0
    error_message: str = ""


class PartitionReassignment(Message, frozen=True):
    topic: str
    partition: int
    replicas: list[int] | None = None
    """The brokers that shall hold the partition, preferred leader first; None cancels."""


class AlterPartitionReassignmentsRequest(Message, frozen=True):
    """Moves replicas, or cancels moves that are under way (KIP-455)."""

    partitions: list[PartitionReassignment]


class AlterPartitionReassignmentsResponse(Message, frozen=True):
    partitions: list[PartitionResult] = []
    error_code: int = 0
    error_message: str = ""


class ListPartitionReassignmentsRequest(Message, frozen=True):
    """Moves that are under way; ``partitions=None`` asks for all of them."""

    partitions: list[PartitionName] | None = None


class OngoingReassignment(Message, frozen=True):
    topic: str
    partition: int
    replicas: list[int]
    """All of them: the target first, then ``removing_replicas``."""
    adding_replicas: list[int] = []
    removing_replicas: list[int] = []
    isr: list[int] = []


class ListPartitionReassignmentsResponse(Message, frozen=True):
    partitions: list[OngoingReassignment] = []
    error_code: int = 0
    error_message: str = ""


class ElectLeadersRequest(Message, frozen=True):
    """The preferred replicas shall lead; with ``unclean`` any replica, where nobody does (KIP-460).

    ``partitions=None`` stands for all that need it; only those are answered then.
    """

    unclean: bool = False
    partitions: list[PartitionName] | None = None


class ElectLeadersResponse(Message, frozen=True):
    partitions: list[PartitionResult] = []
    error_code: int = 0
    error_message: str = ""


class DescribeBrokersRequest(Message, frozen=True):
    pass


class BrokerDescription(Message, frozen=True):
    """One broker and what it holds."""

    broker_id: int
    host: str
    rack: str = ""
    node_id: str = ""
    """Id of its Ray node."""
    state: str = "alive"
    """``alive``, ``draining``, ``stopping``, ``starting`` or ``fenced``."""
    incarnation: int = 0
    slots: int = 0
    """Size of its pool of partition actors."""
    alive_slots: int = 0
    replicas: int = 0
    leaders: int = 0
    preferred_leaders: int = 0
    """Partitions of which it is the first replica."""
    out_of_sync: int = 0
    """Replicas that are not in sync."""
    usable_bytes: int = -1
    """Free disk beyond the reserve, as it reported last; -1 before."""


class DescribeBrokersResponse(Message, frozen=True):
    brokers: list[BrokerDescription] = []
    error_code: int = 0
    error_message: str = ""


class DrainBrokerRequest(Message, frozen=True):
    """The broker takes no new replicas; with ``draining=False`` it does so again."""

    broker_id: int
    draining: bool = True


class DrainBrokerResponse(Message, frozen=True):
    error_code: int = 0
    error_message: str = ""


class RestartBrokerRequest(Message, frozen=True):
    """The broker hands over leadership, stops cleanly and is started again.

    Answered when it has stopped; DESCRIBE_BROKERS tells when it is back and in sync. Without
    ``force`` it is refused (NOT_ENOUGH_REPLICAS) while writes with acks=all could not go on.
    """

    broker_id: int
    force: bool = False


class RestartBrokerResponse(Message, frozen=True):
    error_code: int = 0
    error_message: str = ""


class UnregisterBrokerRequest(Message, frozen=True):
    """The broker, which holds no replicas any more, stops and does not come back."""

    broker_id: int


class UnregisterBrokerResponse(Message, frozen=True):
    error_code: int = 0
    error_message: str = ""


APIS: Final = (
    Api(
        ApiKey.ALTER_PARTITION_REASSIGNMENTS,
        AlterPartitionReassignmentsRequest,
        AlterPartitionReassignmentsResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.LIST_PARTITION_REASSIGNMENTS,
        ListPartitionReassignmentsRequest,
        ListPartitionReassignmentsResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.ELECT_LEADERS,
        ElectLeadersRequest,
        ElectLeadersResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.DESCRIBE_BROKERS,
        DescribeBrokersRequest,
        DescribeBrokersResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.DRAIN_BROKER,
        DrainBrokerRequest,
        DrainBrokerResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.RESTART_BROKER,
        RestartBrokerRequest,
        RestartBrokerResponse,
        CONTROLLER,
    ),
    Api(
        ApiKey.UNREGISTER_BROKER,
        UnregisterBrokerRequest,
        UnregisterBrokerResponse,
        CONTROLLER,
    ),
)
