"""The cluster-metadata machine: commands in, updates and answers out, replay as the only mutator.

Rules:
- ``handle`` looks at the image and changes nothing; ``replay`` applies updates and decides nothing.
- The image after a replay of the log is the image that wrote it: apply is a function of the two.
- Everything the image depends on is in the updates: ids, epochs and placements are not recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from raykafka.controller import (
    brokers,
    configs,
    isr,
    leaders,
    producer_ids,
    reassignments,
    topics,
)
from raykafka.controller.apply import apply_updates
from raykafka.controller.commands import (
    AddSchema,
    AllocatePartitionActor,
    AllocateProducerIds,
    AlterConfigs,
    AlterPartitions,
    AlterReassignments,
    Command,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    DrainBroker,
    ElectController,
    ElectLeaders,
    FailReplicas,
    FenceBroker,
    LosePartitionActor,
    Outcome,
    RegisterBroker,
    ReportReplicas,
    ResumeBroker,
    ShutDownBroker,
    StartPartitionActor,
    UnfenceBroker,
    UnregisterBroker,
)
from raykafka.controller.image import MetadataImage
from raykafka.controller.image_codec import decode_image, encode_image
from raykafka.controller.settings import Settings
from raykafka.controller.updates import ControllerElected, Update
from raykafka.controller.updates import decode as decode_update
from raykafka.controller.updates import encode as encode_update
from raykafka.errors import InconsistentClusterIdError


class ClusterMetadataMachine:
    """Holds the newest image. Pure: no clock, no randomness, no I/O."""

    def __init__(self, settings: Settings) -> None:
        self.image = MetadataImage()
        self._settings = settings

    def handle(self, command: Command, *, now_ms: int) -> Outcome:
        """What ``command`` leads to; raises a ``RaykafkaError`` where it leads nowhere.

        ``now_ms`` is part of every machine's contract; metadata have no use for the time so far.
        """
        return _HANDLERS[type(command)](self.image, self._settings, command)

    def replay(self, records: Iterable[Update]) -> None:
        """Bring the image up to date."""
        self.image = apply_updates(self.image, records)

    def view(self) -> MetadataImage:
        """The image, to be shown to others once the records that led to it are durable."""
        return self.image

    def restore(self, data: bytes) -> None:
        """Begin with the image in a snapshot."""
        self.image = decode_image(data)

    @staticmethod
    def encode_view(view: MetadataImage) -> bytes:
        """The image as it stands in a snapshot."""
        return encode_image(view)

    @staticmethod
    def encode(record: Update) -> bytes:
        """One record as it stands in the log."""
        return encode_update(record)

    @staticmethod
    def decode(data: bytes) -> Update:
        """One record from the log; raises ``UnsupportedVersionError``."""
        return decode_update(data)


def _elect_controller(image: MetadataImage, command: ElectController) -> Outcome:
    if image.cluster_id and image.cluster_id != command.cluster_id:
        raise InconsistentClusterIdError(
            f"the metadata log belongs to cluster {image.cluster_id}, not to {command.cluster_id}"
        )
    epoch = image.controller_epoch + 1
    record = ControllerElected(
        epoch, command.cluster_id, command.cluster_name, command.host, command.port
    )
    return Outcome([record], epoch)


_Handler = Callable[[MetadataImage, Settings, Any], Outcome]


def _without_settings(handler: Callable[[MetadataImage, Any], Outcome]) -> _Handler:
    return lambda image, _settings, command: handler(image, command)


_HANDLERS: Final[Mapping[type, _Handler]] = {
    CreateTopics: topics.create_topics,
    DeleteTopics: _without_settings(topics.delete_topics),
    CreatePartitions: _without_settings(topics.create_partitions),
    AddSchema: _without_settings(topics.add_schema),
    AlterConfigs: configs.alter_configs,
    AlterReassignments: reassignments.alter_reassignments,
    ElectLeaders: leaders.elect_leaders,
    ShutDownBroker: leaders.shut_down_broker,
    ResumeBroker: leaders.resume_broker,
    DrainBroker: _without_settings(brokers.drain_broker),
    UnregisterBroker: _without_settings(brokers.unregister_broker),
    AllocateProducerIds: _without_settings(producer_ids.allocate_producer_ids),
    ElectController: _without_settings(_elect_controller),
    RegisterBroker: _without_settings(brokers.register_broker),
    UnfenceBroker: brokers.unfence_broker,
    FenceBroker: _without_settings(brokers.fence_broker),
    AllocatePartitionActor: brokers.allocate_partition_actor,
    StartPartitionActor: brokers.start_partition_actor,
    LosePartitionActor: brokers.lose_partition_actor,
    ReportReplicas: brokers.report_replicas,
    FailReplicas: isr.fail_replicas,
    AlterPartitions: isr.alter_partitions,
}
